package push_test

import (
	"bytes"
	"errors"
	"fmt"
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
	smallDisk(t, filepath.Join(dir, "dst"), "size=4m")
	w := newWorld(t, dial(t), dir, time.Hour)
	for name, size := range map[string]int{"small": 10, "large": 8 << 20} {
		must(t, os.WriteFile(filepath.Join(w.src, name), bytes.Repeat([]byte("x"), size), 0o644))
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

// smallDisk mounts one on a folder.
func smallDisk(t *testing.T, dst, options string) {
	t.Helper()
	if err := os.Mkdir(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dst, "tmpfs", 0, options); err != nil {
		t.Skipf("left out: mounting a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dst, unix.MNT_DETACH) })
}

// TestNoSpaceForAFolder: where not even a directory can be made any more, neither in its place nor in the trash, that
// is what is said. What lies where it was to be keeps its mode.
func TestNoSpaceForAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	smallDisk(t, filepath.Join(dir, "dst"), "nr_inodes=30")
	w := newWorld(t, dial(t), dir, time.Hour)
	at := func(name string) string { return filepath.Join(w.src, name) }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.MkdirAll(at("old/deep"), 0o755))
	for _, name := range []string{"old/gone", "old/deep/gone", "moved", "old/kept", "old/private"} {
		do(os.WriteFile(at(name), []byte(name), 0o600))
	}
	w.push(t)
	w.identical(t)

	do(os.Rename(at("old"), at("new")))
	for _, name := range []string{"new/gone", "new/deep/gone", "new/private"} {
		do(os.Remove(at(name)))
	}
	do(os.Mkdir(at("new/private"), 0o755))
	do(os.Rename(at("moved"), at("new/private/moved"))) // so that it is made in its place
	var fillers []string
	for n := 0; ; n++ {
		name := filepath.Join(w.dst, fmt.Sprint(".releve-filler", n))
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			break
		}
		fillers = append(fillers, name)
	}
	failed := map[string]error{}
	for _, f := range w.push(t).Failed {
		failed[f.Path] = f.Err
	}
	for _, p := range []string{"new/private", "new/gone", "new/deep/gone"} {
		if !errors.Is(failed[p], push.ErrNoSpace) {
			t.Errorf("%s: %v, want %v", p, failed[p], push.ErrNoSpace)
		}
	}
	if info, err := os.Lstat(filepath.Join(w.dst, "new/private")); err != nil || info.Mode() != 0o600 {
		t.Errorf("what was private: %v, %v", info, err)
	}
	w.read(t) // a move has failed
	for _, name := range fillers {
		do(os.Remove(name))
	}
	if out := w.push(t); len(out.Failed) > 0 || out.Stale {
		t.Errorf("with room again: %+v", out)
	}
	w.push(t)
	w.identical(t)
	kept, err := filepath.Glob(filepath.Join(w.dst, ".releve-trash/*/new/gone"))
	if err != nil || len(kept) != 1 {
		t.Errorf("in the trash: %v, %v", kept, err)
	}
}

// TestNoSpaceForATrashAtFirst: the trash that could not be made is made by the same process when there is room.
func TestNoSpaceForATrashAtFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	smallDisk(t, filepath.Join(dir, "dst"), "nr_inodes=30")
	w := newWorld(t, dial(t), dir, time.Hour)
	if err := os.WriteFile(filepath.Join(w.src, "gone"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.push(t)
	if err := os.Remove(filepath.Join(w.src, "gone")); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; err == nil; n++ {
		err = os.WriteFile(filepath.Join(w.dst, fmt.Sprint(".releve-filler", n)), nil, 0o644)
	}
	if out := w.push(t); len(out.Failed) != 1 || out.Stale || !errors.Is(out.Failed[0].Err, push.ErrNoSpace) {
		t.Errorf("%+v", out)
	}
	for i := range n - 1 {
		if err := os.Remove(filepath.Join(w.dst, fmt.Sprint(".releve-filler", i))); err != nil {
			t.Fatal(err)
		}
	}
	if out := w.push(t); len(out.Failed) > 0 || out.Stale || out.Deleted != 1 {
		t.Errorf("with room again: %+v", out)
	}
	w.identical(t)
}
