package push

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// copyData is the extension by which a server copies from one file to another; since OpenSSH 9.0.
const copyData = "copy-data"

const (
	// copyRun is how much of what has not changed is gathered before the server is told to copy it.
	copyRun = 64 << 20
	// aLittle is how much may have changed to be sent over the connection that everything else depends on, and
	// littleWindow how much of it may be on the way there, in front of what must not wait.
	aLittle      = 4 << 20
	littleWindow = 512 << 10
	// giveUp is how much may have changed, more of it than not, before the rest is not worth to be compared: the whole
	// file goes faster over several connections than its parts over one.
	giveUp = 16 << 20
	// deltasAtOnce is how many files are compared at once, beside those of which much has changed: each can keep two
	// cores and the server's disk busy.
	deltasAtOnce = 2
)

// BlockStore remembers the block hashes of contents by the SHA-256 of the whole. What it forgets is sent anew. Its
// methods are called from several goroutines at once.
type BlockStore interface {
	// Load returns nil for what is not known.
	Load(sum [sha256.Size]byte) *Blocks
	Save(sum [sha256.Size]byte, b *Blocks)
}

// Remember has the block hashes of large files kept in s. Without it they are always sent whole.
func (r *Replica) Remember(s BlockStore) { r.blocks = s }

// remembers reports whether the block hashes of a file of that size are of use.
func (r *Replica) remembers(size int64) bool {
	return r.blocks != nil && size >= CarrySize && r.lanes.Bulk.HasExtension(copyData)
}

// base returns the block hashes of what lies in the file's place on the replica, which is known to be was: nil if there
// is nothing there to copy from.
func (r *Replica) base(was, now tree.Entry) *Blocks {
	if was.Type != tree.File || was.Sum == [sha256.Size]byte{} || was.Size < CarrySize || !r.remembers(now.Size) {
		return nil
	}
	old := r.blocks.Load(was.Sum)
	if old == nil || old.Size != was.Size || !old.Valid() {
		return nil
	}
	return old
}

// What ends a comparison early.
var (
	errSame = errors.New("nothing has changed")
	errMuch = errors.New("most of it has changed")
	errMore = errors.New("more than a little has changed")
)

// sendChanges is sendDelta over the connection that is there. If more than a little has changed it begins anew over a
// further one, so that what is small does not wait.
func (r *Replica) sendChanges(ctx context.Context, d deltaOf, read func(int)) (*scanned, error) {
	got, err := r.sendLittle(ctx, d, read)
	if !errors.Is(err, errMore) {
		return got, err
	}
	read(-int(got.n))
	r.lanes.Small.Do(ctx, sftpipe.Remove(d.to))
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	if !acquire(ctx, r.large) {
		return nil, context.Cause(ctx)
	}
	defer release(r.large)
	clients, done := r.lanes.more(ctx, true)
	defer done()
	return r.sendDelta(ctx, append(clients, r.lanes.Bulk)[0], math.MaxInt64, d, read)
}

func (r *Replica) sendLittle(ctx context.Context, d deltaOf, read func(int)) (*scanned, error) {
	if !acquire(ctx, r.deltas) {
		return nil, context.Cause(ctx)
	}
	defer release(r.deltas)
	return r.sendDelta(ctx, r.lanes.Bulk, aLittle, d, read, sftpipe.WithWindow(littleWindow))
}

// deltaOf is a file that has an old version on the replica.
type deltaOf struct {
	file *os.File
	now  tree.Entry // what it is
	path string     // where the old version lies
	was  tree.Entry // and what that is known to be
	old  *Blocks
	to   string // where the new one shall lie
}

// sendDelta makes the new version of a file: what has not changed is copied by the server from the old one; only the rest
// travels, over the connection c, if it is no more than limit. The source is read once. The error is errSame if all is as
// it was. After an error something may lie at the name; the file can be sent whole then, but for errors of the source, of
// the connection and of the context.
func (r *Replica) sendDelta(ctx context.Context, c *sftpipe.Client, limit int64, of deltaOf, read func(int), opts ...sftpipe.UploadOption) (*scanned, error) {
	level := max(of.old.Level, levelOf(of.now.Size))
	scan := newScan(of.file, of.now.Size, level, read)
	defer scan.stop()
	d := &delta{scan: scan, old: of.old.at(level), size: of.now.Size, limit: limit, differs: of.old.Size != of.now.Size}

	// Whatever can be found out before the files are open is found out while they are being opened. Nothing is copied
	// before it is known that something has changed.
	opened := make(chan pair, 1)
	go func() { opened <- openPair(ctx, c, of) }() // joined below
	first, err := d.next()
	p := <-opened
	if err == nil {
		err = p.err
	}
	if err != nil {
		return &scan.scanned, errors.Join(err, p.close(ctx))
	}
	next := func() (sftpipe.Part, error) { // first, and then what follows
		part, err := first, error(nil)
		if first.Data == nil && first.N == 0 {
			part, err = d.next()
		}
		first = sftpipe.Part{}
		return part, err
	}
	attrs := attrsOf(of.now)
	attrs.Has |= sftpipe.HasSize
	attrs.Size = uint64(of.now.Size)
	_, err = p.new.Assemble(ctx, p.old, versionOf(of.was), next, attrs, opts...)
	return &scan.scanned, err
}

// pair is a new file and the old version, both open.
type pair struct {
	new, old *sftpipe.File
	err      error
}

// openPair makes the new file and opens the old one, if that is still what it was: a FIFO that somebody has put there
// would keep the server waiting for a writer.
func openPair(ctx context.Context, c *sftpipe.Client, of deltaOf) pair {
	made := make(chan pair)
	go func() { // joined below
		f, err := c.Create(ctx, of.to)
		made <- pair{new: f, err: err}
	}()
	have, err := c.Lstat(ctx, of.path)
	if was := versionOf(of.was); err == nil && (!have.IsRegular() || have.Size != was.Size || have.Mtime != was.Mtime) {
		err = fmt.Errorf("look at %s: %w", of.path, sftpipe.ErrSourceChanged)
	}
	var old *sftpipe.File
	if err == nil {
		old, err = c.OpenFile(ctx, of.path, sftpipe.OpenRead, sftpipe.Attrs{})
	}
	p := <-made
	p.old = old
	p.err = cmp.Or(err, p.err)
	return p
}

func (p pair) close(ctx context.Context) error {
	var errs []error
	for _, f := range []*sftpipe.File{p.new, p.old} {
		if f != nil {
			errs = append(errs, f.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// versionOf is what the server has to say of a file that we put there as e.
func versionOf(e tree.Entry) sftpipe.Attrs {
	a := timesOf(e)
	a.Has |= sftpipe.HasSize
	a.Size = uint64(e.Size)
	return a
}

// delta turns a scanned file into the parts of which the server makes it.
type delta struct {
	scan    *scan
	old     *Blocks
	size    int64
	limit   int64 // of what may have changed
	differs bool  // it is known that something has changed

	seg     *segment // the one that is compared, whose blocks up to at are done
	at      int
	index   int   // of the next block in the whole file
	off     int64 // where it begins
	run     int64 // how much before it has not changed and was not given yet
	changed int64 // how much has
}

// next is the next part, and at the end io.EOF, or errSame.
func (d *delta) next() (sftpipe.Part, error) {
	for {
		if d.seg == nil || d.at == len(d.seg.blocks) {
			d.scan.recycle(d.seg)
			d.at = 0
			seg, err := d.scan.next()
			d.seg = seg
			switch {
			case err == io.EOF && !d.differs:
				return sftpipe.Part{}, errSame
			case err == io.EOF && d.run > 0:
				return d.copied(), nil
			case err != nil:
				return sftpipe.Part{}, err
			}
		}
		if n := d.same(); n > 0 {
			d.run += n
			if d.differs && d.run >= copyRun {
				return d.copied(), nil
			}
			continue
		}
		d.differs = true
		if d.run > 0 {
			return d.copied(), nil
		}
		from := int64(d.at) * blockSize(d.old.Level)
		n := d.other()
		switch d.changed += n; {
		case d.changed > giveUp && d.changed > d.off/2:
			return sftpipe.Part{}, errMuch
		case d.changed > d.limit:
			return sftpipe.Part{}, errMore
		}
		return sftpipe.Part{Data: d.seg.data[from:][:n]}, nil
	}
}

// copied is the part for what has not changed.
func (d *delta) copied() sftpipe.Part {
	p := sftpipe.Part{Off: d.off - d.run, N: d.run}
	d.run = 0
	return p
}

// same passes over the blocks of the segment that are as they were, and other over those that are not: as many bytes as
// there are in a row.
func (d *delta) same() int64  { return d.skip(true) }
func (d *delta) other() int64 { return d.skip(false) }

func (d *delta) skip(same bool) int64 {
	begin := d.off
	for d.at < len(d.seg.blocks) && same == (d.index < len(d.old.Hashes) && d.seg.blocks[d.at] == d.old.Hashes[d.index]) {
		d.at, d.index = d.at+1, d.index+1
		d.off = min(d.off+blockSize(d.old.Level), d.size)
	}
	return d.off - begin
}
