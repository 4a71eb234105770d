package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"
	"sync"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// listings is how many directories each connection lists at once, if the server hands out so many handles. At a
// round-trip time of 40 ms their number sets the pace; without one the server does, which is a process for each.
const listings = 512

// Read lists what the replica holds, and removes what an interrupted push has left behind. Paths that filter excludes
// are left out, with all below them: they are not ours to compare, or to delete. The error is for what cannot be read:
// a replica that is known in part only would be taken for one that lacks the rest.
func (r *Replica) Read(ctx context.Context, filter *tree.Filter) (tree.Tree, error) {
	r.Close(ctx) // what it has open ahead is about to be swept away
	if err := r.makeSpool(ctx); err != nil {
		return nil, fmt.Errorf("make %s: %w", r.spool(), err)
	}
	clear(r.carried)
	if err := r.gather(ctx); err != nil {
		return nil, fmt.Errorf("gather what an interrupted push left: %w", err)
	}
	l, err := r.list(ctx, filter, true)
	if err != nil {
		return nil, err
	}
	if err := r.removeAll(ctx, l.leftovers...); err != nil {
		return nil, fmt.Errorf("remove what an interrupted push left: %w", err)
	}
	for _, abs := range l.leftovers {
		// Its folder was listed with the time it had before, and has another one now, which nobody knows.
		dir := strings.TrimPrefix(strings.TrimPrefix(path.Dir(abs), r.target), "/")
		if dir == "" {
			dir = "."
		}
		if e, ok := l.tree[dir]; ok {
			e.MTime = unknownTime
			l.tree[dir] = e
		}
	}
	return l.tree, nil
}

// unknownTime is none that a file has.
const unknownTime = math.MinInt64

// List is Read, but changes nothing. So there may be directories of which it cannot tell what they hold, because the mode
// that they have from the source keeps their owner out: a push opens those for as long as it needs to. They are closed.
func (r *Replica) List(ctx context.Context, filter *tree.Filter) (listed tree.Tree, closed []string, err error) {
	l, err := r.list(ctx, filter, false)
	if err != nil {
		return nil, nil, err
	}
	return l.tree, l.closed, nil
}

func (r *Replica) list(ctx context.Context, filter *tree.Filter, open bool) (*listing, error) {
	root, err := r.lanes.Small.Stat(ctx, r.target)
	if err != nil {
		return nil, fmt.Errorf("look at target %s: %w", r.target, err)
	}
	l := &listing{r: r, filter: filter, open: open, tree: tree.Tree{".": entryOf(root)}}
	l.todo = []job{{".", tree.Dir}}
	l.more.L = &l.mu
	var workers sync.WaitGroup
	clients := []*sftpipe.Client{r.lanes.Small}
	if r.lanes.Bulk != r.lanes.Small {
		clients = append(clients, r.lanes.Bulk)
	}
	for _, c := range clients {
		for range listingsOf(c) {
			workers.Go(func() { l.work(ctx, c) })
		}
	}
	workers.Wait()
	if l.err != nil {
		return nil, fmt.Errorf("list replica: %w", l.err)
	}
	return l, nil
}

// listingsOf is how many directories c's server lets us list at once.
func listingsOf(c *sftpipe.Client) int {
	handles := c.Limits().MaxHandles
	if handles == 0 {
		return listings / 4
	}
	return max(1, min(listings, int(handles)/2))
}

// job is a directory to list, or a link whose target has to be asked for.
type job struct {
	path string
	kind tree.Type
}

// listing is a Read under way. Whatever is found is worked on at once, however deep it lies: a tree that has many levels
// is not waited for at each.
type listing struct {
	r      *Replica
	filter *tree.Filter
	open   bool // directories that their owner may not enter are opened

	mu        sync.Mutex // guards all below
	more      sync.Cond  // todo, busy or err has changed
	todo      []job
	busy      int
	err       error // the first
	tree      tree.Tree
	leftovers []string
	closed    []string // directories that their owner may not enter, and that were not opened
}

// work does jobs until there are none left, and none under way that could bring more.
func (l *listing) work(ctx context.Context, c *sftpipe.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.todo) == 0 && l.busy > 0 && l.err == nil {
			l.more.Wait()
		}
		if len(l.todo) == 0 || l.err != nil {
			return
		}
		j := l.todo[len(l.todo)-1]
		l.todo = l.todo[:len(l.todo)-1]
		l.busy++
		l.mu.Unlock()
		var err error
		if j.kind == tree.Dir {
			err = l.list(ctx, c, j.path)
		} else {
			err = l.readLink(ctx, c, j.path)
		}
		l.mu.Lock()
		l.busy--
		if l.err == nil {
			l.err = err
		}
		if l.err != nil || l.busy == 0 && len(l.todo) == 0 {
			l.more.Broadcast()
		}
	}
}

// locked reports whether its owner may not list the directory dir, as far as modes go.
func (l *listing) locked(dir string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	const list = 0o500
	return dir != "." && l.tree[dir].Mode&list != list
}

// unlock opens a locked directory to its owner. What that does not open cannot be listed, and the listing says so.
func (l *listing) unlock(ctx context.Context, c *sftpipe.Client, dir string) {
	c.Do(ctx, sftpipe.Setstat(l.r.abs(dir), private))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree[dir] = withMode(l.tree[dir], ownerRWX)
}

// shut reports whether a locked directory's owner is kept out in fact, and notes that; a server that runs as root never is.
// Where reading is forbidden the server says so, but where entering is, it leaves out without a word what it cannot look at.
func (l *listing) shut(dir string, entries []sftpipe.DirEntry, err error) bool {
	if len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = append(l.closed, dir)
	return true
}

func (l *listing) list(ctx context.Context, c *sftpipe.Client, dir string) error {
	locked := l.locked(dir)
	if locked && l.open { // ours to enter, whatever mode the source gave it
		l.unlock(ctx, c, dir)
	}
	entries, err := c.ReadDir(ctx, l.r.abs(dir))
	if locked && !l.open && l.shut(dir, entries, err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, tempPrefix) {
			l.leave(path.Join(l.r.abs(dir), e.Name))
			continue
		}
		if e.Name == spoolName && dir == "." && e.Attrs.IsDir() {
			if err := l.listSpool(ctx, c); err != nil {
				return err
			}
		}
		if e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
			return fmt.Errorf("the server lists %q in %s, which is no file name", e.Name, l.r.abs(dir))
		}
		l.add(path.Join(dir, e.Name), entryOf(e.Attrs))
	}
	return nil
}

func (l *listing) add(p string, e tree.Entry) {
	if l.filter.Excluded(p, e.Type == tree.Dir) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree[p] = e
	if e.Type == tree.Dir || e.Type == tree.Link {
		l.todo = append(l.todo, job{p, e.Type})
		l.more.Signal()
	}
}

// leave notes a file of ours that an interrupted push has left behind.
func (l *listing) leave(abs string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leftovers = append(l.leftovers, abs)
}

// listSpool notes what was open ahead when the connection ended.
func (l *listing) listSpool(ctx context.Context, c *sftpipe.Client) error {
	entries, err := c.ReadDir(ctx, l.r.spool())
	if err != nil {
		return err
	}
	for _, name := range l.r.adopt(entries) {
		l.leave(path.Join(l.r.spool(), name))
	}
	return nil
}

func (l *listing) readLink(ctx context.Context, c *sftpipe.Client, p string) error {
	target, err := c.Readlink(ctx, l.r.abs(p))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.tree[p]
	e.Link = target
	l.tree[p] = e
	return nil
}
