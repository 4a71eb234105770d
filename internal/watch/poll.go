package watch

import (
	"hash/maphash"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pollLeast = 2 * time.Millisecond // between two directories, so that 500 are read in a second at most,
	pollShare = 5                    // and this many times as long as the last one took
	pollIdle  = time.Minute          // with nothing to poll
)

// A pollList is the directories without a watch, in the order in which they are read.
type pollList struct {
	nodes []*node
	seed  maphash.Seed
	retry time.Time // no attempt to get a watch before
}

func (l *pollList) push(n *node) { l.nodes = append(l.nodes, n) }

// pop takes the next one that still counts.
func (l *pollList) pop() *node {
	for len(l.nodes) > 0 {
		n := l.nodes[0]
		l.nodes[0] = nil
		l.nodes = l.nodes[1:]
		if !n.gone && !n.watched {
			return n
		}
	}
	return nil
}

// pollPause is how long to wait before the next directory is read, when the last one took as long as given.
func (w *Watcher) pollPause(took time.Duration) time.Duration {
	n := w.polls.Load()
	if n == 0 {
		return min(pollIdle, w.cfg.PollInterval)
	}
	return max(w.cfg.PollInterval/time.Duration(n), pollLeast, pollShare*took)
}

// pollOne reads the directory whose turn it is, reports what differs from the last time, and says how long that took.
func (w *Watcher) pollOne() time.Duration {
	start := w.kernel.now()
	n := w.polled.pop()
	if n == nil {
		return 0
	}
	path := n.path()
	w.watchAgain(n, path)
	was := n.listing
	is, err := w.list(path)
	if n.listing = is; n.watched {
		n.listing = nil
	} else {
		w.polled.push(n)
	}
	switch {
	case err != nil:
		// It is gone, which its parent shows, or cannot be read, which the next reading of the folder shows.
	case was == nil: // it could not be read before
		w.nameCame(start, path)
	default:
		w.compare(start, path, n, was, is)
	}
	return w.kernel.now().Sub(start)
}

// A listing is one reading of a directory.
type listing struct {
	mtime unix.Timespec     // of the directory, from before it was read: names came or went since if it is another
	looks map[string]uint64 // how each name looked
	told  []string          // the names that were reported after this reading
}

// compare reports what differs between two readings of a directory.
//
// Whoever read the directory between two readings may have seen what neither of them shows. The directory's
// own time gives that away: if it changed, the directory is reported too, and what was reported last time is once more.
func (w *Watcher) compare(now time.Time, dir string, n *node, was, is *listing) {
	for name := range was.looks {
		if _, still := is.looks[name]; !still {
			is.told = append(is.told, name)
		}
	}
	for name, look := range is.looks {
		if before, known := was.looks[name]; !known || before != look {
			is.told = append(is.told, name)
		}
	}
	names := is.told
	if was.mtime != is.mtime {
		names = append(slices.Clone(names), was.told...)
		w.queue.path(now, dir, written, nil)
	}
	for _, name := range names {
		path := join(dir, name)
		if _, there := is.looks[name]; !there {
			w.nameGone(now, path, false)
			continue
		}
		if c := n.children[name]; c != nil {
			if id, _, err := idOf(w.here().absolute(path)); err == nil && id == c.id {
				w.queue.path(now, path, written, w.wanted(path))
				continue
			}
			w.nameGone(now, path, false)
			continue
		}
		w.nameCame(now, path)
	}
}

// watchAgain gives a polled directory its watch if one can be had by now.
func (w *Watcher) watchAgain(n *node, path string) {
	now := w.kernel.now()
	if w.inotify == nil || n.listing == nil || now.Before(w.polled.retry) {
		return
	}
	if w.dirs.byID[n.id] != n && w.elsewhere(n.id) {
		return
	}
	name := w.here().absolute(path)
	if err := w.inotify.add(name); err != nil {
		w.polled.retry = now.Add(w.cfg.PollInterval)
		return
	}
	if id, _, err := idOf(name); err != nil || id != n.id {
		w.inotify.remove(name)
		return
	}
	w.dirs.byID[n.id] = n
	n.watched = true
	w.watches.Add(1)
	w.polls.Add(-1)
}

// list reads a directory and returns how each name in it looks, as a number that changes when it does. What lies in a
// subdirectory is that one's affair.
func (w *Watcher) list(dir string) (*listing, error) {
	f, err := w.kernel.open(w.here().absolute(dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var self unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &self); err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	out := &listing{mtime: self.Mtim, looks: make(map[string]uint64, len(names))}
	for _, name := range names {
		path := join(dir, name)
		if w.cfg.Skip(path, false) && w.cfg.Skip(path, true) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue
		}
		if isDir(st.Mode) {
			st = unix.Stat_t{Dev: st.Dev, Ino: st.Ino, Mode: st.Mode}
		}
		out.looks[name] = maphash.Comparable(w.polled.seed, look{uint64(st.Dev), st.Ino, st.Mode, st.Size, st.Mtim, st.Ctim})
	}
	return out, nil
}

type look struct {
	dev, ino     uint64
	mode         uint32
	size         int64
	mtime, ctime unix.Timespec
}
