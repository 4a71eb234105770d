package watch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/watch"
)

func limited(n *atomic.Int64) watch.Trick {
	return watch.WithAdd(func(string) error {
		if n.Add(-1) < 0 {
			return unix.ENOSPC
		}
		return nil
	})
}

// TestWatchesRunOut: the rest is polled, the owner is told which sysctl to raise, and watches are taken when there are some.
func TestWatchesRunOut(t *testing.T) {
	root := folder(t)
	for i := range 10 {
		mkdir(t, filepath.Join(root, fmt.Sprint("d", i), "sub"))
	}
	var free atomic.Int64
	free.Store(5)
	w := follow(t, watch.Config{Root: root, PollInterval: 20 * time.Millisecond}, limited(&free))
	s := w.Status()
	if s.Watches != 5 || s.Polled != 16 {
		t.Errorf("status %+v", s)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "fs.inotify.max_user_watches") {
		t.Errorf("problems %q", s.Problems)
	}
	for i := range 10 {
		sub := fmt.Sprintf("d%d/sub", i)
		write(t, filepath.Join(root, sub, "f"), "x")
		until(t, w, sub+"/f")
		write(t, filepath.Join(root, sub, "f"), "longer")
		until(t, w, sub+"/f")
		must(t, os.Remove(filepath.Join(root, sub, "f")))
		until(t, w, sub+"/f")
		mkdir(t, filepath.Join(root, sub, "new", "deep"))
		until(t, w, sub+"/new/deep")
		write(t, filepath.Join(root, sub, "new", "deep", "f"), "x")
		until(t, w, sub+"/new/deep/f")
	}
	free.Store(1000)
	s = wait(t, w, func(s watch.Status) bool { return s.Polled == 0 })
	if len(s.Problems) > 0 {
		t.Errorf("all is watched: %q", s.Problems)
	}
	for i := range 10 {
		sub := fmt.Sprintf("d%d/sub/new/deep/f", i)
		write(t, filepath.Join(root, sub), "again")
		until(t, w, sub)
	}
}

func TestNoInstance(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "d"))
	w := follow(t, watch.Config{Root: root, PollInterval: 20 * time.Millisecond},
		watch.WithInstance(func() error { return os.NewSyscallError("inotify_init1", unix.EMFILE) }))
	s := w.Status()
	if s.Polled != 2 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "fs.inotify.max_user_instances") {
		t.Errorf("status %+v", s)
	}
	write(t, filepath.Join(root, "d", "f"), "x")
	until(t, w, "d/f")
	mkdir(t, filepath.Join(root, "e"))
	until(t, w, "e")
}

// TestDirectoryMovedThenDeletedBelowAPolledOne is the way into fsnotify's deadlock that is left: the directory is
// watched and its parent is not, so that its watch stands when it moves.
func TestDirectoryMovedThenDeletedBelowAPolledOne(t *testing.T) {
	root := folder(t)
	w := follow(t, watch.Config{Root: root, PollInterval: 5 * time.Millisecond}, watch.WithAdd(func(path string) error {
		if path == root {
			return unix.ENOSPC
		}
		return nil
	}))
	for i := range 20 {
		cache, old := filepath.Join(root, "cache"), filepath.Join(root, "cache.old")
		mkdir(t, cache)
		for w.Status().Watches == 0 {
			next(t, w)
		}
		must(t, os.Rename(cache, old))
		must(t, os.Remove(old))
		alive := fmt.Sprint("alive", i)
		write(t, filepath.Join(root, alive), "")
		until(t, w, alive)
		for w.Status().Watches > 0 {
			next(t, w)
		}
	}
}

// TestDirectoryThatCannotBeRead for a while, as when the process is out of file descriptors, is not forgotten.
func TestDirectoryThatCannotBeRead(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "a", "b"))
	var ill atomic.Bool
	ill.Store(true)
	w := follow(t, watch.Config{Root: root, PollInterval: 5 * time.Millisecond}, watch.WithOpen(func(path string) error {
		if ill.Load() && strings.HasSuffix(path, "/a") {
			return unix.EMFILE
		}
		return nil
	}))
	if s := w.Status(); s.Watches != 1 || s.Polled != 1 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "too many open files") {
		t.Errorf("status %+v", s)
	}
	ill.Store(false)
	until(t, w, "a/b")
	write(t, filepath.Join(root, "a", "b", "f"), "x")
	until(t, w, "a/b/f")
	if s := wait(t, w, func(s watch.Status) bool { return s.Watches == 3 && s.Polled == 0 }); s.Problems != nil {
		t.Errorf("status %+v", s)
	}
}

// TestModelConvergesPolled is TestModelConverges with half of the watches refused at random, and with none at all.
func TestModelConvergesPolled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	var calls atomic.Uint64
	half := watch.WithAdd(func(path string) error {
		if calls.Add(1)*0x9e3779b97f4a7c15>>63 == 1 {
			return unix.ENOSPC
		}
		return nil
	})
	t.Run(fmt.Sprint("half ", seed), func(t *testing.T) { converge(t, seed, 1000, half) })
	none := watch.WithInstance(func() error { return errors.New("none") })
	t.Run(fmt.Sprint("none ", seed), func(t *testing.T) { converge(t, seed, 500, none) })
}
