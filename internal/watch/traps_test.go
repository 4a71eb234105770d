package watch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/internal/watch"
)

// The traps of inotify and fsnotify, each with the way it shows.

// TestDirectoryMovedThenDeleted: fsnotify sends the error of the failed inotify_rm_watch with its lock held, and a
// watcher that reads errors in the goroutine that adds watches stops for ever.
func TestDirectoryMovedThenDeleted(t *testing.T) {
	root := folder(t)
	w := follow(t, watch.Config{Root: root})
	for i := range 60 {
		cache, old := filepath.Join(root, "cache"), filepath.Join(root, "cache.old")
		mkdir(t, filepath.Join(cache, "sub"))
		if i%2 == 0 {
			until(t, w, "cache")
		}
		must(t, os.Rename(cache, old))
		must(t, os.RemoveAll(old))
		alive := fmt.Sprint("alive", i)
		write(t, filepath.Join(root, alive), "")
		until(t, w, alive)
	}
}

// TestRenamedDirectoryIsStillWatched: adding the new name before the old watch is gone loses the watch.
func TestRenamedDirectoryIsStillWatched(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "d0", "sub", "deep"))
	w := follow(t, watch.Config{Root: root})
	for i := range 40 {
		to := fmt.Sprint("d", i+1)
		must(t, os.Rename(filepath.Join(root, fmt.Sprint("d", i)), filepath.Join(root, to)))
		until(t, w, to)
		for _, dir := range []string{to, to + "/sub", to + "/sub/deep"} {
			write(t, filepath.Join(root, dir, "f"), fmt.Sprint(i))
			until(t, w, dir+"/f")
		}
		watches(t, w, 4)
	}
}

// TestSubdirectoryOfRenamedDirectoryHasItsNewName: fsnotify goes on naming it by its old path.
func TestSubdirectoryOfRenamedDirectoryHasItsNewName(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "a", "sub"))
	w := follow(t, watch.Config{Root: root})
	must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")))
	until(t, w, "b")
	write(t, filepath.Join(root, "b", "sub", "f"), "x")
	c := next(t, w)
	if !slices.Equal(c.Paths, []string{"b/sub/f"}) || c.Subtrees != nil {
		t.Errorf("got %+v, want b/sub/f alone", c)
	}
}

// TestMovedOutOfTheFolder: the watches below would go on reporting, under the old path.
func TestMovedOutOfTheFolder(t *testing.T) {
	root, away := folder(t), folder(t)
	mkdir(t, filepath.Join(root, "a", "sub"))
	w := follow(t, watch.Config{Root: root})
	must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(away, "a")))
	until(t, w, "a")
	write(t, filepath.Join(away, "a", "sub", "f"), "x")
	quiet(t, w, 50*time.Millisecond)
	watches(t, w, 1)
}

// TestRenameNamesBothEnds at once, so that the caller can see that it is one.
func TestRenameNamesBothEnds(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "a", "sub"))
	write(t, filepath.Join(root, "f"), "x")
	w := follow(t, watch.Config{Root: root})
	must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")))
	if c := next(t, w); !slices.Equal(c.Subtrees, []string{"a", "b"}) {
		t.Errorf("directory: got %+v", c)
	}
	must(t, os.Rename(filepath.Join(root, "f"), filepath.Join(root, "g")))
	if c := next(t, w); !slices.Equal(c.Paths, []string{"f", "g"}) {
		t.Errorf("file: got %+v", c)
	}
}

// TestCreatedBeforeTheWatch: what is put into a new directory before it is watched makes no event.
func TestCreatedBeforeTheWatch(t *testing.T) {
	root := folder(t)
	w := follow(t, watch.Config{Root: root})
	for i := range 50 {
		deep := fmt.Sprintf("d%d/e/f", i)
		mkdir(t, filepath.Join(root, deep))
		write(t, filepath.Join(root, deep, "g"), "x")
		until(t, w, deep+"/g")
	}
	watches(t, w, 151)
}

// TestOverflowMeansAnythingMayHaveChanged: the kernel's queue is filled while nobody reads it.
func TestOverflowMeansAnythingMayHaveChanged(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	if limit > 50_000 {
		t.Skipf("max_queued_events is %d: too many to fill", limit)
	}
	root := folder(t)
	w, err := watch.New(watch.Config{Root: root})
	must(t, err)
	for i := range limit/2 + 10 {
		name := filepath.Join(root, strconv.Itoa(i%2)) // neighbours that are equal would be merged
		write(t, name, "x")
		must(t, os.Remove(name))
	}
	mkdir(t, filepath.Join(root, "lost"))
	run(t, w)
	for {
		c := next(t, w)
		if c.All {
			if !strings.Contains(c.Reason, "overflow") {
				t.Errorf("reason %q", c.Reason)
			}
			break
		}
	}
	write(t, filepath.Join(root, "lost", "f"), "x")
	until(t, w, "lost/f")
}

func TestOddNames(t *testing.T) {
	root := folder(t)
	w := follow(t, watch.Config{Root: root})
	for _, name := range []string{"new\nline", "\xff\xfe", "...", " ", "-rf", strings.Repeat("n", 255), `a\b"c`, "…"} {
		mkdir(t, filepath.Join(root, name))
		until(t, w, name)
		write(t, filepath.Join(root, name, name), "x")
		if c := next(t, w); !slices.Equal(c.Paths, []string{name + "/" + name}) {
			t.Errorf("%q: got %+v", name, c)
		}
	}
}

// TestSymlinksAreNotFollowed: inotify_add_watch(2) would.
func TestSymlinksAreNotFollowed(t *testing.T) {
	root, outside := folder(t), folder(t)
	must(t, os.Symlink(outside, filepath.Join(root, "before")))
	w := follow(t, watch.Config{Root: root})
	must(t, os.Symlink(outside, filepath.Join(root, "after")))
	if c := next(t, w); !slices.Equal(c.Paths, []string{"after"}) {
		t.Errorf("got %+v", c)
	}
	write(t, filepath.Join(outside, "f"), "x")
	quiet(t, w, 50*time.Millisecond)
	if n := w.Status().Watches; n != 1 {
		t.Errorf("%d watches, want 1", n)
	}
}

// TestFIFOIsNeverOpened: that would block until somebody writes to it.
func TestFIFOIsNeverOpened(t *testing.T) {
	root := folder(t)
	w := follow(t, watch.Config{Root: root})
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	if c := next(t, w); !slices.Equal(c.Paths, []string{"fifo"}) {
		t.Errorf("got %+v", c)
	}
}

func TestSkippedIsNotWatchedNorNamed(t *testing.T) {
	root := folder(t)
	mkdir(t, filepath.Join(root, "cache", "deep"))
	w := follow(t, watch.Config{Root: root, Skip: func(path string, dir bool) bool {
		return path == "cache" && dir || path == "new" && dir || filepath.Ext(path) == ".swp"
	}})
	if n := w.Status().Watches; n != 1 {
		t.Errorf("%d watches, want 1", n)
	}
	write(t, filepath.Join(root, "cache", "deep", "f"), "x")
	write(t, filepath.Join(root, "a.swp"), "x")
	must(t, os.Remove(filepath.Join(root, "a.swp")))
	must(t, os.Chmod(filepath.Join(root, "cache"), 0o700))
	mkdir(t, filepath.Join(root, "new", "deep"))
	quiet(t, w, 50*time.Millisecond)
	if n := w.Status().Watches; n != 1 {
		t.Errorf("%d watches, want 1", n)
	}
	// What leaves the excluded part is as good as new.
	must(t, os.Rename(filepath.Join(root, "cache", "deep"), filepath.Join(root, "deep")))
	until(t, w, "deep/f")
	write(t, filepath.Join(root, "deep", "f"), "y")
	until(t, w, "deep/f")
}

func TestIdleCostsNothing(t *testing.T) {
	root := folder(t)
	for i := range 100 {
		mkdir(t, filepath.Join(root, fmt.Sprint(i)))
	}
	w := follow(t, watch.Config{Root: root})
	before := cpu(t)
	quiet(t, w, 500*time.Millisecond)
	if used := cpu(t) - before; used > 10*time.Millisecond {
		t.Errorf("half an idle second took %v of processor time", used)
	}
}

func cpu(t *testing.T) time.Duration {
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestNextEndsWithItsContextAndWithTheWatcher(t *testing.T) {
	w, err := watch.New(watch.Config{Root: folder(t)})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.Next(ctx); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	must(t, w.Close())
	must(t, w.Close())
	if _, err := w.Next(context.Background()); err != watch.ErrClosed {
		t.Errorf("closed: %v", err)
	}
	if err := w.Run(context.Background()); err != watch.ErrClosed {
		t.Errorf("Run after Close: %v", err)
	}
	if _, err := watch.New(watch.Config{Root: "relative"}); err == nil {
		t.Error("a relative root was accepted")
	}
}
