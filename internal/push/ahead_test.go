package push_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Lstat(path)
	must(t, err)
	return fi.Sys().(*syscall.Stat_t).Ino
}

// spooled are the inodes of the files that lie in the spool.
func spooled(t *testing.T, w *world) []uint64 {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dst, ".releve-spool"))
	must(t, err)
	var all []uint64
	for _, e := range entries {
		all = append(all, inode(t, filepath.Join(w.dst, ".releve-spool", e.Name())))
	}
	return all
}

// TestOpenAhead: a change goes into a file that was opened before it, but never in a directory with a group of its own.
func TestOpenAhead(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	must(t, os.Mkdir(filepath.Join(w.src, "shared"), 0o755))
	must(t, os.Chmod(filepath.Join(w.src, "shared"), 0o755|os.ModeSetgid))
	must(t, os.WriteFile(filepath.Join(w.src, "page"), []byte("one"), 0o640))
	w.push(t)
	for _, text := range []string{"three", "four", "seven"} {
		ahead := spooled(t, w)
		if len(ahead) == 0 || len(ahead) > 4 {
			t.Fatalf("%d files are open ahead", len(ahead))
		}
		for _, name := range []string{"page", "shared/page"} {
			must(t, os.WriteFile(filepath.Join(w.src, name), []byte(text), 0o640))
		}
		w.push(t)
		w.identical(t)
		if !slices.Contains(ahead, inode(t, filepath.Join(w.dst, "page"))) {
			t.Error("the file was not opened ahead")
		}
		if slices.Contains(ahead, inode(t, filepath.Join(w.dst, "shared/page"))) {
			t.Error("a file of a setgid directory was born elsewhere")
		}
	}
	fi, err := os.Stat(filepath.Join(w.dst, ".releve-spool"))
	must(t, err)
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("the spool has mode %v", fi.Mode())
	}
	w.read(t)
	if left := spooled(t, w); len(left) > 0 {
		t.Errorf("%d files stayed in the spool", len(left))
	}
	w.push(t)
	w.identical(t)
}

// TestSpoolDoesNotGrow: files that were open ahead and not needed, because only times had changed, are used later.
func TestSpoolDoesNotGrow(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	names := make([]string, 50)
	for i := range names {
		names[i] = filepath.Join(w.src, fmt.Sprint(i))
		must(t, os.WriteFile(names[i], []byte("text"), 0o644))
	}
	w.push(t)
	for i := range 10 {
		then := time.Unix(1e9+int64(i), 0)
		for _, name := range names {
			must(t, os.Chtimes(name, then, then))
		}
		w.push(t)
		w.identical(t)
	}
	for i := range 10 { // and so are those of files that are gone when it is their turn
		gone := filepath.Join(w.src, "gone")
		must(t, os.WriteFile(gone, []byte("text"), 0o644))
		src := tree.Tree{}
		_, err := w.root.Scan(t.Context(), ".", w.filter, src)
		must(t, err)
		must(t, os.Remove(gone))
		_, err = w.replica.Apply(t.Context(), w.root, plan.Diff(src, w.known, plan.Scope{All: true}), w.known, w.at.Add(time.Duration(i)*time.Minute), nil)
		must(t, err)
	}
	if n := len(spooled(t, w)); n > 8 { // the four that were taken, and four for them
		t.Errorf("%d files are open ahead", n)
	}
}

// TestSpoolThatVanished: what was open ahead is of no use then, and the change arrives all the same.
func TestSpoolThatVanished(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	must(t, os.WriteFile(filepath.Join(w.src, "page"), []byte("one"), 0o644))
	w.push(t)
	must(t, os.RemoveAll(filepath.Join(w.dst, ".releve-spool")))
	must(t, os.WriteFile(filepath.Join(w.src, "page"), []byte("other"), 0o644))
	if out := w.push(t); len(out.Again) == 0 {
		t.Fatalf("%+v", out)
	}
	w.push(t)
	w.read(t) // the target's time has changed with the spool
	w.push(t)
	w.identical(t)
}

// TestSpoolThatIsALink: nothing is written or removed through it.
func TestSpoolThatIsALink(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600))
	must(t, os.RemoveAll(filepath.Join(w.dst, ".releve-spool")))
	must(t, os.Symlink(outside, filepath.Join(w.dst, ".releve-spool")))
	w.read(t)
	for _, text := range []string{"three", "four"} {
		must(t, os.WriteFile(filepath.Join(w.src, "page"), []byte(text), 0o644))
		w.push(t)
	}
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != "precious" {
		t.Errorf("outside lies %v", entries)
	}
}

// wide is a world whose replica has further connections.
func wide(t *testing.T, n int) (*world, []*sftpipe.Client) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	clients := make([]*sftpipe.Client, n)
	for i := range clients {
		clients[i] = dial(t)
	}
	w.replica = push.New(push.Lanes{Small: dial(t), More: func(context.Context, bool) ([]*sftpipe.Client, func()) {
		return clients, func() {}
	}}, w.dst, "wide", 0)
	must(t, w.replica.Check(t.Context()))
	w.read(t)
	return w, clients
}

func noise(t *testing.T, path string, size int) {
	t.Helper()
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(data) //nolint:errcheck // it never fails
	must(t, os.WriteFile(path, data, 0o640))
}

// TestLargeFiles: whatever the sizes, a file in stripes is the file.
func TestLargeFiles(t *testing.T) {
	w, _ := wide(t, 3)
	for name, size := range map[string]int{"a": 8 << 20, "b": 9<<20 + 1, "c": 17<<20 - 1, "d": 3 << 20, "e": 1} {
		noise(t, filepath.Join(w.src, name), size)
	}
	w.push(t)
	w.identical(t)
}

// TestLostStripe: a further connection that ends in the middle ends that file alone, nothing has come into its place, and
// it is sent again.
func TestLostStripe(t *testing.T) {
	w, clients := wide(t, 2)
	noise(t, filepath.Join(w.src, "large"), 24<<20)
	src := tree.Tree{}
	_, err := w.root.Scan(t.Context(), ".", w.filter, src)
	must(t, err)
	sent := int64(0)
	out, err := w.replica.Apply(t.Context(), w.root, plan.Diff(src, w.known, plan.Scope{All: true}), w.known, w.at, func(_ int, n int64) {
		if sent += n; sent > 8<<20 {
			clients[1].Close()
		}
	})
	if err != nil || !slices.Contains(out.Again, "large") || len(out.Failed) > 0 {
		t.Errorf("the push ended with %+v, %v", out, err)
	}
	if _, err := os.Lstat(filepath.Join(w.dst, "large")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it lies in its place: %v", err)
	}
	if left := w.leftovers(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCarry: a large file that was uploaded ahead is put in place by the next plan, if it is still wanted.
func TestCarry(t *testing.T) {
	w, _ := wide(t, 2)
	large := filepath.Join(w.src, "large")
	noise(t, large, 9<<20)
	carry := func() uint64 {
		t.Helper()
		entry, err := w.root.Lstat("large")
		must(t, err)
		put := plan.Put{Path: "large", Entry: entry}
		if !w.replica.Carries(put, w.known) {
			t.Fatal("it is not carried")
		}
		c, err := w.replica.Carry(t.Context(), w.root, put, tree.Entry{}, func(int, int64) {})
		must(t, err)
		w.replica.Expect("large", c)
		all := spooled(t, w)
		return all[len(all)-1]
	}
	ino := carry()
	w.push(t)
	w.identical(t)
	if inode(t, filepath.Join(w.dst, "large")) != ino {
		t.Error("it was sent again")
	}

	noise(t, large, 10<<20)
	carry()
	must(t, os.Chmod(large, 0o600)) // S3: what was carried must not show with the mode of before
	w.push(t)
	must(t, w.replica.Forget(t.Context()))
	w.identical(t)

	noise(t, large, 11<<20)
	carry()
	f, err := os.OpenFile(large, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("more")
	must(t, errors.Join(err, f.Close()))
	if out := w.push(t); !slices.Contains(out.Again, "large") {
		t.Errorf("an older version was put in place and taken for the present one: %+v", out)
	}
	w.push(t)
	w.identical(t)

	must(t, os.WriteFile(large, nil, 0o600))
	w.push(t)
	noise(t, large, 12<<20)
	carry()
	must(t, os.Remove(large))
	must(t, w.replica.Forget(t.Context()))
	w.read(t)
	if left := spooled(t, w); len(left) > 0 {
		t.Errorf("%d files stayed in the spool", len(left))
	}
}
