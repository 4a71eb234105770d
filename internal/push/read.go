package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// listings is how many directories are being listed at once: at a round-trip time of 40 ms that keeps the server busy,
// and OpenSSH hands out far more handles than that.
const listings = 256

// Read lists what the replica holds, and removes what an interrupted push has left behind. Paths that filter excludes
// are left out, with all below them: they are not ours to compare, or to delete. The error is for what cannot be read:
// a replica that is known in part only would be taken for one that lacks the rest.
func (r *Replica) Read(ctx context.Context, filter *tree.Filter) (tree.Tree, error) {
	l, err := r.list(ctx, filter, true)
	if err != nil {
		return nil, err
	}
	if err := r.removeAll(ctx, l.leftovers...); err != nil {
		return nil, fmt.Errorf("remove what an interrupted push left: %w", err)
	}
	return l.tree, nil
}

// List is Read, but changes nothing.
func (r *Replica) List(ctx context.Context, filter *tree.Filter) (tree.Tree, error) {
	l, err := r.list(ctx, filter, false)
	if err != nil {
		return nil, err
	}
	return l.tree, nil
}

func (r *Replica) list(ctx context.Context, filter *tree.Filter, open bool) (*listing, error) {
	root, err := r.lanes.Small.Stat(ctx, r.target)
	if err != nil {
		return nil, fmt.Errorf("look at target %s: %w", r.target, err)
	}
	l := &listing{r: r, filter: filter, open: open, tree: tree.Tree{".": entryOf(root)}}
	todo := []string{"."}
	for len(todo) > 0 {
		group, working := errgroup.WithContext(ctx)
		group.SetLimit(listings)
		l.dirs = nil
		for _, dir := range todo {
			group.Go(func() error { return l.list(working, dir) })
		}
		if err := group.Wait(); err != nil {
			return nil, fmt.Errorf("list replica: %w", err)
		}
		todo = l.dirs
	}
	if err := l.readLinks(ctx); err != nil {
		return nil, fmt.Errorf("list replica: %w", err)
	}
	return l, nil
}

// listing is a Read under way.
type listing struct {
	r      *Replica
	filter *tree.Filter
	open   bool // directories that their owner may not enter are opened

	mu        sync.Mutex // guards all below
	tree      tree.Tree
	dirs      []string // found at the present depth
	links     []string
	leftovers []string
}

func (l *listing) list(ctx context.Context, dir string) error {
	c := l.r.lanes.Small
	entries, err := c.ReadDir(ctx, l.r.abs(dir))
	if errors.Is(err, fs.ErrPermission) && l.open && dir != "." { // ours to enter, whatever mode the source gave it
		c.Do(ctx, sftpipe.Setstat(l.r.abs(dir), private))
		entries, err = c.ReadDir(ctx, l.r.abs(dir))
		l.mu.Lock()
		l.tree[dir] = withMode(l.tree[dir], ownerRWX)
		l.mu.Unlock()
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, tempPrefix) {
			l.mu.Lock()
			l.leftovers = append(l.leftovers, path.Join(l.r.abs(dir), e.Name))
			l.mu.Unlock()
			continue
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
	switch e.Type {
	case tree.Dir:
		l.dirs = append(l.dirs, p)
	case tree.Link:
		l.links = append(l.links, p)
	}
}

// readLinks asks for the targets of all links found.
func (l *listing) readLinks(ctx context.Context) error {
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(listings)
	for _, p := range l.links {
		group.Go(func() error {
			target, err := l.r.lanes.Small.Readlink(working, l.r.abs(p))
			if err != nil {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			e := l.tree[p]
			e.Link = target
			l.tree[p] = e
			return nil
		})
	}
	return group.Wait()
}
