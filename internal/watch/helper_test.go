package watch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"releve/internal/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; nothing waits that long when all is well.
const patience = 20 * time.Second

// follow starts a Watcher that ends with the test.
func follow(t *testing.T, cfg watch.Config, tricks ...watch.Trick) *watch.Watcher {
	t.Helper()
	w, err := watch.NewWith(cfg, tricks...)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w)
	return w
}

// run runs w until the test ends.
func run(t *testing.T, w *watch.Watcher) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
}

// next returns the next Changes.
func next(t *testing.T, w *watch.Watcher) watch.Changes {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := w.Next(ctx)
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return c
}

// quiet fails the test if anything comes within d.
func quiet(t *testing.T, w *watch.Watcher, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if c, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next: %+v, %v; want nothing", c, err)
	}
}

// until collects Changes until path has been named, by itself or as part of a subtree.
func until(t *testing.T, w *watch.Watcher, path string) watch.Changes {
	t.Helper()
	for {
		if c := next(t, w); names(c, path) {
			return c
		}
	}
}

// wait waits for a status; it may be another for a moment, while a directory is taken in again.
func wait(t *testing.T, w *watch.Watcher, good func(watch.Status) bool) watch.Status {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		s := w.Status()
		if good(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", s)
		}
	}
}

func watches(t *testing.T, w *watch.Watcher, n int) {
	t.Helper()
	wait(t, w, func(s watch.Status) bool { return s.Watches == n })
}

func names(c watch.Changes, path string) bool {
	return c.All || slices.Contains(c.Paths, path) || slices.ContainsFunc(c.Subtrees, func(s string) bool {
		return s == path || strings.HasPrefix(path, s+"/")
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder makes a temporary folder with its symbolic links resolved.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}
