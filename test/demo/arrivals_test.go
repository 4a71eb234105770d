package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestArrivals(t *testing.T) {
	source, replica := t.TempDir(), t.TempDir()
	old := time.Now().Add(-time.Hour)
	write := func(dir, path, text string) {
		t.Helper()
		name := filepath.Join(dir, path)
		if err := put(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{source, replica} {
		write(dir, "kept", "1")
		write(dir, "doomed/file", "1")
		write(dir, "moved/file", "1")
	}
	remove := func(dir string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "doomed")); err != nil {
			t.Fatal(err)
		}
	}
	a, err := newArrivals(source, replica)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(when string, want ...arrival) {
		t.Helper()
		got, err := a.look()
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].took < 0 || got[i].took > time.Minute {
				t.Errorf("%s: %q took %v", when, got[i].path, got[i].took)
			}
			got[i].took = 0
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %+v, want %+v", when, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %+v, want %+v", when, got[i], want[i])
			}
		}
	}
	expect("before any change")
	write(source, "kept", "longer")
	write(source, "new/file", "1")
	remove(source)
	expect("changed, not yet replicated")
	write(replica, "new/file", "1")
	write(replica, "kept", "longer")
	remove(replica)
	expect("replicated", arrival{path: "doomed", deleted: true}, arrival{path: "kept"}, arrival{path: "new"}, arrival{path: "new/file"})
	expect("afterwards")
}
