package sftpipe_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"releve/pkg/sftpipe"
)

// servers runs a test against each kind of real server.
func servers(t *testing.T, test func(t *testing.T, c *sftpipe.Client, dir string)) {
	t.Run("OpenSSH", func(t *testing.T) { test(t, openSSH(t), t.TempDir()) })
	t.Run("pkg/sftp", func(t *testing.T) { test(t, pkgSFTP(t), t.TempDir()) })
}

func content(size int, seed uint64) []byte {
	p := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(p)
	return p
}

func TestUploadSizes(t *testing.T) {
	servers(t, func(t *testing.T, c *sftpipe.Client, dir string) {
		max := c.Limits().MaxWrite
		for i, size := range []int{0, 1, 32<<10 - 1, 32 << 10, 32<<10 + 1, 64 << 10, 64<<10 + 1, max - 1, max, max + 1, 3 * max, 5<<20 + 17} {
			want := content(size, uint64(size))
			path := filepath.Join(dir, fmt.Sprint("f", i))
			attrs := sftpipe.Attrs{Has: sftpipe.HasMode | sftpipe.HasTimes, Mode: 0o640, Atime: 1, Mtime: 1_700_000_000}
			n, err := c.Upload(soon(t), path, bytes.NewReader(want), attrs)
			if err != nil || n != int64(size) {
				t.Fatalf("upload of %d bytes: %d, %v", size, n, err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes arrived as %d, %v", size, len(got), err)
			}
			if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o640 {
				t.Errorf("mode of %d bytes: %v", size, fi.Mode())
			} else if t.Name() == "TestUploadSizes/OpenSSH" && fi.ModTime().Unix() != 1_700_000_000 {
				// pkg/sftp's server works on WRITE and FSETSTAT in parallel.
				t.Errorf("mtime of %d bytes: %v", size, fi.ModTime())
			}
		}
	})
}

func TestUploadRefusesWhatExists(t *testing.T) {
	servers(t, func(t *testing.T, c *sftpipe.Client, dir string) {
		path := filepath.Join(dir, "f")
		os.Symlink("nowhere", path)
		_, err := c.Upload(soon(t), path, bytes.NewReader([]byte("x")), sftpipe.Attrs{})
		if _, ok := errors.AsType[*sftpipe.StatusError](err); !ok {
			t.Errorf("upload over a dangling link: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the link was followed")
		}
	})
}

func TestDoInOrder(t *testing.T) {
	c, dir := openSSH(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mode := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: 0o700}
	errs := c.Do(soon(t),
		sftpipe.Mkdir(at("a"), mode),
		sftpipe.Symlink("target", at("a/link")),
		sftpipe.Rename(at("a"), at("b")),
		sftpipe.Remove(at("gone")),
		sftpipe.Rename(at("b/link"), at("b/other")),
		sftpipe.Rmdir(at("b")),
		sftpipe.Lsetstat(at("b/other"), sftpipe.Attrs{Has: sftpipe.HasTimes, Mtime: 77}),
	)
	for i, err := range errs {
		switch i {
		case 3:
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removing what is not there: %v", err)
			}
		case 5:
			if err == nil {
				t.Error("a full directory was removed")
			}
		default:
			if err != nil {
				t.Error(err)
			}
		}
	}
	if got, err := c.Readlink(soon(t), at("b/other")); got != "target" || err != nil {
		t.Errorf("readlink: %q, %v", got, err)
	}
	if a, err := c.Lstat(soon(t), at("b/other")); a.Mtime != 77 || !a.IsSymlink() || err != nil {
		t.Errorf("lstat: %+v, %v", a, err)
	}
}

func TestReadDir(t *testing.T) {
	servers(t, func(t *testing.T, c *sftpipe.Client, dir string) {
		for _, count := range []int{0, 1, 98, 99, 350} {
			sub := filepath.Join(dir, fmt.Sprint(count))
			os.Mkdir(sub, 0o700)
			var want []string
			for i := range count {
				name := fmt.Sprintf("n\xff%d", i)
				want = append(want, name)
				os.WriteFile(filepath.Join(sub, name), nil, 0o600)
			}
			entries, err := c.ReadDir(soon(t), sub)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name)
				if !e.Attrs.IsRegular() {
					t.Errorf("%q: %+v", e.Name, e.Attrs)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%d names: got %d", count, len(got))
			}
		}
		if _, err := c.ReadDir(soon(t), filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("absent directory: %v", err)
		}
	})
}

func TestReadFile(t *testing.T) {
	servers(t, func(t *testing.T, c *sftpipe.Client, dir string) {
		path := filepath.Join(dir, "f")
		for _, size := range []int{0, 1, c.Limits().MaxRead, c.Limits().MaxRead + 1, 1 << 20} {
			want := content(size, 1)
			os.WriteFile(path, want, 0o600)
			got, err := c.ReadFile(soon(t), path, int64(size))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes read as %d: %v", size, len(got), err)
			}
			if size > 0 {
				if _, err := c.ReadFile(soon(t), path, int64(size)-1); err == nil {
					t.Errorf("%d bytes read with a limit of %d", size, size-1)
				}
			}
		}
		if got, err := c.ReadFile(soon(t), "/proc/self/status", 1<<20); err != nil || len(got) == 0 {
			t.Errorf("a file that says its size is 0: %d bytes, %v", len(got), err)
		}
	})
}

func TestFile(t *testing.T) {
	c, dir := openSSH(t), t.TempDir()
	old, path := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	want := content(3<<20, 5)
	os.WriteFile(old, want, 0o600)
	from, err := c.OpenFile(soon(t), old, sftpipe.OpenRead, sftpipe.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	to, err := c.Create(soon(t), path)
	if err != nil {
		t.Fatal(err)
	}
	// The middle travels in stripes, the ends are copied by the server.
	var g sync.WaitGroup
	for off := 1 << 20; off < 2<<20; off += 1 << 18 {
		g.Go(func() {
			if n, err := to.WriteAt(soon(t), want[off:off+1<<18], int64(off)); n != 1<<18 || err != nil {
				t.Error(n, err)
			}
		})
	}
	for _, off := range []int64{0, 2 << 20} {
		if err := c.CopyData(soon(t), from, off, 1<<20, to, off); err != nil {
			t.Error(err)
		}
	}
	g.Wait()
	if err := to.Fsync(soon(t)); err != nil {
		t.Error(err)
	}
	if a, err := to.Fstat(soon(t)); a.Size != 3<<20 || err != nil {
		t.Errorf("fstat: %+v, %v", a, err)
	}
	attrs := sftpipe.Attrs{Has: sftpipe.HasSize | sftpipe.HasMode, Size: 3 << 20, Mode: 0o644}
	if _, err := to.Finish(soon(t), nil, attrs); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	p := make([]byte, 3<<20+10)
	if n, err := from.ReadAt(soon(t), p, 0); n != len(want) || !bytes.Equal(p[:n], want) || err == nil {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	if n, err := from.ReadAt(soon(t), p[:1<<20], 12345); n != 1<<20 || !bytes.Equal(p[:n], want[12345:][:n]) || err != nil {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	if err := from.Close(soon(t)); err != nil {
		t.Error(err)
	}
	if _, err := from.ReadAt(soon(t), p, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStatVFSAndRealpath(t *testing.T) {
	c, dir := openSSH(t), t.TempDir()
	s, err := c.StatVFS(soon(t), dir)
	if err != nil || s.Available() == 0 || s.NameMax < 255 {
		t.Errorf("%+v, %v", s, err)
	}
	if got, err := c.Realpath(soon(t), dir+"/../"+filepath.Base(dir)); got != dir || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestManyRenames passes one file on through 5,000 names: it arrives only if
// every rename is carried out in its turn.
func TestManyRenames(t *testing.T) {
	c, dir := openSSH(t), t.TempDir()
	at := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	os.WriteFile(at(0), []byte("x"), 0o600)
	var reqs []sftpipe.Request
	for i := range 5000 {
		reqs = append(reqs, sftpipe.Rename(at(i), at(i+1)))
	}
	if err := errors.Join(c.Do(soon(t), reqs...)...); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(at(5000)); err != nil {
		t.Error(err)
	}
}
