package watch

import (
	"errors"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// A node is one directory that is watched, or polled. Paths live in the shape of the tree, so that forgetting a
// directory costs what lies below it and nothing else.
type node struct {
	parent   *node // nil: the root, or forgotten
	name     string
	children map[string]*node
	id       fileID
	watched  bool
	gone     bool
	listing  *listing // of a polled directory, when it was last read; nil: it could not be
}

func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	if n.parent.parent == nil {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}

// dirs are the directories that are known, each watched or polled. fsnotify names a watch by the path it was first
// added under and keeps that name when the directory moves; so one inode must never be added under a
// second path while the first one stands.
type dirs struct {
	root *node
	byID map[fileID]*node
}

func newDirs() *dirs { return &dirs{byID: map[fileID]*node{}} }

func (d *dirs) lookup(path string) *node {
	n := d.root
	if path == "." {
		return n
	}
	for name := range strings.SplitSeq(path, "/") {
		if n == nil {
			return nil
		}
		n = n.children[name]
	}
	return n
}

// insert makes a node of a path whose parent is known; nil when it is not.
func (d *dirs) insert(path string, id fileID) *node {
	n := &node{id: id}
	if path == "." {
		d.root = n
	} else {
		n.parent = d.lookup(parent(path))
		if n.parent == nil {
			return nil
		}
		n.name = path[strings.LastIndexByte(path, '/')+1:]
		if n.parent.children == nil {
			n.parent.children = map[string]*node{}
		}
		n.parent.children[n.name] = n
	}
	if d.byID[id] == nil {
		d.byID[id] = n
	}
	return n
}

// remove takes a node and all below it out, and calls gone for each with its path.
func (d *dirs) remove(n *node, gone func(n *node, path string)) {
	path := n.path()
	if n.parent != nil {
		delete(n.parent.children, n.name)
	} else {
		d.root = nil
	}
	d.drop(n, path, gone)
}

func (d *dirs) drop(n *node, path string, gone func(*node, string)) {
	gone(n, path)
	n.gone = true
	if d.byID[n.id] == n {
		delete(d.byID, n.id)
	}
	for name, c := range n.children {
		d.drop(c, join(path, name), gone)
	}
	n.children = nil
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// forget gives up a directory and everything below it.
func (w *Watcher) forget(n *node) {
	at := w.here()
	w.dirs.remove(n, func(n *node, path string) {
		w.judge.repos.lost(path)
		if n.watched {
			w.watches.Add(-1)
			w.inotify.remove(at.absolute(path))
		} else {
			w.polls.Add(-1)
		}
	})
}

// takeIn watches a directory and everything below it: first the watch, then the listing, so that what is created
// meanwhile is either listed or reported. It returns false when there is no directory at path.
func (w *Watcher) takeIn(path string) bool {
	if n := w.dirs.lookup(path); n != nil {
		w.forget(n)
	}
	if !w.addOne(path) {
		return false
	}
	todo := []string{path}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := w.dirs.lookup(dir)
		if n == nil {
			continue
		}
		if !n.watched {
			n.listing, _ = w.list(dir) // what later readings are compared with
		}
		names, err := w.subdirectories(dir)
		if err != nil && !gone(err) {
			w.giveUp(n, dir, err)
		}
		for _, name := range names {
			sub := join(dir, name)
			if w.cfg.Skip(sub, true) {
				continue
			}
			if old := w.dirs.lookup(sub); old != nil {
				w.forget(old)
			}
			if w.addOne(sub) {
				todo = append(todo, sub)
			}
		}
	}
	return true
}

// giveUp polls a directory that was to be watched, because what lies in it could not be found out. When that
// can be done, all of it is taken in.
func (w *Watcher) giveUp(n *node, path string, err error) {
	if n.watched {
		n.watched = false
		w.inotify.remove(w.here().absolute(path))
		w.watches.Add(-1)
		w.polls.Add(1)
		w.polled.push(n)
	}
	n.listing = nil
	w.unwatched(path, err)
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// subdirectories lists the directories in dir, and notes a git work tree.
func (w *Watcher) subdirectories(dir string) ([]string, error) {
	f, err := w.kernel.open(w.here().absolute(dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if e.Name() == ".git" {
				w.judge.repos.found(dir)
			}
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return names, err
		}
	}
}

// addOne makes path known and watches it, or puts it on the list of those that are polled.
func (w *Watcher) addOne(path string) bool {
	name := w.here().absolute(path)
	for range 3 {
		id, mode, err := idOf(name)
		if err != nil || !isDir(mode) {
			return false
		}
		alias := w.elsewhere(id)
		n := w.dirs.insert(path, id)
		if n == nil {
			return false // its parent went away; an event says so
		}
		err = errAlias
		if !alias {
			err = w.inotify.add(name)
		}
		if after, mode, err := idOf(name); err != nil || !isDir(mode) || after != id {
			// Swapped in between: the watch may be on either. Neither counts.
			n.watched = true
			w.watches.Add(1)
			w.forget(n)
			continue
		}
		switch {
		case err == nil:
			n.watched = true
			w.watches.Add(1)
		case gone(err):
			n.watched = true
			w.watches.Add(1)
			w.forget(n)
			continue
		default:
			w.polls.Add(1)
			w.polled.push(n)
			w.unwatched(path, err)
		}
		return true
	}
	return false
}

// errAlias stands for a directory that can be reached by two paths, by a bind mount: inotify knows inodes, not paths.
var errAlias = errors.New("the same directory is watched under another path")

// elsewhere tells whether an inode is known under another path and still there. When it has moved
// on, its event is still to come; its watch, which bears the old path, is given up at once.
func (w *Watcher) elsewhere(id fileID) bool {
	n := w.dirs.byID[id]
	if n == nil {
		return false
	}
	path := n.path()
	if now, _, err := idOf(w.here().absolute(path)); err == nil && now == id {
		return true
	}
	w.forget(n)
	w.queue.subtree(w.kernel.now(), path)
	return false
}

func (w *Watcher) here() root {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.root
}
