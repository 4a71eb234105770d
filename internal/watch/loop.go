package watch

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run follows the folder until ctx ends; it returns nil then. Whatever goes wrong meanwhile is retried, and shown by Status.
func (w *Watcher) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return ErrClosed
	}
	defer func() {
		w.Close()
		w.inotify.close()
	}()
	ctx, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	mounted := make(chan struct{}, 1)
	helpers.Go(func() { watchMounts(ctx, w.kernel.mounts, mounted) })

	guard := time.NewTicker(w.cfg.GuardInterval)
	defer guard.Stop()
	poll := time.NewTimer(w.pollPause(0))
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.closed:
			return nil
		case ev, ok := <-w.inotify.events():
			if ok {
				w.event(ev)
			} else {
				w.lost(ctx, "inotify ended")
			}
		case <-w.inotify.overflowed():
			w.lost(ctx, "inotify's queue overflowed")
		case <-w.check:
			w.guard()
		case <-guard.C:
			w.guard()
		case <-mounted:
			w.guard()
			w.mountsChanged()
		case <-poll.C:
			poll.Reset(w.pollPause(w.pollOne()))
		}
	}
}

// setUp finds the folder and watches all of it, from nothing.
func (w *Watcher) setUp() {
	start := w.kernel.now()
	w.inotify.close()
	found := findRoot(w.cfg.Root)
	w.mu.Lock()
	w.root = found
	w.problems = problems{}
	if found.err != nil {
		w.problems.root = found.err
	}
	w.mu.Unlock()
	w.dirs = newDirs()
	w.polled = pollList{seed: maphash.MakeSeed()}
	w.watches.Store(0)
	w.polls.Store(0)
	w.inotify = nil
	if found.err == nil {
		in, err := w.kernel.newInstance()
		if err != nil {
			w.mu.Lock()
			w.problems.instance = err
			w.mu.Unlock()
		}
		w.inotify = in
		w.mounts = mountsBelow(w.kernel.mounts, found.real)
		w.takeIn(".")
	}
	w.rebuilt = w.kernel.now()
	w.took = w.rebuilt.Sub(start)
}

// again sets everything up anew, and says that anything may have changed.
func (w *Watcher) again(reason string) {
	w.setUp()
	w.queue.everything(reason)
}

// lost is called when events were lost. A folder that overflows the queue all the time must not be set up all the time.
func (w *Watcher) lost(ctx context.Context, reason string) {
	pause := w.rebuilt.Add(max(time.Second, 10*w.took)).Sub(w.kernel.now())
	if pause > 0 {
		// Events need not be read meanwhile: they are as good as lost.
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-w.closed:
			return
		case <-timer.C:
		}
	}
	w.again(reason)
}

// guard checks that the folder is the one being watched. inotify is silent about most ways in which it may not be:
// an ancestor renamed, a file system unmounted, a symbolic link on the way changed.
func (w *Watcher) guard() {
	if reason := w.here().changed(findRoot(w.cfg.Root)); reason != "" {
		w.again(reason)
		return
	}
	w.mu.Lock()
	none := w.problems.instance != nil
	w.mu.Unlock()
	if none && w.kernel.now().Sub(w.rebuilt) > max(10*time.Second, 10*w.took) {
		if in, err := w.kernel.newInstance(); err == nil {
			in.close()
			w.again("inotify works again")
		} else {
			w.rebuilt = w.kernel.now()
		}
	}
}

// event deals with one event. Events are hints: what is at the path now decides.
func (w *Watcher) event(ev fsnotify.Event) {
	now := w.kernel.now()
	path, ok := w.here().relative(ev.Name)
	if !ok {
		return
	}
	if !ev.Has(fsnotify.Rename) {
		defer w.queue.paired()
	}
	if ev.Has(fsnotify.Remove | fsnotify.Rename) {
		w.nameGone(now, path, ev.Has(fsnotify.Rename))
	}
	if ev.Has(fsnotify.Create) {
		w.nameCame(now, path)
	}
	if ev.Has(fsnotify.Write | fsnotify.Chmod) {
		w.queue.path(now, path, written, w.wanted(path))
	}
}

// wanted makes the question whether a path is to be reported at all.
func (w *Watcher) wanted(path string) func() bool {
	return func() bool { return path == "." || !w.cfg.Skip(path, false) || !w.cfg.Skip(path, true) }
}

func (w *Watcher) nameGone(now time.Time, path string, renamed bool) {
	if path == "." {
		w.guard()
		return
	}
	op := removed
	if renamed {
		op = moved
	}
	n := w.dirs.lookup(path)
	if n == nil {
		w.queue.path(now, path, op, w.wanted(path))
		return
	}
	// The watches below keep the old path for ever, and the one on the directory itself would be lost
	// if it was added under its new path first: all of them go now, before the next event is read.
	w.forget(n)
	w.directory(now, path)
	w.queue.subtreeBy(now, path, op)
}

// nameCame is called for a name that means something new.
func (w *Watcher) nameCame(now time.Time, path string) {
	if !w.directory(now, path) {
		w.queue.path(now, path, created, w.wanted(path))
	}
}

// directory takes a directory in, if there is one at path, and then reports all of it: what happened in it before its
// watch stood is seen by whoever looks now, and what happens afterwards makes events.
func (w *Watcher) directory(now time.Time, path string) bool {
	if path == ".git" || strings.HasSuffix(path, "/.git") {
		w.judge.repos.found(parent(path))
	}
	_, mode, err := idOf(w.here().absolute(path))
	if err != nil || !isDir(mode) {
		return false
	}
	if path != "." && w.cfg.Skip(path, true) {
		return true
	}
	w.queue.work(now)
	defer w.queue.work(time.Time{})
	if !w.takeIn(path) {
		return false
	}
	w.queue.subtree(now, path)
	return true
}
