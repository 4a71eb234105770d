package push

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sync/errgroup"

	"releve/pkg/sftpipe"
)

// removeAll removes what lies at the given paths, and everything below where that is a directory; a link is removed,
// never followed. What is not there is no error. An interrupted first sync leaves thousands of directories behind: each
// level of all of them costs a few round trips, not each directory.
func (r *Replica) removeAll(ctx context.Context, paths ...string) error {
	var dirs []string // children after their parents
	for len(paths) > 0 {
		stubborn, err := r.unlinkAll(ctx, paths)
		if err != nil {
			return err
		}
		below, err := r.emptied(ctx, stubborn)
		if err != nil {
			return err
		}
		for _, s := range stubborn {
			dirs = append(dirs, s.path)
		}
		paths = below
	}
	rmdir := make([]sftpipe.Request, len(dirs))
	for i, dir := range dirs {
		rmdir[len(dirs)-1-i] = sftpipe.Rmdir(dir)
	}
	for _, err := range r.lanes.Bulk.Do(ctx, rmdir...) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// stubborn is a path that could not be removed: a directory, or something that is not ours to remove.
type stubborn struct {
	path string
	err  error
}

// unlinkAll removes what it can in one flight. The error is for what ends everything.
func (r *Replica) unlinkAll(ctx context.Context, paths []string) ([]stubborn, error) {
	reqs := make([]sftpipe.Request, len(paths))
	for i, p := range paths {
		reqs[i] = sftpipe.Remove(p)
	}
	var left []stubborn
	for i, err := range r.lanes.Bulk.Do(ctx, reqs...) {
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
		case fatal(ctx, err):
			return nil, err
		default:
			left = append(left, stubborn{paths[i], err})
		}
	}
	return left, nil
}

// emptied lists what lies in directories on their way out, and makes them ours to empty: they may have been read-only at
// the source.
func (r *Replica) emptied(ctx context.Context, dirs []stubborn) (below []string, err error) {
	c := r.lanes.Bulk
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(listings)
	var mu sync.Mutex
	for _, dir := range dirs {
		group.Go(func() error {
			// Nothing may be done through a link, also to one that could not be removed.
			attrs, err := c.Lstat(working, dir.path)
			if err != nil || !attrs.IsDir() {
				return cmp.Or(err, dir.err)
			}
			c.Do(working, sftpipe.Setstat(dir.path, private)) // what it does not open cannot be listed either
			entries, err := c.ReadDir(working, dir.path)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, e := range entries {
				below = append(below, path.Join(dir.path, e.Name))
			}
			return nil
		})
	}
	return below, group.Wait()
}
