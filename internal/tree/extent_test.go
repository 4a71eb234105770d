package tree_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"releve/internal/tree"
)

func TestExtents(t *testing.T) {
	const kib = 1 << 10
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 2048*kib + 5
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{256 * kib, 288 * kib, 1024 * kib, 2047 * kib} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	all := func(least int64, most int) []tree.Extent {
		t.Helper()
		got, err := tree.Extents(f, size, least, most)
		if err != nil {
			t.Fatal(err)
		}
		if at, _ := f.Seek(0, 1); at != 0 {
			t.Errorf("left at %d", at)
		}
		return got
	}
	got := all(64*kib, 10)
	if len(got) == 1 && got[0] == (tree.Extent{To: size}) {
		t.Skip("left out: no holes in this file system")
	}
	if len(got) != 3 || got[0].From > 256*kib || got[0].From == 0 || got[0].To < 289*kib || got[1].From > 1024*kib || got[1].To > 1200*kib || got[2].To != size {
		t.Errorf("got %v", got)
	}
	if got := all(64*kib, 2); !slices.Equal(got, []tree.Extent{{To: size}}) {
		t.Errorf("too many: %v", got)
	}
	if got := all(512*kib, 10); len(got) != 3 || got[0].From != 0 {
		t.Errorf("holes of 512 KiB: %v", got)
	}

	// Not everything that can be read can tell.
	proc, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if got, err := tree.Extents(proc, 100, 10, 10); err != nil || !slices.Equal(got, []tree.Extent{{To: 100}}) {
		t.Errorf("got %v, %v", got, err)
	}
}
