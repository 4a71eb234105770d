package sftpipe_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"releve/pkg/sftpipe"
)

// TestSmallOvertakesBulk: a request passes the data of an upload that waits
// in the queue, all but what is being written.
func TestSmallOvertakesBulk(t *testing.T) {
	gated(t, 6, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
		var g sync.WaitGroup
		g.Go(func() {
			if n, err := c.Upload(t.Context(), "/large", io.LimitReader(zeros{}, 16<<20), sftpipe.Attrs{}); n != 16<<20 || err != nil {
				t.Error(n, err)
			}
		})
		synctest.Wait() // the server is at the first WRITE
		g.Go(func() { c.Upload(t.Context(), "/small", strings.NewReader("x"), sftpipe.Attrs{}) })
		g.Go(func() { c.Lstat(t.Context(), "/marker") })
		g.Go(func() { c.ReadFile(t.Context(), "/read", 10) })
		synctest.Wait()
		open()
		g.Wait()
		types := f.types()
		if got := bytes.Count(types[:bytes.IndexByte(types, 7)], []byte{6}); got > 2 {
			t.Errorf("%d WRITEs went before the small request", got)
		}
		if got := bytes.Count(types[:bytes.LastIndexByte(types, 3)], []byte{6}); got > 2 {
			t.Errorf("%d WRITEs went before the small file", got)
		}
		if got := bytes.Count(types[:bytes.IndexByte(types, 5)], []byte{6}); got > 4 {
			t.Errorf("%d WRITEs went before the small read", got)
		}
	})
}

// TestCloseComesLast: a CLOSE does not overtake the data of its file, although
// it has none itself; and data that was given up has made room for it.
func TestCloseComesLast(t *testing.T) {
	gated(t, 17, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
		file, err := c.OpenFile(t.Context(), "/f", sftpipe.OpenWrite, sftpipe.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		var g sync.WaitGroup
		for range 2 {
			g.Go(func() { c.Stat(t.Context(), "/") }) // stops the server
		}
		synctest.Wait()
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			g.Go(func() { file.WriteAt(ctx, make([]byte, 1<<20), 0) })
			synctest.Wait()
			cancel()
			synctest.Wait()
		}
		g.Go(func() {
			if n, err := file.WriteAt(t.Context(), make([]byte, 1<<20), 0); n != 1<<20 || err != nil {
				t.Error(n, err)
			}
		})
		synctest.Wait()
		g.Go(func() {
			if err := file.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		open()
		g.Wait()
	})
}

// TestBulkIsNotStarved: however much small work is queued, bulk gets a turn.
func TestBulkIsNotStarved(t *testing.T) {
	gated(t, 17, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
		file, err := c.OpenFile(t.Context(), "/bulk", sftpipe.OpenWrite, sftpipe.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		var g sync.WaitGroup
		g.Go(func() { c.Stat(t.Context(), "/") }) // stops the server
		synctest.Wait()
		long := strings.Repeat("x", 1000)
		for range 100 {
			g.Go(func() {
				reqs := make([]sftpipe.Request, 100)
				for i := range reqs {
					reqs[i] = sftpipe.Remove(long)
				}
				c.Do(t.Context(), reqs...)
			})
		}
		g.Go(func() { file.WriteAt(t.Context(), make([]byte, 100_000), 0) })
		synctest.Wait()
		open()
		g.Wait()
		file.Close(t.Context())
		types := f.types()
		if got := bytes.IndexByte(types, 6); got > 2000 {
			t.Errorf("the bulk WRITE had to wait for %d small requests of 1 KB", got)
		}
	})
}

// TestFlightsAreContiguous: whatever many goroutines send, the requests of
// one Do and the end of one upload arrive in order and with nothing in between.
func TestFlightsAreContiguous(t *testing.T) {
	f, c := fakeClient(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		f.mu.Lock()
		f.seen = nil
		f.mu.Unlock()
		sizes := rapid.SliceOfN(rapid.IntRange(1, 300), 1, 20).Draw(t, "flights")
		pad := strings.Repeat("p", rapid.IntRange(0, 500).Draw(t, "padding"))
		var g sync.WaitGroup
		for i, size := range sizes {
			g.Go(func() {
				reqs := make([]sftpipe.Request, size)
				for k := range reqs {
					reqs[k] = sftpipe.Remove(fmt.Sprintf("%d/%d/%s", i, k, pad))
				}
				for _, err := range c.Do(context.Background(), reqs...) {
					if err != nil {
						t.Error(err)
					}
				}
			})
			g.Go(func() {
				c.Upload(context.Background(), "/f", strings.NewReader(pad), sftpipe.Attrs{Has: sftpipe.HasMode})
			})
		}
		g.Wait()
		left, flight := 0, 0
		for i, w := range f.seen {
			switch {
			case left > 0:
				want := fmt.Sprintf("%d/%d/%s", flight, sizes[flight]-left, pad)
				if w.typ != 13 || w.str(0) != want {
					t.Fatalf("packet of type %d within flight %d", w.typ, flight)
				}
				left--
			case w.typ == 13:
				fmt.Sscanf(w.str(0), "%d/", &flight)
				left = sizes[flight] - 1
			case w.typ == 4:
				if before := f.seen[i-1]; before.typ != 10 || before.str(0) != w.str(0) {
					t.Fatalf("close of %s after type %d", w.str(0), before.typ)
				}
			}
		}
	})
	f.check(t)
}

// countingConn counts writes, their sizes, and the SSH packets they would be.
type countingConn struct {
	net.Conn
	writes, packets, most atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	c.packets.Add(int64(len(p)+32<<10-1) / (32 << 10))
	c.most.Store(max(c.most.Load(), int64(len(p))))
	return c.Conn.Write(p)
}

// TestCoalescing: what many goroutines ask for while the connection is busy
// goes out in one write, and data goes out in full SSH packets.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{17, make(chan struct{})}
		_, conn := serve(t, g.hook)
		counting := &countingConn{Conn: conn}
		c := connect(t, counting)
		var calls sync.WaitGroup
		calls.Go(func() { c.Stat(t.Context(), "/") })
		calls.Go(func() { c.Stat(t.Context(), "/") })
		synctest.Wait() // the server answers nothing, the second write is stuck
		before := counting.writes.Load()
		path := strings.Repeat("x", 100)
		for range 1000 {
			calls.Go(func() { c.Lstat(t.Context(), path) })
		}
		synctest.Wait()
		close(g.hold)
		calls.Wait()
		if got := counting.writes.Load() - before; got > 6 {
			t.Errorf("1000 requests of 117 bytes took %d writes", got)
		}
		if got := counting.most.Load(); got > 128<<10 {
			t.Errorf("small requests were written in %d bytes at once", got)
		}
		writes, packets := counting.writes.Load(), counting.packets.Load()
		if _, err := c.Upload(t.Context(), "/f", io.LimitReader(zeros{}, 10<<20), sftpipe.Attrs{}); err != nil {
			t.Fatal(err)
		}
		// One write for the chunks within a packet, one around its header, and
		// now and then one for a remainder with nothing queued behind it.
		if got := counting.writes.Load() - writes; got > 3*41 {
			t.Errorf("10 MiB took %d writes", got)
		}
		if got := counting.packets.Load() - packets; got > 320+41+5 {
			t.Errorf("10 MiB took %d SSH packets", got)
		}
	})
}

// TestMemoryIsBounded: a server that stops reading does not make the client
// read its sources to the end, however many there are.
func TestMemoryIsBounded(t *testing.T) {
	gated(t, 6, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		var taken atomic.Int64
		for i := range 256 {
			g.Go(func() {
				r := io.TeeReader(io.LimitReader(zeros{}, 1<<30), writerFunc(func(p []byte) { taken.Add(int64(len(p))) }))
				if i%2 == 0 {
					r = io.LimitReader(r, 10<<10)
				}
				c.Upload(ctx, "/f", r, sftpipe.Attrs{})
			})
		}
		synctest.Wait()
		runtime.GC()
		runtime.ReadMemStats(&after)
		const bound = 4<<20 + 4<<20 + 128*(256<<10+32<<10) + 4<<20
		if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > bound {
			t.Errorf("%d bytes held, at most %d expected", got, bound)
		}
		if got := taken.Load(); got > bound {
			t.Errorf("%d bytes taken from the sources", got)
		}
		cancel()
		g.Wait()
		open()
	})
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestConcurrentUploads: random files side by side arrive whole.
func TestConcurrentUploads(t *testing.T) {
	c := openSSH(t)
	round := 0
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		round++
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 2000), rapid.IntRange(30_000, 70_000), rapid.IntRange(0, 1<<20)), 1, 12).Draw(rt, "sizes")
		var g sync.WaitGroup
		for i, size := range sizes {
			g.Go(func() {
				path := filepath.Join(dir, fmt.Sprint(round, "-", i))
				want := content(size, uint64(i))
				n, err := c.Upload(context.Background(), path, bytes.NewReader(want), sftpipe.Attrs{Has: sftpipe.HasSize, Size: uint64(size)})
				if n != int64(size) || err != nil {
					rt.Errorf("upload: %d of %d, %v", n, size, err)
					return
				}
				got, err := c.ReadFile(context.Background(), path, int64(size))
				if err != nil || !bytes.Equal(got, want) {
					rt.Errorf("%d bytes came back as %d, %v", size, len(got), err)
				}
				if err := c.Do(context.Background(), sftpipe.Remove(path))[0]; err != nil {
					rt.Error(err)
				}
			})
		}
		g.Wait()
	})
}
