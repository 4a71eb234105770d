package tree_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/tree"
)

// bothWays runs a test with openat2(2) and with what stands in for it.
func bothWays(t *testing.T, test func(t *testing.T, open func(path string) *tree.Root)) {
	for name, walk := range map[string]bool{"openat2": false, "walk": true} {
		t.Run(name, func(t *testing.T) {
			test(t, func(path string) *tree.Root {
				r, err := tree.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if walk {
					tree.ResolveByWalking(r)
				}
				return r
			})
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a folder with a secret beside it and links that lead there.
func world(t *testing.T) (dir, secret string) {
	t.Helper()
	top := t.TempDir()
	dir, secret = filepath.Join(top, "www"), filepath.Join(top, "secret")
	write(t, filepath.Join(secret, "key"), "secret")
	write(t, filepath.Join(dir, "real", "key"), "public")
	must(t, os.Symlink(secret, filepath.Join(dir, "out")))
	must(t, os.Symlink("../secret", filepath.Join(dir, "up")))
	must(t, os.Symlink("real", filepath.Join(dir, "in")))
	must(t, os.Symlink("real/key", filepath.Join(dir, "file")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	return dir, secret
}

func TestNoPathLeadsThroughALink(t *testing.T) {
	dir, _ := world(t)
	bothWays(t, func(t *testing.T, open func(string) *tree.Root) {
		r := open(dir)
		for path, want := range map[string]error{
			"real/key":      nil,
			"out/key":       fs.ErrNotExist,
			"up/key":        fs.ErrNotExist,
			"in/key":        fs.ErrNotExist, // stays inside, and is no directory all the same
			"real/key/x":    fs.ErrNotExist,
			"missing":       fs.ErrNotExist,
			"missing/x":     fs.ErrNotExist,
			"file":          tree.ErrNotRegular,
			"out":           tree.ErrNotRegular,
			"fifo":          tree.ErrNotRegular,
			"real":          tree.ErrNotRegular,
			".":             tree.ErrNotRegular,
			"..":            fs.ErrInvalid,
			"../secret/key": fs.ErrInvalid,
			"real/../file":  fs.ErrInvalid,
			"/etc/passwd":   fs.ErrInvalid,
			"":              fs.ErrInvalid,
			"real/":         fs.ErrInvalid,
			"real//key":     fs.ErrInvalid,
			"real/\x00":     fs.ErrInvalid,
		} {
			f, _, err := r.OpenFile(path)
			if !errors.Is(err, want) || err == nil != (want == nil) {
				t.Errorf("OpenFile(%q) = %v, want %v", path, err, want)
			}
			if f != nil {
				content, err := io.ReadAll(f)
				if string(content) != "public" || err != nil {
					t.Errorf("%q holds %q, %v", path, content, err)
				}
				must(t, f.Close())
			}
			if _, err := r.Lstat(path); want != tree.ErrNotRegular && (!errors.Is(err, want) || err == nil != (want == nil)) {
				t.Errorf("Lstat(%q) = %v, want %v", path, err, want)
			}
		}
		for path, target := range map[string]string{"in": "real", "up": "../secret", "file": "real/key"} {
			e, err := r.Lstat(path)
			if err != nil || e.Type != tree.Link || e.Link != target || e.Mode != 0 || e.Size != 0 {
				t.Errorf("Lstat(%q) = %+v, %v", path, e, err)
			}
		}
		got := tree.Tree{}
		if problems, err := r.Scan(t.Context(), ".", nil, got); err != nil || len(problems) > 0 {
			t.Error(err, problems)
		}
		if len(got) != 8 || got["in/key"].Ino != 0 || got["out/key"].Ino != 0 || got["fifo"].Type != tree.Other {
			t.Errorf("scan saw %v", got)
		}
		for _, path := range []string{"out", "in"} {
			got := tree.Tree{}
			if problems, err := r.Scan(t.Context(), path, nil, got); err != nil || len(problems) > 0 || len(got) != 1 || got[path].Type != tree.Link {
				t.Errorf("Scan(%q): %v, %v, %v", path, got, problems, err)
			}
			got = tree.Tree{}
			if problems, err := r.Scan(t.Context(), path+"/key", nil, got); err != nil || len(problems) > 0 || len(got) != 0 {
				t.Errorf("Scan(%q): %v, %v, %v", path+"/key", got, problems, err)
			}
		}
	})
}

// TestS4SwappedDirectory exchanges a directory for links, in a tight loop, while it is read in every way there is.
func TestS4SwappedDirectory(t *testing.T) {
	dir, secret := world(t)
	spare := filepath.Join(dir, "spare")
	must(t, os.Symlink(secret, spare))
	bothWays(t, func(t *testing.T, open func(string) *tree.Root) {
		r := open(dir)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop()
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "real"), unix.AT_FDCWD, spare, unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		})
		var read, refused int
		for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
			f, _, err := r.OpenFile("real/key")
			switch {
			case err == nil:
				content, _ := io.ReadAll(f)
				must(t, f.Close())
				if string(content) != "public" {
					t.Fatalf("read %q", content)
				}
				read++
			case errors.Is(err, fs.ErrNotExist):
				refused++
			default:
				t.Fatal(err)
			}
			if e, err := r.Lstat("real/key"); err == nil && e.Size != int64(len("public")) {
				t.Fatal("looked outside")
			}
			got := tree.Tree{}
			if _, err := r.Scan(t.Context(), ".", nil, got); err != nil {
				t.Fatal(err)
			}
			secretInfo, err := os.Stat(filepath.Join(secret, "key"))
			must(t, err)
			for path, e := range got {
				if e.Ino == secretInfo.Sys().(*syscall.Stat_t).Ino {
					t.Fatalf("scan saw the secret at %q", path)
				}
			}
		}
		if read == 0 || refused == 0 {
			t.Errorf("the swap was not seen from both sides: %d read, %d refused", read, refused)
		}
	})
}

// TestSwappedFile exchanges a file for a FIFO: a reader that opened it would hang.
func TestSwappedFile(t *testing.T) {
	dir, _ := world(t)
	fifo, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "real", "key")
	bothWays(t, func(t *testing.T, open func(string) *tree.Root) {
		r := open(dir)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop()
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := unix.Renameat2(unix.AT_FDCWD, fifo, unix.AT_FDCWD, file, unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		})
		var read, refused int
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			f, e, err := r.OpenFile("real/key")
			switch {
			case err == nil && e.Type == tree.File:
				must(t, f.Close())
				read++
			case errors.Is(err, tree.ErrNotRegular):
				refused++
			default:
				t.Fatal(e, err)
			}
		}
		if read == 0 || refused == 0 {
			t.Errorf("the swap was not seen from both sides: %d read, %d refused", read, refused)
		}
	})
}

// TestOpenFileWakesNobody: not even an open that fails later may reach a FIFO, whose writer waits for a reader, or a
// device; inotify(7) tells of opens.
func TestOpenFileWakesNobody(t *testing.T) {
	dir, _ := world(t)
	r, err := tree.Open(dir)
	must(t, err)
	in, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	defer unix.Close(in)
	_, err = unix.InotifyAddWatch(in, filepath.Join(dir, "fifo"), unix.IN_OPEN)
	must(t, err)
	if _, _, err := r.OpenFile("fifo"); !errors.Is(err, tree.ErrNotRegular) {
		t.Error(err)
	}
	if n, err := unix.Read(in, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("the FIFO was opened: %d, %v", n, err)
	}
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a\xff\n"), "content")
	must(t, os.Chmod(filepath.Join(dir, "a\xff\n"), 0o640|fs.ModeSetgid))
	must(t, os.Chtimes(filepath.Join(dir, "a\xff\n"), time.Time{}, time.Unix(1234567890, 987654321)))
	r, err := tree.Open(dir)
	must(t, err)
	f, e, err := r.OpenFile("a\xff\n")
	must(t, err)
	defer f.Close()
	if e.Type != tree.File || e.Mode != 0o640|fs.ModeSetgid || e.Size != 7 || e.MTime != 1234567890_987654321 || e.Nlink != 1 || e.Ino == 0 || e.CTime == 0 {
		t.Errorf("%+v", e)
	}
	sum, n, err := tree.Hash(f)
	if sum != sha256.Sum256([]byte("content")) || n != 7 || err != nil {
		t.Error(sum, n, err)
	}
	after, err := tree.Stat(f)
	if err != nil || !tree.Unchanged(e, after) {
		t.Error(after, err)
	}
	// The same size, and the time set back: ctime alone tells.
	must(t, os.WriteFile(f.Name(), []byte("CONTENT"), 0))
	must(t, os.Chtimes(f.Name(), time.Time{}, time.Unix(0, e.MTime)))
	for deadline := time.Now().Add(5 * time.Second); ; { // of the kernel's clock to tick
		if after, err = tree.Stat(f); err != nil || !tree.Unchanged(e, after) || time.Now().After(deadline) {
			break
		}
		must(t, os.Chtimes(f.Name(), time.Time{}, time.Unix(0, e.MTime)))
	}
	if err != nil || after.MTime != e.MTime || after.Size != e.Size || tree.Unchanged(e, after) {
		t.Error("a rewrite went unnoticed", after, err)
	}
	must(t, os.Chmod(f.Name(), 0o600))
	if after, err := tree.Stat(f); err != nil || tree.Unchanged(e, after) {
		t.Error("a chmod went unnoticed", after, err)
	}
}

// TestRootChanged: whatever happens to the root itself, no call may say of an entry that it does not exist.
func TestRootChanged(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"gone":      func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"renamed":   func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".old")) },
		"a file":    func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); write(t, dir, "") },
		"loop":      func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); must(t, os.Symlink(dir, dir)) },
		"re-made":   func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".old")); must(t, os.Mkdir(dir, 0o755)) },
		"elsewhere": func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".old")); must(t, os.Symlink("/", dir)) },
		"mounted over": func(t *testing.T, dir string) {
			if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
				t.Skipf("left out: mounting needs root: %v", err)
			}
			t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
		},
		"another tmpfs": func(t *testing.T, dir string) { // whose root has the same inode number
			must(t, unix.Unmount(dir, unix.MNT_DETACH))
			must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "www")
			if name == "another tmpfs" {
				must(t, os.Mkdir(dir, 0o755))
				if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
					t.Skipf("left out: mounting needs root: %v", err)
				}
				// Keeps the device number from being given to the next tmpfs.
				hold, err := os.Open(dir)
				must(t, err)
				t.Cleanup(func() { must(t, hold.Close()); must(t, unix.Unmount(dir, 0)) })
			}
			write(t, filepath.Join(dir, "file"), "")
			r, err := tree.Open(dir)
			must(t, err)
			must(t, r.Check())
			change(t, dir)
			_, _, openErr := r.OpenFile("file")
			_, lstatErr := r.Lstat("file")
			_, scanErr := r.Scan(t.Context(), ".", nil, tree.Tree{})
			_, subErr := r.Scan(t.Context(), "missing", nil, tree.Tree{})
			for what, err := range map[string]error{"Check": r.Check(), "OpenFile": openErr, "Lstat": lstatErr, "Scan": scanErr, "Scan below": subErr} {
				if !errors.Is(err, tree.ErrRootChanged) || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestRootBehindALink(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "releases/1/v"), "one")
	write(t, filepath.Join(dir, "releases/2/v"), "two")
	current := filepath.Join(dir, "current")
	must(t, os.Symlink("releases/1", current))
	r, err := tree.Open(current)
	must(t, err)
	if _, err := r.Lstat("v"); err != nil {
		t.Error(err)
	}
	must(t, os.Symlink("releases/2", current+".new"))
	must(t, os.Rename(current+".new", current))
	if _, _, err := r.OpenFile("v"); !errors.Is(err, tree.ErrRootChanged) {
		t.Error(err)
	}
	r, err = tree.Open(current)
	must(t, err)
	if e, err := r.Lstat("v"); err != nil || e.Size != 3 {
		t.Error(e, err)
	}
}

// TestRootKeepsNothingOpen: a file system with a folder on it can be unmounted between two calls.
func TestRootKeepsNothingOpen(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("left out: mounting needs root: %v", err)
	}
	r, err := tree.Open(dir)
	must(t, err)
	if _, err := r.Scan(t.Context(), ".", nil, tree.Tree{}); err != nil {
		t.Error(err)
	}
	must(t, unix.Unmount(dir, 0))
	if err := r.Check(); !errors.Is(err, tree.ErrRootChanged) {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for path, want := range map[string]error{"missing": fs.ErrNotExist, "file": unix.ENOTDIR} {
		_, err := tree.Open(filepath.Join(dir, path))
		if !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%q) = %v", path, err)
		}
	}
	r, err := tree.Open(dir)
	must(t, err)
	must(t, r.Close())
	if _, err := r.Lstat("file"); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}

func TestEqual(t *testing.T) {
	e := tree.Entry{Type: tree.File, Mode: 0o644, Size: 3, MTime: 5_999_999_999}
	for name, c := range map[string]struct {
		change func(*tree.Entry)
		equal  bool
	}{
		"same second": {func(o *tree.Entry) { o.MTime = 5_000_000_000 }, true},
		"next second": {func(o *tree.Entry) { o.MTime = 6_000_000_000 }, false},
		"inode":       {func(o *tree.Entry) { o.Ino, o.CTime, o.Nlink = 1, 2, 3 }, true},
		"size":        {func(o *tree.Entry) { o.Size = 4 }, false},
		"mode":        {func(o *tree.Entry) { o.Mode |= fs.ModeSetuid }, false},
		"type":        {func(o *tree.Entry) { o.Type = tree.Link }, false},
		"target":      {func(o *tree.Entry) { o.Link = "x" }, false},
	} {
		other := e
		c.change(&other)
		if tree.Equal(e, other) != c.equal || tree.Equal(other, e) != c.equal {
			t.Errorf("%s: %v", name, !c.equal)
		}
	}
	for ns, want := range map[int64]int64{-1: -1, -1_000_000_000: -1, -1_000_000_001: -2, 0: 0, 999_999_999: 0} {
		if got := (tree.Entry{MTime: ns}).Seconds(); got != want {
			t.Errorf("%d ns = %d s, want %d", ns, got, want)
		}
	}
}
