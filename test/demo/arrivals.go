package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// arrivals notices what changes in a folder and when it is on the replica. It looks at the two now and then, and yet
// knows the time between: the kernel keeps, for each of the two, when it was last changed (st_ctim of inode(7)).
type arrivals struct {
	source, replica string
	seen            map[string]trait
	pending         map[string]time.Time // by path: when it changed; zero for what was deleted
	looked          time.Time
}

// granularity is how far a ctime may lie before the moment it stands for.
const granularity = 20 * time.Millisecond

// arrival is one change that has reached the replica.
type arrival struct {
	path    string
	deleted bool
	took    time.Duration // 0 for deletions, of which no time is kept
}

// trait is what tells a change of a file, and a file from its copy.
type trait struct {
	mode    fs.FileMode
	size    int64
	mtime   int64 // whole seconds
	link    string
	changed time.Time // ctime
}

// same leaves out the ctime, which is each side's own, and the size of directories.
func (t trait) same(o trait) bool {
	if t.mode.IsDir() {
		return o.mode == t.mode
	}
	return t.mode == o.mode && t.size == o.size && t.mtime == o.mtime && t.link == o.link
}

func newArrivals(source, replica string) (*arrivals, error) {
	a := &arrivals{source: source, replica: replica, pending: map[string]time.Time{}, looked: time.Now()}
	var err error
	a.seen, err = a.scan()
	return a, err
}

// look returns what has arrived since the last look, in the order of the paths.
func (a *arrivals) look() ([]arrival, error) {
	began := time.Now()
	now, err := a.scan()
	if err != nil {
		return nil, err
	}
	for path, t := range now {
		old, known := a.seen[path]
		switch {
		case known && old.changed.Equal(t.changed):
		case known && t.mode.IsDir() && old.same(t): // something in it changed, which is told by itself
		case !known && t.changed.Before(a.looked.Add(-granularity)): // came along with a directory that was moved
		default:
			a.pending[path] = t.changed
		}
	}
	for path := range a.seen {
		if _, still := now[path]; !still {
			a.pending[path] = time.Time{}
		}
	}
	a.seen, a.looked = now, began
	var out []arrival
	for _, path := range slices.Sorted(maps.Keys(a.pending)) {
		changed := a.pending[path]
		there, err := look(filepath.Join(a.replica, path))
		switch {
		case changed.IsZero() && errors.Is(err, fs.ErrNotExist):
			out = append(out, arrival{path: path, deleted: true})
		case !changed.IsZero() && err == nil && now[path].same(there):
			out = append(out, arrival{path: path, took: a.arrived(path, there).Sub(changed)})
		}
	}
	deleted := map[string]bool{}
	for _, o := range out {
		delete(a.pending, o.path)
		deleted[o.path] = o.deleted
	}
	// Of a tree that was deleted, its top says it all.
	return slices.DeleteFunc(out, func(o arrival) bool { return o.deleted && deleted[filepath.Dir(o.path)] }), nil
}

// arrived is when a path was complete on the replica: a new directory is built aside, and is there only when it has
// been put into place.
func (a *arrivals) arrived(path string, there trait) time.Time {
	at := there.changed
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if _, new := a.pending[dir]; !new {
			continue
		}
		if t, err := look(filepath.Join(a.replica, dir)); err == nil && t.changed.After(at) {
			at = t.changed
		}
	}
	return at
}

func (a *arrivals) scan() (map[string]trait, error) {
	all := map[string]trait{}
	err := filepath.WalkDir(a.source, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone between two steps
		}
		if err != nil || path == a.source {
			return err
		}
		t, err := look(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all[strings.TrimPrefix(path, a.source+"/")] = t
		return err
	})
	return all, err
}

func look(path string) (trait, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return trait{}, err
	}
	t := trait{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().Unix()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		t.changed = time.Unix(st.Ctim.Unix())
	}
	if t.mode&fs.ModeSymlink != 0 {
		t.link, err = os.Readlink(path)
	}
	return t, err
}
