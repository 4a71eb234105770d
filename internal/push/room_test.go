package push_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/test/sshworld"
)

// used is how many bytes lie in dir, each file counted once.
func used(t *testing.T, dir string) uint64 {
	t.Helper()
	seen, sum := map[uint64]bool{}, uint64(0)
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && !seen[info.Sys().(*syscall.Stat_t).Ino] {
			seen[info.Sys().(*syscall.Stat_t).Ino] = true
			sum += uint64(info.Size())
		}
		return err
	}))
	return sum
}

// versions are what the trash holds of a path, oldest first.
func (w *world) versions(t *testing.T, p string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(w.dst, ".releve-trash", "*", p))
	must(t, err)
	var all []string
	for _, name := range names {
		content, err := os.ReadFile(name)
		must(t, err)
		all = append(all, string(content[:min(9, len(content))]))
	}
	return all
}

// TestTrashLeavesRoom: the trash gives way, the oldest first, before it fills the last twentieth of the disk; and nothing
// is kept while that is full of something else.
func TestTrashLeavesRoom(t *testing.T) {
	const size, version = 1_000_000, 10_000
	var others atomic.Uint64
	var dst string
	client := dialStrict(t, nil, func(op, _ string) error {
		if op != "statvfs" {
			return nil
		}
		return &sshworld.Disk{Size: size, Free: size - min(size, others.Load()+used(t, dst))}
	})
	dir := t.TempDir()
	dst = filepath.Join(dir, "dst")
	must(t, os.Mkdir(dst, 0o755))
	w := newWorld(t, client, dir, 24*time.Hour)
	n := 0
	change := func() {
		t.Helper()
		n++
		w.at = w.at.Add(time.Minute)
		must(t, os.WriteFile(filepath.Join(w.src, "f"), []byte(strings.Repeat(fmt.Sprintf("%09d\n", n), version/10)), 0o644))
		w.pushes(t, fmt.Sprint("version ", n), 1, version)
	}
	for range 21 {
		change()
	}
	if v := w.versions(t, "f"); len(v) != 20 || v[0] != "000000001" {
		t.Fatalf("with room for all, %d are kept: %q", len(v), v)
	}
	if kept, given := w.replica.Kept(); !kept || !given.IsZero() {
		t.Errorf("kept %v, given up at %v", kept, given)
	}

	others.Store(700_000) // 950,000 may be used, of which 910,000 are
	for range 20 {
		change()
		if in := used(t, dst) + others.Load(); in > size-size/20+version {
			t.Fatalf("%d bytes are used of %d", in, size)
		}
		if v := w.versions(t, "f"); len(v) < 20 {
			t.Fatalf("no more than %q are kept, though there is room for more", v)
		}
	}
	v := w.versions(t, "f")
	if len(v) < 10 || len(v) > 25 || v[0] == "000000001" || v[len(v)-1] != fmt.Sprintf("%09d", n-1) {
		t.Errorf("kept are %q", v)
	}
	if kept, given := w.replica.Kept(); !kept || given.IsZero() {
		t.Errorf("kept %v, given up at %v", kept, given)
	}

	others.Store(960_000)
	must(t, os.WriteFile(filepath.Join(w.src, "gone"), nil, 0o644))
	w.push(t)
	must(t, os.Remove(filepath.Join(w.src, "gone")))
	change()
	if kept, _ := w.replica.Kept(); kept {
		t.Error("called kept, with no room for that")
	}
	if left := used(t, filepath.Join(dst, ".releve-trash")); left > 0 || len(w.versions(t, "*")) > 0 {
		t.Errorf("%d bytes and %q are kept, with no room for them", left, w.versions(t, "*"))
	}
	others.Store(0)
	change()
	if kept, _ := w.replica.Kept(); !kept || len(w.versions(t, "f")) != 1 {
		t.Errorf("with room again, kept is %v: %q", kept, w.versions(t, "f"))
	}
}

// TestSmallDisk: on a real disk of 8 MiB, a file of 1 MiB is replaced again and again, and another is made for which there
// is room only when the trash has given way.
func TestSmallDisk(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "dst")
	must(t, os.Mkdir(dst, 0o755))
	if err := unix.Mount("none", dst, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("left out: mounting a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dst, unix.MNT_DETACH) })
	w := newWorld(t, dial(t), dir, 24*time.Hour)
	content := make([]byte, 1<<20)
	for range 12 {
		w.at = w.at.Add(time.Minute)
		rand.Read(content)
		must(t, os.WriteFile(filepath.Join(w.src, "f"), content, 0o644))
		w.pushes(t, "replaced", 1, 1<<20)
	}
	if n := len(w.versions(t, "f")); n < 4 || n > 6 {
		t.Errorf("%d versions are kept", n)
	}
	w.at = w.at.Add(time.Minute)
	must(t, os.WriteFile(filepath.Join(w.src, "large"), bytes.Repeat(content, 5), 0o644))
	if out := w.push(t); len(out.Failed) > 1 {
		t.Errorf("got %+v", out)
	}
	w.at = w.at.Add(time.Minute)
	w.push(t)
	w.identical(t)

	// Somebody else fills what is left.
	must(t, os.WriteFile(filepath.Join(dst, ".releve-filler"), bytes.Repeat(content[:100<<10], 17), 0o600))
	w.at = w.at.Add(time.Minute)
	must(t, os.WriteFile(filepath.Join(w.src, "f"), []byte("small"), 0o644))
	w.push(t) // which makes room
	w.identical(t)
	if v := w.versions(t, "*"); len(v) > 0 {
		t.Errorf("%d versions are kept, with no room for them", len(v))
	}
}
