package watch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/watch"
)

// guarded is a Config whose folder is checked often, so that tests are short.
func guarded(root string) watch.Config {
	return watch.Config{Root: root, GuardInterval: 10 * time.Millisecond}
}

// all waits for Changes with All set and returns the reason.
func all(t *testing.T, w *watch.Watcher) string {
	t.Helper()
	for {
		if c := next(t, w); c.All {
			return c.Reason
		}
	}
}

// alive checks that changes in the folder are noticed, with their paths.
func alive(t *testing.T, w *watch.Watcher, root string) {
	t.Helper()
	mkdir(t, filepath.Join(root, "alive", "deep"))
	until(t, w, "alive/deep")
	write(t, filepath.Join(root, "alive", "deep", "f"), "x")
	until(t, w, "alive/deep/f")
	must(t, os.RemoveAll(filepath.Join(root, "alive")))
	until(t, w, "alive")
}

func TestRootDeletedAndMadeAgain(t *testing.T) {
	root := filepath.Join(folder(t), "www")
	mkdir(t, filepath.Join(root, "sub"))
	w := follow(t, guarded(root))
	must(t, os.RemoveAll(root))
	if reason := all(t, w); !strings.Contains(reason, "gone") {
		t.Errorf("deleted: %q", reason)
	}
	if s := w.Status(); len(s.Problems) != 1 || !strings.Contains(s.Problems[0], root) || s.Watches != 0 {
		t.Errorf("deleted: %+v", s)
	}
	mkdir(t, filepath.Join(root, "sub"))
	if reason := all(t, w); !strings.Contains(reason, "there") {
		t.Errorf("made again: %q", reason)
	}
	alive(t, w, root)
	if s := w.Status(); len(s.Problems) != 0 {
		t.Errorf("made again: %+v", s)
	}
}

func TestRootReplacedByAnother(t *testing.T) {
	root := filepath.Join(folder(t), "www")
	mkdir(t, root)
	mkdir(t, root+".new")
	w := follow(t, guarded(root))
	must(t, unix.Renameat2(unix.AT_FDCWD, root, unix.AT_FDCWD, root+".new", unix.RENAME_EXCHANGE))
	all(t, w)
	alive(t, w, root)
}

// TestAncestorRenamed makes no event at all, and the old events go on under the old path.
func TestAncestorRenamed(t *testing.T) {
	top := folder(t)
	root := filepath.Join(top, "srv", "www")
	mkdir(t, root)
	write(t, filepath.Join(root, "f"), "x")
	cfg := guarded(root)
	cfg.GuardInterval = 100 * time.Millisecond
	w := follow(t, cfg)
	must(t, os.Rename(filepath.Join(top, "srv"), filepath.Join(top, "moved")))
	must(t, os.Remove(filepath.Join(top, "moved", "www", "f")))
	if c := next(t, w); !c.All || !strings.Contains(c.Reason, "gone") {
		t.Errorf("got %+v: a path of a folder that is not there any more", c)
	}
	must(t, os.Rename(filepath.Join(top, "moved"), filepath.Join(top, "srv")))
	all(t, w)
	alive(t, w, root)
}

func TestSymlinkedRootChangesItsTarget(t *testing.T) {
	top := folder(t)
	mkdir(t, filepath.Join(top, "releases", "1"))
	mkdir(t, filepath.Join(top, "releases", "2", "sub"))
	current := filepath.Join(top, "current")
	must(t, os.Symlink("releases/1", current))
	w := follow(t, guarded(current))
	write(t, filepath.Join(top, "releases", "1", "f"), "x")
	until(t, w, "f")
	must(t, os.Symlink("releases/2", current+".new"))
	must(t, os.Rename(current+".new", current))
	if reason := all(t, w); !strings.Contains(reason, "releases/2") {
		t.Errorf("reason %q", reason)
	}
	write(t, filepath.Join(top, "releases", "1", "f"), "x")
	quiet(t, w, 50*time.Millisecond)
	alive(t, w, current)
	watches(t, w, 2)
}

func TestRootThatIsNotThereYet(t *testing.T) {
	root := filepath.Join(folder(t), "www")
	w := follow(t, guarded(root))
	if s := w.Status(); len(s.Problems) != 1 {
		t.Errorf("status %+v", s)
	}
	mkdir(t, root)
	all(t, w)
	alive(t, w, root)
}

// mount mounts something for the test, or skips it.
func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// TestRootUnmounted makes no event either. It also shows that a watched file system can be unmounted.
func TestRootUnmounted(t *testing.T) {
	root := folder(t)
	mount(t, "none", root, "tmpfs", 0)
	mkdir(t, filepath.Join(root, "sub"))
	cfg := guarded(root)
	cfg.GuardInterval = time.Hour // the mount table's own notice is enough
	w := follow(t, cfg)
	must(t, unix.Unmount(root, 0))
	all(t, w)
	alive(t, w, root)
	must(t, unix.Mount("none", root, "tmpfs", 0, ""))
	all(t, w)
	alive(t, w, root)
}

func TestMountBelowTheRoot(t *testing.T) {
	root := folder(t)
	inner := filepath.Join(root, "a", "with space")
	mkdir(t, inner)
	w := follow(t, guarded(root))
	mount(t, "none", inner, "tmpfs", 0)
	c := until(t, w, "a/with space")
	if c.All {
		t.Errorf("got %+v, want the subtree alone", c)
	}
	inside := func() {
		write(t, filepath.Join(inner, "f"), "x")
		until(t, w, "a/with space/f")
	}
	inside()
	must(t, unix.Unmount(inner, 0))
	until(t, w, "a/with space")
	inside()
}

// TestBindMount: one inode under two paths can have one watch only; the other path is polled.
func TestBindMount(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "a"))
	mkdir(t, filepath.Join(root, "b"))
	mount(t, filepath.Join(root, "a"), filepath.Join(root, "b"), "", unix.MS_BIND)
	cfg := guarded(root)
	cfg.PollInterval = 20 * time.Millisecond
	w := follow(t, cfg)
	if s := w.Status(); s.Watches != 2 || s.Polled != 1 || s.Problems != nil {
		t.Errorf("status %+v", s)
	}
	write(t, filepath.Join(root, "a", "f"), "x")
	seen := map[string]bool{}
	for !seen["a/f"] || !seen["b/f"] {
		for _, p := range next(t, w).Paths {
			seen[p] = true
		}
	}
}
