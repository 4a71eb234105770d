// Package push carries a plan out on the replica over SFTP (draft-ietf-secsh-filexfer-02 and OpenSSH's extensions to
// it, file PROTOCOL of its sources). Every file is written under a temporary name, every reply is checked, and only
// what has arrived whole is renamed into place; so at every instant each path of the replica is a complete old version
// or a complete new one, whatever is cut, killed or filled up. Repeating a plan after an interruption does no harm.
//
// Nothing is ever destroyed at once: what is replaced or deleted goes to a trash folder on the replica by hard link or
// rename, and is pruned by age.
package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// Names of ours on the replica. All begin with tree.Prefix, so that neither side takes them for content.
const (
	tempPrefix = tree.Prefix + "-tmp-"
	trashName  = tree.Prefix + "-trash"
)

// RequiredExtension is what a server must offer: a rename that replaces its target atomically. SFTP's own rename is
// link and unlink on OpenSSH, and fails where the target exists.
const RequiredExtension = "posix-rename@openssh.com"

// lsetstat sets attributes without following a symbolic link; since OpenSSH 8.0.
const lsetstat = "lsetstat@openssh.com"

var (
	// ErrNoExtension: the server cannot replace a file atomically.
	ErrNoExtension = errors.New("the SFTP server lacks " + RequiredExtension)
	// ErrNoSpace: the replica's disk is full.
	ErrNoSpace = errors.New("no space left on the replica's disk")
	// ErrStale: the replica is not what it was known to be; it has to be read again.
	ErrStale = errors.New("the replica was changed by somebody else")
	// ErrUnsettled: the source file changed each time it was read.
	ErrUnsettled = errors.New("the file keeps changing while it is read")
	// ErrInterrupted: one of the further connections has ended, while those that everything depends on live.
	ErrInterrupted = errors.New("a further connection has ended")
	// ErrSource marks failures to read the source.
	ErrSource = errors.New("source")
)

// Lanes are the connections that the work is spread over.
type Lanes struct {
	// Small carries everything that must not wait.
	Small *sftpipe.Client
	// Bulk carries large files where there are no further connections, and what may wait; it may be the same client
	// as Small.
	Bulk *sftpipe.Client
	// More gives further connections for large data; nil means that there are none. It has them opened when first
	// asked, and where wait is set returns when they are, or could not be. done gives them back. What a connection that
	// ends has not finished is done again.
	More func(ctx context.Context, wait bool) (clients []*sftpipe.Client, done func())
	// Near says that round trips are short. Then the processors set the rate, and further connections only cost them: large
	// files have More to keep out of the way of others, and many small ones do without.
	Near bool
	// Parallel is how many files are in flight at once, on each of Small and Bulk. 0 means 64.
	Parallel int
}

// Replica is one folder's target on the backup. Its methods may not be called concurrently, but for Carry.
type Replica struct {
	target  string
	lanes   Lanes
	trash   *trash
	ahead   ahead
	large   chan struct{} // a slot for each large file on its way
	deltas  chan struct{} // and for each that is compared with its old version
	blocks  BlockStore    // may be nil
	carried map[string]Carried
	laid    map[string]plan.Laid // to be adopted by the next Read
	serial  atomic.Uint64
	id      string // distinguishes this process's temporary names
	lchmod  bool   // lsetstat@openssh.com can set modes here
	flush   func() // called before each flight that changes what others see
}

// New returns the replica at target, an absolute path as the server shows it. id is any short string that differs from
// one call to the next, in other processes too: what another Replica has put into the trash is not known to this one. keep is how long replaced and deleted content is kept; 0 means not at all.
func New(lanes Lanes, target, id string, keep time.Duration) *Replica {
	if lanes.Parallel <= 0 {
		lanes.Parallel = 64
	}
	if lanes.Bulk == nil {
		lanes.Bulk = lanes.Small
	}
	return &Replica{target: target, lanes: lanes, id: id, trash: newTrash(path.Join(target, trashName), id, keep),
		large: make(chan struct{}, largeAtOnce), deltas: make(chan struct{}, deltasAtOnce), carried: map[string]Carried{}}
}

// Check makes sure that the server can do what is needed, that the target is a directory, and learns what the server
// can do beyond. Call it before anything else.
func (r *Replica) Check(ctx context.Context) error {
	if !r.lanes.Small.HasExtension(RequiredExtension) {
		return fmt.Errorf("%w: a replaced file would be missing or torn for a moment; use OpenSSH's SFTP server", ErrNoExtension)
	}
	attrs, err := r.lanes.Small.Stat(ctx, r.target)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("target %s does not exist on the backup: make it there, owned by the SFTP user: %w", r.target, err)
	}
	if err != nil {
		return fmt.Errorf("look at target %s: %w", r.target, err)
	}
	if typeOf(attrs) != tree.Dir {
		return fmt.Errorf("target %s is not a directory on the backup", r.target)
	}
	if r.lanes.Small.HasExtension(lsetstat) {
		same := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: attrs.Mode &^ sftpipe.ModeType}
		r.lchmod = first(r.lanes.Small.Do(ctx, sftpipe.Lsetstat(r.target, same))) == nil
	}
	return nil
}

// Probe writes, replaces and removes a small file in the directory dir of the server, as every push does, and gives dir
// its time back.
func Probe(ctx context.Context, c *sftpipe.Client, dir, id string) error {
	before, statErr := c.Stat(ctx, dir)
	temp, final := path.Join(dir, tempPrefix+id+"-probe"), path.Join(dir, tempPrefix+id+"-probed")
	_, err := c.Upload(ctx, temp, strings.NewReader("releve\n"), sftpipe.Attrs{Has: sftpipe.HasMode, Mode: 0o600})
	if err == nil {
		err = first(c.Do(ctx, sftpipe.Rename(temp, final)))
	}
	clean := c.Do(ctx, sftpipe.Remove(temp), sftpipe.Remove(final))
	if err == nil {
		err = clean[1]
	}
	if statErr == nil {
		c.Do(ctx, sftpipe.Setstat(dir, timesOf(entryOf(before)))) // where it fails, the next comparison sees to it
	}
	return err
}

// Before has f called before each flight of requests that changes what others see on the replica, when everything that
// may come of it has been said of what is known.
func (r *Replica) Before(f func()) { r.flush = f }

// Stats is what an Apply did.
type Stats struct {
	// Files, Entries and Bytes were put in place: regular files, all entries, and the bytes of the files.
	Files, Entries int
	Bytes          int64
	Deleted        int
	Moved          int
}

// Failure is a path that could not be brought up to date.
type Failure struct {
	Path string
	Err  error
}

// Outcome tells how an Apply ended for each path that needs attention.
type Outcome struct {
	Stats
	// Failed are paths that stay as they were on the replica.
	Failed []Failure
	// Again are paths whose source changed or vanished under our hands: they have to be compared anew.
	Again []string
	// Unsettled are those of them that changed each time they were read.
	Unsettled []string
	// Apart are names that could not be made hard links and are files of their own, of the same content.
	Apart []string
	// Stale: the replica is not what it was known to be.
	Stale bool
	// Root is why the target directory's own mode and times could not be set, where it is somebody else's: nothing of
	// the folder is missing for that, and trying again is of no use before somebody has given it to the SFTP user.
	Root error
}

// Progress is told of every step forward: bytes that were acknowledged, entries that are in place. It is called from
// several goroutines at once.
type Progress func(entries int, bytes int64)

// Apply carries p out, reading files from src, and brings known up to date with everything that was confirmed. at is
// the present time, by which the trash is named.
//
// Paths that fail are listed in the outcome; the rest goes on. The error is for what ends everything: the connection
// (sftpipe.ErrConnectionLost), the context, a source folder that is no longer there (tree.ErrRootChanged). After an
// error the replica is sound, but what is known of it is not: read it again.
func (r *Replica) Apply(ctx context.Context, src *tree.Root, p plan.Plan, known *plan.Known, at time.Time, progress Progress) (Outcome, error) {
	if progress == nil {
		progress = func(int, int64) {}
	}
	b := &batch{r: r, src: src, plan: p, known: known, progress: progress}
	r.trash.begin(at)
	b.askRoom(ctx, at)
	err := b.arrange(ctx)
	if err == nil {
		err = b.upload(ctx)
	}
	if err := cmp.Or(err, b.hasRoom(ctx)); err != nil {
		return b.out, err
	}
	if err := b.settle(ctx); err != nil {
		return b.out, err
	}
	if err := b.freed(ctx, at); err != nil && fatal(ctx, err) {
		return b.out, err
	}
	if !r.trash.kept() {
		if err := r.Prune(ctx, at); err != nil && ctx.Err() == nil {
			return b.out, err
		}
	}
	return b.out, nil
}

// abs is the server's path of p.
func (r *Replica) abs(p string) string {
	if p == "." {
		return r.target
	}
	return r.target + "/" + p
}

// rel is the path in the folder of what the server shows at abs, the inverse of abs.
func (r *Replica) rel(abs string) string {
	if abs == r.target {
		return "."
	}
	return strings.TrimPrefix(abs, r.target+"/")
}

// temp is a fresh temporary name in the directory of p: on the same file system as p, so that a rename is atomic. It
// does not contain p's name, which may be as long as a name can be.
func (r *Replica) temp(p string) string {
	return r.abs(path.Join(tree.Parent(p), tempPrefix+r.id+"-"+strconv.FormatUint(r.serial.Add(1), 36)))
}

// first returns the first error of a flight.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fatal reports whether err ends the whole batch rather than one path.
func fatal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, sftpipe.ErrConnectionLost) || errors.Is(err, tree.ErrRootChanged)
}
