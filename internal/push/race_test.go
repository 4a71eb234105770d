package push_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestS1WholeWhateverHappensToTheSource: something happens to a file when a part of it has been read and is on its way.
// What lies on the replica then is a state that the file was in, and the next push makes both equal.
func TestS1WholeWhateverHappensToTheSource(t *testing.T) {
	const size = 3 << 20 // several requests
	old, now := strings.Repeat("a", size), strings.Repeat("b", size)
	for name, happens := range map[string]func(file string) error{
		"overwritten": func(file string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString(now)
			return err
		},
		"truncated":      func(file string) error { return os.Truncate(file, size/2) },
		"emptied":        func(file string) error { return os.Truncate(file, 0) },
		"written anew":   func(file string) error { return os.WriteFile(file, []byte(now), 0o644) },
		"deleted":        os.Remove,
		"renamed":        func(file string) error { return os.Rename(file, file+".1") },
		"made a folder":  func(file string) error { return os.Rename(filepath.Join(filepath.Dir(file), "folder"), swapped(file)) },
		"linked to /etc": func(file string) error { return os.Symlink("/etc/passwd", swapped(file)) },
		"replaced": func(file string) error {
			if err := os.WriteFile(file+"~", []byte(now), 0o644); err != nil {
				return err
			}
			return os.Rename(file+"~", file)
		},
		"folder linked away": func(file string) error {
			dir := filepath.Dir(file)
			return os.Symlink("/etc", swapped(dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var w *world
			var err error
			happened := false
			w = newFaultyWorld(t, time.Hour, func(op, path string) error {
				if op == "write" && !happened {
					happened = true
					err = happens(filepath.Join(w.src, "d/page"))
				}
				return nil
			})
			must(t, os.MkdirAll(filepath.Join(w.src, "d/folder"), 0o755))
			file := filepath.Join(w.src, "d/page")
			must(t, os.WriteFile(file, []byte(old), 0o644))
			<-time.After(30 * time.Millisecond) // or the change of a moment ago would have it read twice anyway
			w.push(t)
			must(t, err)
			if !happened {
				t.Fatal("nothing has happened")
			}
			got, err := os.ReadFile(filepath.Join(w.dst, "d/page"))
			if states := []string{old, now, old[:size/2], ""}; err == nil && !slices.Contains(states, string(got)) {
				t.Errorf("torn: %d bytes, %d of them the old ones", len(got), strings.Count(string(got), "a"))
			}
			for range 3 {
				w.push(t)
				w.read(t)
			}
			w.identical(t)
		})
	}
}

// swapped makes room for something else at a path.
func swapped(path string) string {
	_ = os.Rename(path, path+".was") // what follows fails if this did
	return path
}

// TestS1WholeThoughAnotherNameIsWritten: a file with two names loses the one under which it is being read, is written
// through the other, and is given its old time. Only its change time tells, which the loss of a name has changed as well.
func TestS1WholeThoughAnotherNameIsWritten(t *testing.T) {
	const size = 3 << 20 // several requests
	old, now := strings.Repeat("a", size), strings.Repeat("b", size)
	var w *world
	happened := false
	w = newFaultyWorld(t, time.Hour, func(op, path string) error {
		if op != "write" || happened {
			return nil
		}
		happened = true
		page, other := filepath.Join(w.src, "page"), filepath.Join(w.src, "other")
		info, err := os.Stat(page)
		must(t, err)
		must(t, os.Remove(page)) // it is read under one of them; which of them stays is all the same
		must(t, os.WriteFile(other, []byte(now), 0o644))
		must(t, os.Chtimes(other, info.ModTime(), info.ModTime()))
		return nil
	})
	must(t, os.WriteFile(filepath.Join(w.src, "page"), []byte(old), 0o644))
	must(t, os.Link(filepath.Join(w.src, "page"), filepath.Join(w.src, "other")))
	<-time.After(30 * time.Millisecond) // or the change of a moment ago would have it read twice anyway
	w.push(t)
	if !happened {
		t.Fatal("nothing has happened")
	}
	for name, states := range map[string][]string{"page": {old}, "other": {old, now}} {
		got, err := os.ReadFile(filepath.Join(w.dst, name))
		if err == nil && !slices.Contains(states, string(got)) {
			t.Errorf("%s is torn: %d bytes, %d of them the old ones", name, len(got), strings.Count(string(got), "a"))
		}
	}
	for range 3 {
		w.push(t)
		w.read(t)
	}
	w.identical(t)
}
