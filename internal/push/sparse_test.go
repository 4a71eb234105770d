package push_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// counted counts what is written.
type counted struct {
	io.WriteCloser
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.WriteCloser.Write(p)
}

// dialCounted is dial, and counts the bytes that are sent.
func dialCounted(t *testing.T) (*sftpipe.Client, *atomic.Int64) {
	t.Helper()
	if _, err := os.Stat(sftpServer); err != nil {
		t.Skip("left out: OpenSSH's sftp-server is not installed (Debian: openssh-sftp-server)")
	}
	cmd := exec.Command(sftpServer)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	n := new(atomic.Int64)
	client, err := sftpipe.NewClient(t.Context(), pipe{out, counted{in, n}, func() error { return errors.Join(in.Close(), cmd.Process.Kill()) }})
	must(t, err)
	t.Cleanup(func() {
		client.Close()
		cmd.Wait()
	})
	return client, n
}

// occupied is how many bytes a file takes up on its disk.
func occupied(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

type part struct{ at, size int64 }

// sparseFile makes a file of that size, with data in some places.
func sparseFile(t *testing.T, name string, size int64, parts ...part) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for _, p := range parts {
		data := make([]byte, p.size)
		rng := rand.New(rand.NewPCG(uint64(p.at), uint64(size)))
		for i := range data {
			data[i] = byte(1 + rng.IntN(255))
		}
		_, err := f.WriteAt(data, p.at)
		must(t, err)
	}
	must(t, f.Sync()) // or some file systems call what they have not allocated yet a hole, or data
}

// TestSparseFiles (S2): holes are not sent and not filled, and what is remembered of a file is the sum of all its bytes.
func TestSparseFiles(t *testing.T) {
	probe := filepath.Join(t.TempDir(), "probe")
	sparseFile(t, probe, 8<<20, part{0, 4096})
	if occupied(t, probe) > 1<<20 {
		t.Skip("left out: no holes in this file system")
	}
	const mib = 1 << 20
	for name, c := range map[string]struct {
		size  int64
		parts []part
	}{
		"begin and end":       {64 * mib, []part{{0, mib}, {63 * mib, mib}}},
		"hole at both ends":   {64 * mib, []part{{20*mib + 4096, 3*mib + 100}}},
		"a large part":        {40 * mib, []part{{7 * mib, 17*mib + 1}}},
		"many parts":          {64 * mib, []part{{0, 10}, {5 * mib, 10}, {6 * mib, 70_000}, {30 * mib, 2 * mib}, {33 * mib, mib}, {64*mib - 3, 3}}},
		"nothing but a hole":  {32*mib + 7, nil},
		"small":               {512 << 10, []part{{100 << 10, 4096}}},
		"smaller than a hole": {40 << 10, []part{{0, 100}}},
	} {
		t.Run(name, func(t *testing.T) {
			client, sent := dialCounted(t)
			w := newWorld(t, client, t.TempDir(), 0)
			src, dst := filepath.Join(w.src, "f"), filepath.Join(w.dst, "f")
			check := func(what string, data int64) {
				t.Helper()
				before := sent.Load()
				w.push(t)
				w.identical(t)
				if n := sent.Load() - before; n > data+64<<10 {
					t.Errorf("%s: %d bytes were sent for %d of data", what, n, data)
				}
				if n := occupied(t, dst); n > data+128<<10 {
					t.Errorf("%s: the replica's file takes up %d bytes for %d of data", what, n, data)
				}
				content, err := os.ReadFile(src)
				must(t, err)
				if e, _ := w.known.Get("f"); e.Sum != sha256.Sum256(content) || e.Size != c.size {
					t.Errorf("%s: the sum of %d bytes is wrong", what, e.Size)
				}
			}
			data := min(c.size, 64<<10) // less than a hole
			for _, p := range c.parts {
				data += p.size + 8192
			}
			sparseFile(t, src, c.size, c.parts...)
			check("made", data)
			w.push(t)
			f, err := os.OpenFile(src, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("changed"), c.size/2)
			must(t, errors.Join(err, f.Close()))
			check("changed", data+64<<10)
		})
	}
}

// TestSparseFileIsFilled (S1): a hole that is filled after it was passed over has the file sent again, not half of it.
func TestSparseFileIsFilled(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	name := filepath.Join(w.src, "f")
	const size = 16 << 20
	sparseFile(t, name, size, part{4 << 20, 4 << 20})
	then := time.Now().Add(-time.Minute)
	must(t, os.Chtimes(name, then, then))
	<-time.After(30 * time.Millisecond) // or the change of a moment ago would have it read twice anyway
	before, err := os.ReadFile(name)
	must(t, err)
	fill := sync.OnceFunc(func() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt(bytes.Repeat([]byte("x"), 1<<20), 1<<20) // in what went by
		must(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte("y"), 1<<20), 7<<20) // in what is to come
		must(t, err)
	})
	src := tree.Tree{}
	_, err = w.root.Scan(t.Context(), ".", w.filter, src)
	must(t, err)
	_, err = w.replica.Apply(t.Context(), w.root, plan.Diff(src, w.known, plan.Scope{All: true}), w.known, w.at, func(_ int, bytes int64) {
		if bytes > 0 {
			fill()
		}
	})
	must(t, err)
	after, err := os.ReadFile(name)
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(w.dst, "f")); err == nil && !bytes.Equal(got, before) && !bytes.Equal(got, after) {
		t.Error("torn: two versions in one file")
	}
	w.push(t)
	w.identical(t)
}
