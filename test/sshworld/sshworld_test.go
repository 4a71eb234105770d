package sshworld_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"

	"releve/pkg/sshjump"
	"releve/test/sshworld"
)

func TestMain(m *testing.M) {
	syscall.Umask(0) // modes must not depend on ours
	goleak.VerifyTestMain(m)
}

// start runs a world for the length of a test.
func start(t *testing.T, o sshworld.Options) *sshworld.World {
	t.Helper()
	w, err := sshworld.Start(context.Background(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func hops(w *sshworld.World) []sshjump.Hop {
	return []sshjump.Hop{
		{Name: "bastion", Address: w.BastionAddr, User: w.BastionUser, KeyFile: w.BastionKey, KnownHosts: []string{w.KnownHosts}},
		{Name: "backup", Address: w.BackupName, User: w.BackupUser, KeyFile: w.BackupKey, KnownHosts: []string{w.KnownHosts}},
	}
}

func dial(t *testing.T, w *sshworld.World) *sshjump.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := sshjump.Dial(ctx, hops(w)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func client(t *testing.T, w *sshworld.World) *sftp.Client {
	t.Helper()
	s, err := sftp.NewClient(dial(t, w).Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// backends runs a test against the built-in SFTP server and against OpenSSH's.
func backends(t *testing.T, test func(t *testing.T, w *sshworld.World, c *sftp.Client)) {
	t.Run("builtin", func(t *testing.T) {
		w := start(t, sshworld.Options{})
		test(t, w, client(t, w))
	})
	t.Run("openssh", func(t *testing.T) {
		if _, err := os.Stat(sshworld.SFTPServer); err != nil {
			t.Skipf("needs OpenSSH's SFTP server: %v", err)
		}
		w := start(t, sshworld.Options{Command: []string{sshworld.SFTPServer}})
		test(t, w, client(t, w))
	})
}

// Both servers must answer alike: the codes, the modes, the order.
func TestSFTP(t *testing.T) {
	backends(t, func(t *testing.T, w *sshworld.World, c *sftp.Client) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		write := func(name, text string) {
			t.Helper()
			f, err := c.OpenFile(w.Remote(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
			must(err)
			_, err = f.Write([]byte(text))
			must(err)
			must(f.Close())
		}
		failure := func(err error, code uint32) {
			t.Helper()
			if status, ok := errors.AsType[*sftp.StatusError](err); !ok || status.Code != code {
				t.Errorf("got %v, want status %d", err, code)
			}
		}
		must(c.Mkdir(w.Remote("d")))
		write("d/a", "one")
		write("d/b", "two")
		if info, err := os.Stat(filepath.Join(w.Root, "d/a")); err != nil || info.Mode() != 0o644 {
			t.Errorf("created with %v, %v; want 0644", info.Mode(), err)
		}
		_, err := c.OpenFile(w.Remote("d/a"), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		failure(err, 4)
		failure(c.Rename(w.Remote("d/a"), w.Remote("d/b")), 4)
		must(c.PosixRename(w.Remote("d/a"), w.Remote("d/b")))
		if text, _ := os.ReadFile(filepath.Join(w.Root, "d/b")); string(text) != "one" {
			t.Errorf("d/b holds %q after the rename", text)
		}
		if _, err := c.Lstat(w.Remote("d/a")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("d/a: %v", err)
		}
		if _, err := c.Lstat(w.Remote("d/b/c")); !errors.Is(err, fs.ErrNotExist) { // ENOTDIR
			t.Errorf("d/b/c: %v", err)
		}
		must(c.Link(w.Remote("d/b"), w.Remote("d/hard")))
		failure(c.Link(w.Remote("d/b"), w.Remote("d/hard")), 4)
		must(c.Symlink("../else\xffwhere", w.Remote("d/link")))
		if target, err := c.ReadLink(w.Remote("d/link")); err != nil || target != "../else\xffwhere" {
			t.Errorf("link to %q, %v", target, err)
		}
		must(c.Chmod(w.Remote("d/b"), 0o4751|fs.ModeSetuid))
		must(c.Chtimes(w.Remote("d/b"), time.Unix(1, 0), time.Unix(1234567890, 0)))
		info, err := c.Lstat(w.Remote("d/hard"))
		must(err)
		if info.Mode().Perm() != 0o751 || info.Mode()&fs.ModeSetuid == 0 || info.ModTime().Unix() != 1234567890 || info.Size() != 3 {
			t.Errorf("d/hard: %v %v %d", info.Mode(), info.ModTime(), info.Size())
		}
		failure(c.RemoveDirectory(w.Remote("d")), 4)
		for i := range 250 {
			must(os.WriteFile(filepath.Join(w.Root, "d", "f"+string(rune('0'+i%10))+string(rune('a'+i/10))), nil, 0o600))
		}
		entries, err := c.ReadDir(w.Remote("d"))
		must(err)
		if len(entries) != 253 {
			t.Errorf("%d entries", len(entries))
		}
		if real, err := c.RealPath(w.Remote("d/../d/none")); err != nil || real != w.Remote("d/none") {
			t.Errorf("realpath %q, %v", real, err)
		}
		if vfs, err := c.StatVFS(w.Remote("d")); err != nil || vfs.Bavail == 0 || vfs.Namemax == 0 {
			t.Errorf("statvfs %+v, %v", vfs, err)
		}
		_, err = c.Lstat(w.Remote("d/a\x00b"))
		if err == nil {
			t.Error("a NUL in a name was let through")
		}
	})
}

func TestContained(t *testing.T) {
	w := start(t, sshworld.Options{})
	c := client(t, w)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(w.Root, "out")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/out", "/../../../../../../.." + secret} {
		if f, err := c.Open(p); err == nil {
			f.Close()
			t.Errorf("%s was opened", p)
		}
	}
}

func TestFault(t *testing.T) {
	w := start(t, sshworld.Options{Without: []string{"posix-rename@openssh.com"}})
	c := client(t, w)
	if _, ok := c.HasExtension("posix-rename@openssh.com"); ok {
		t.Error("posix-rename is still there")
	}
	w.Backup.SetFault(func(op, path string) error {
		if op == "write" && path == "full" {
			return syscall.ENOSPC
		}
		return nil
	})
	f, err := c.Create("/full")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("the disk is not full")
	}
	w.Backup.SetFault(nil)
	if _, err := f.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

func TestLargeFileComesBack(t *testing.T) {
	backends(t, func(t *testing.T, w *sshworld.World, c *sftp.Client) {
		want := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
		f, err := c.Create(w.Remote("large"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadFrom(bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}
