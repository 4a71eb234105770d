package push_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/push"
)

// TestNoSpaceForOne: a file for which there is no room fails as such, though the disk is not full once its first part
// is gone again; what fits arrives.
func TestNoSpaceForOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dst := filepath.Join(dir, "dst")
	if err := os.Mkdir(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dst, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("left out: mounting a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dst, unix.MNT_DETACH) })
	w := newWorld(t, dial(t), dir, time.Hour)
	for name, size := range map[string]int64{"small": 10, "large": 8 << 20} {
		f, err := os.Create(filepath.Join(w.src, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	out := w.push(t)
	if len(out.Failed) != 1 || out.Failed[0].Path != "large" || !errors.Is(out.Failed[0].Err, push.ErrNoSpace) {
		t.Errorf("failed: %v", out.Failed)
	}
	if _, err := os.Stat(filepath.Join(w.dst, "small")); err != nil {
		t.Error(err)
	}
	if left := w.leftovers(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
