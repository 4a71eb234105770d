package push_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/pkg/sftpipe"
	"releve/test/sshworld"
)

// shelf is a BlockStore.
type shelf struct {
	mu     sync.Mutex
	blocks map[[32]byte]*push.Blocks
}

func (s *shelf) Load(sum [32]byte) *push.Blocks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocks[sum]
}

func (s *shelf) Save(sum [32]byte, b *push.Blocks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[sum] = b
}

// counting counts what is sent.
type counting struct {
	net.Conn
	sent atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// deltaWorld is a world of which the server is in this process, and breaks as fault says.
type deltaWorld struct {
	*world
	conn   *counting
	client *sftpipe.Client
	shelf  *shelf
	mu     sync.Mutex
	fault  func(op, path string) error
}

func newDeltaWorld(t *testing.T, without ...string) *deltaWorld {
	t.Helper()
	d := &deltaWorld{shelf: &shelf{blocks: map[[32]byte]*push.Blocks{}}}
	d.client, d.conn = d.dial(t, without...)
	d.world = newWorld(t, d.client, t.TempDir(), time.Hour)
	d.replica.Remember(d.shelf)
	return d
}

func (d *deltaWorld) dial(t *testing.T, without ...string) (*sftpipe.Client, *counting) {
	t.Helper()
	near, far := net.Pipe()
	conn := &counting{Conn: near}
	root, err := os.OpenRoot("/")
	must(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		sshworld.ServeSFTP(far, root, without, func(op, path string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.fault != nil {
				return d.fault(op, path)
			}
			return nil
		})
		far.Close()
		root.Close()
	})
	client, err := sftpipe.NewClient(t.Context(), conn)
	must(t, err)
	t.Cleanup(func() {
		client.Close()
		served.Wait()
	})
	return client, conn
}

// further gives the replica more connections.
func (d *deltaWorld) further(t *testing.T, more func() []*sftpipe.Client) {
	t.Helper()
	d.replica = push.New(push.Lanes{Small: d.client, More: func(_ context.Context, wait bool) ([]*sftpipe.Client, func()) {
		if !wait {
			return nil, func() {}
		}
		return more(), func() {}
	}}, d.dst, "further", time.Hour)
	d.replica.Remember(d.shelf)
	must(t, d.replica.Check(t.Context()))
	d.read(t)
}

// large is the source's file.
func (d *deltaWorld) large() string { return filepath.Join(d.src, "large") }

// pushed pushes and returns how many bytes that took.
func (d *deltaWorld) pushed(t fataler) int64 {
	t.Helper()
	before := d.conn.sent.Load()
	for range 3 {
		out := d.push(t)
		if out.Stale {
			d.read(t)
		}
		if !out.Stale && len(out.Again)+len(out.Failed) == 0 {
			break
		}
	}
	return d.conn.sent.Load() - before
}

// edit changes the bytes of a file from off on.
func edit(t fataler, name string, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(data, off)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func (d *deltaWorld) sound(t fataler) {
	t.Helper()
	d.identical(t)
	if left := d.leftovers(t); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
}

// TestDeltaSendsLittle: what is sent follows from what has changed, not from the size of the file.
func TestDeltaSendsLittle(t *testing.T) {
	t.Parallel()
	d := newDeltaWorld(t)
	const size = 10 << 20
	noise(t, d.large(), size)
	if n := d.pushed(t); n < size {
		t.Fatalf("%d bytes for all of it", n)
	}
	d.sound(t)
	const block = 64 << 10
	steps := []struct {
		name   string
		change func()
		most   int64
	}{
		{"4 KiB overwritten", func() { edit(t, d.large(), size/2+12345, make([]byte, 4<<10)) }, 2 * block},
		{"appended", func() { edit(t, d.large(), size, make([]byte, block)) }, 2 * block},
		{"appended again", func() { edit(t, d.large(), size+block, []byte("more")) }, 2 * block},
		{"cut off", func() { must(t, os.Truncate(d.large(), size-1000)) }, 2 * block},
		{"cut off where a block ends", func() { must(t, os.Truncate(d.large(), size-3*block)) }, block / 8},
		{"as long as before", func() { must(t, os.Truncate(d.large(), size-1000)) }, 4 * block},
		{"first and last byte", func() {
			edit(t, d.large(), 0, []byte("x"))
			edit(t, d.large(), size-1001, []byte("x"))
		}, 3 * block},
		{"mode", func() { must(t, os.Chmod(d.large(), 0o600)) }, block / 8},
		{"time", func() { must(t, os.Chtimes(d.large(), time.Now(), time.Unix(1e9, 5))) }, block / 8},
		{"another file of the same content", func() {
			content, err := os.ReadFile(d.large())
			must(t, errors.Join(err, os.WriteFile(d.src+".new", content, 0o644), os.Rename(d.src+".new", d.large())))
		}, block / 8},
		{"renamed", func() { must(t, os.Rename(d.large(), d.large()+"2")) }, block / 8},
		{"changed under its new name", func() { edit(t, d.large()+"2", 5<<20, []byte("x")) }, 2 * block},
	}
	for _, s := range steps {
		s.change()
		if n := d.pushed(t); n > s.most+block/8 {
			t.Errorf("%s: %d bytes", s.name, n)
		}
		d.sound(t)
	}
}

// TestDeltaOfAnyEdits: histories of random edits, each version of which arrives as it is.
func TestDeltaOfAnyEdits(t *testing.T) {
	t.Parallel()
	histories := 12
	if testing.Short() {
		histories = 3
	}
	for seed := range histories {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			var w *world
			if seed%3 == 0 {
				w = newWorld(t, dial(t), t.TempDir(), time.Hour)
				w.replica.Remember(&shelf{blocks: map[[32]byte]*push.Blocks{}})
			} else {
				w = newDeltaWorld(t).world
			}
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			name := filepath.Join(w.src, "large")
			noise(t, name, 9<<20)
			for step := range 12 {
				what := scribble(t, rng, name)
				w.push(t)
				w.identical(t)
				if left := w.leftovers(t); len(left) > 0 {
					t.Fatalf("step %d, %s: left %v", step, what, left)
				}
			}
		})
	}
}

// scribble changes a file somehow.
func scribble(t *testing.T, rng *rand.Rand, name string) string {
	info, err := os.Stat(name)
	must(t, err)
	size := info.Size()
	some := make([]byte, []int{1, 4096, 64 << 10, 300_000, 3 << 20}[rng.IntN(5)])
	rand.NewChaCha8([32]byte{byte(rng.Uint32())}).Read(some)
	off := rng.Int64N(size + 1)
	if rng.IntN(2) == 0 {
		off = off / (64 << 10) * (64 << 10)
	}
	switch rng.IntN(9) {
	case 0, 1, 2:
		edit(t, name, off, some)
		return fmt.Sprintf("%d bytes at %d", len(some), off)
	case 3:
		edit(t, name, size, some)
		return "appended"
	case 4:
		must(t, os.Truncate(name, max(off, 7<<20)))
		return fmt.Sprint("cut at ", off)
	case 5:
		must(t, os.Truncate(name, size+int64(len(some))))
		return "a hole at the end"
	case 6, 7: // something in the middle, or taken from it, and all that follows moves
		content, err := os.ReadFile(name)
		must(t, err)
		content = append(content[:off:off], append(some, content[min(size, off+rng.Int64N(1<<20)):]...)...)
		must(t, os.WriteFile(name+".new", content, 0o644))
		must(t, os.Rename(name+".new", name))
		return fmt.Sprint("moved from ", off)
	default:
		must(t, os.Chtimes(name, time.Now(), time.Unix(rng.Int64N(1e9), 0)))
		return "touched"
	}
}

// TestDeltaFallsBack: whatever keeps the server from copying, or makes what it copied doubtful, the file arrives whole.
func TestDeltaFallsBack(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	fail := func(op string, err error) func(*testing.T, *deltaWorld) {
		return func(_ *testing.T, d *deltaWorld) {
			d.fault = func(did, _ string) error {
				if did == op {
					return err
				}
				return nil
			}
		}
	}
	// nth has something happen at the n-th op, once.
	nth := func(op string, n int, do func(d *deltaWorld) error) func(*testing.T, *deltaWorld) {
		return func(_ *testing.T, d *deltaWorld) {
			d.fault = func(did, _ string) error {
				if did != op {
					return nil
				}
				if n--; n != 0 {
					return nil
				}
				return do(d)
			}
		}
	}
	theirs := func(d *deltaWorld) string { return filepath.Join(d.dst, "large") }
	errno := func(err error) func(*deltaWorld) error { return func(*deltaWorld) error { return err } }
	tests := map[string]func(t *testing.T, d *deltaWorld){
		"copy unknown":           fail("copy-data", syscall.ENOSYS),
		"copy forbidden":         fail("copy-data", syscall.EACCES),
		"copy refused":           fail("copy-data", syscall.EIO),
		"second copy refused":    nth("copy-data", 2, errno(syscall.EIO)),
		"piece fails":            nth("copy-write", 3, errno(syscall.EIO)),
		"last piece fails":       nth("copy-write", (size/2+12345)/(64<<10), errno(syscall.ENOSPC)),
		"last piece of all":      nth("copy-write", size/(64<<10)-1, errno(syscall.EIO)),
		"old cannot be read":     nth("open", 2, errno(syscall.EACCES)),
		"size cannot be told":    fail("fstat", syscall.EACCES),
		"changed before":         func(t *testing.T, d *deltaWorld) { edit(t, theirs(d), 77, []byte("stranger")) },
		"longer before":          func(t *testing.T, d *deltaWorld) { edit(t, theirs(d), size, []byte("stranger")) },
		"changed while copied":   nth("copy-write", 3, func(d *deltaWorld) error { return stranger(theirs(d), 0) }),
		"changed after the last": nth("fsetstat", 1, errno(nil)), // harmless: for the control
		"cut while copied":       nth("copy-data", 1, func(d *deltaWorld) error { return os.Truncate(theirs(d), 1<<20) }),
		"gone":                   func(t *testing.T, d *deltaWorld) { must(t, os.Remove(theirs(d))) },
		"a link": func(t *testing.T, d *deltaWorld) {
			must(t, os.Rename(theirs(d), theirs(d)+".other"))
			must(t, os.Symlink("large.other", theirs(d)))
		},
		"a FIFO": func(t *testing.T, d *deltaWorld) {
			must(t, os.Remove(theirs(d)))
			must(t, syscall.Mkfifo(theirs(d), 0o600))
		},
		"forgotten": func(_ *testing.T, d *deltaWorld) { clear(d.shelf.blocks) },
		"of another content": func(_ *testing.T, d *deltaWorld) {
			for _, b := range d.shelf.blocks {
				b.Size++
			}
		},
		"too few hashes": func(_ *testing.T, d *deltaWorld) {
			for _, b := range d.shelf.blocks {
				b.Hashes = b.Hashes[:3]
			}
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeltaWorld(t)
			noise(t, d.large(), size)
			must(t, os.Chtimes(d.large(), time.Now(), time.Unix(1e9, 0))) // another second than a stranger's
			d.pushed(t)
			d.sound(t)
			edit(t, d.large(), size/2+12345, []byte("changed"))
			d.mu.Lock()
			spoil(t, d)
			d.mu.Unlock()
			n := d.pushed(t)
			if harmless := name == "changed after the last"; harmless != (n < size) {
				t.Errorf("%d bytes", n)
			}
			d.mu.Lock()
			d.fault = nil
			d.mu.Unlock()
			d.read(t) // also what strangers put there is seen
			d.pushed(t)
			d.sound(t)
		})
	}
	t.Run("no such extension", func(t *testing.T) {
		t.Parallel()
		d := newDeltaWorld(t, "copy-data")
		noise(t, d.large(), size)
		d.pushed(t)
		edit(t, d.large(), 0, []byte("changed"))
		if n := d.pushed(t); n < size {
			t.Errorf("%d bytes", n)
		}
		d.sound(t)
		if len(d.shelf.blocks) > 0 {
			t.Error("hashes that are of no use were kept")
		}
	})
}

// stranger writes to a file of the replica.
func stranger(name string, off int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("stranger"), off)
	return errors.Join(err, f.Close())
}

// TestDeltaIsGivenUp: a file that has changed all over goes whole before long, over all connections there are.
func TestDeltaIsGivenUp(t *testing.T) {
	t.Parallel()
	d := newDeltaWorld(t)
	asked := 0
	d.further(t, func() []*sftpipe.Client { asked++; return nil })
	const size = 40 << 20
	noise(t, d.large(), size)
	d.pushed(t)
	asked = 0
	noise(t, d.large(), size+1)
	if n := d.pushed(t); n < size || n > size+24<<20 || asked != 2 {
		t.Errorf("%d bytes, further connections asked for %d times", n, asked)
	}
	d.sound(t)
}

// TestDeltaOverAConnectionOfItsOwn: when more than a little has changed, it does not stand in the way of what is small.
func TestDeltaOverAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	d := newDeltaWorld(t)
	own, conn := d.dial(t)
	clients := []*sftpipe.Client{own}
	d.further(t, func() []*sftpipe.Client { return clients })
	const size = 40 << 20
	noise(t, d.large(), size)
	d.pushed(t)
	before := conn.sent.Load()
	edit(t, d.large(), 20<<20, make([]byte, 10<<20))
	if n, there := d.pushed(t), conn.sent.Load()-before; n > 5<<20 || there < 10<<20 || there > 11<<20 {
		t.Errorf("%d bytes, and %d over the other connection", n, there)
	}
	d.sound(t)
	before = conn.sent.Load()
	edit(t, d.large(), 5<<20, make([]byte, 1<<20))
	if n, there := d.pushed(t), conn.sent.Load()-before; n < 1<<20 || there > 0 {
		t.Errorf("%d bytes, and %d over the other connection", n, there)
	}
	clients = nil
	edit(t, d.large(), 10<<20, make([]byte, 9<<20))
	if n := d.pushed(t); n < 9<<20 || n > 14<<20 {
		t.Errorf("%d bytes over the only connection", n)
	}
	d.sound(t)
}

// TestCarryOfWhatHasNotChanged: a large file that is what lies in its place already needs its time set, unless something
// else has come to lie there since.
func TestCarryOfWhatHasNotChanged(t *testing.T) {
	t.Parallel()
	for _, replaced := range []bool{false, true} {
		d := newDeltaWorld(t)
		const size = 9 << 20
		noise(t, d.large(), size)
		d.pushed(t)
		must(t, os.Chtimes(d.large(), time.Now(), time.Unix(1e9, 0)))
		entry, err := d.root.Lstat("large")
		must(t, err)
		was, _ := d.known.Get("large")
		put := plan.Put{Path: "large", Entry: entry, Old: plan.Same, Sum: was.Sum}
		c, err := d.replica.Carry(t.Context(), d.root, put, was, func(int, int64) {})
		must(t, err)
		d.replica.Expect("large", c)
		if replaced {
			must(t, stranger(filepath.Join(d.dst, "large"), 5))
			other, err := os.ReadFile(filepath.Join(d.dst, "large"))
			must(t, err)
			was.Sum = sha256.Sum256(other)
			d.known.Set("large", was)
		}
		if n := d.pushed(t); replaced != (n > size) {
			t.Errorf("replaced: %v, %d bytes", replaced, n)
		}
		d.sound(t)
	}
}

// TestDeltaOfAFileThatIsWritten: a file that changes while it is read is read again, and arrives as it is at last.
func TestDeltaOfAFileThatIsWritten(t *testing.T) {
	t.Parallel()
	d := newDeltaWorld(t)
	const size = 10 << 20
	noise(t, d.large(), size)
	d.pushed(t)
	edit(t, d.large(), 5<<20, []byte("changed"))
	changed := false
	d.mu.Lock()
	d.fault = func(op, _ string) error {
		if op == "copy-data" && !changed { // all of it has been read by then
			changed = true
			return stranger(d.large(), 1000)
		}
		return nil
	}
	d.mu.Unlock()
	d.pushed(t)
	if !changed {
		t.Fatal("nothing happened while it was read")
	}
	d.sound(t)
}

// TestDeltaNoSpace: a copy for which there is no room is said to lack room, and is not tried again with all the bytes.
func TestDeltaNoSpace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dst := filepath.Join(dir, "dst")
	must(t, os.Mkdir(dst, 0o755))
	if err := syscall.Mount("none", dst, "tmpfs", 0, "size=20m"); err != nil {
		t.Skipf("left out: mounting a small disk: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dst, syscall.MNT_DETACH) })
	w := newWorld(t, dial(t), dir, time.Hour)
	w.replica.Remember(&shelf{blocks: map[[32]byte]*push.Blocks{}})
	name := filepath.Join(w.src, "large")
	noise(t, name, 12<<20)
	w.push(t)
	w.identical(t)
	edit(t, name, 11<<20, []byte("changed"))
	out := w.push(t)
	if len(out.Failed) != 1 || !errors.Is(out.Failed[0].Err, push.ErrNoSpace) || !strings.Contains(out.Failed[0].Err.Error(), "copy-data") {
		t.Errorf("failed: %v", out.Failed)
	}
	if left := w.leftovers(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
