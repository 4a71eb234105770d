package sftpipe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"releve/pkg/sftpipe"
)

// parts gives one part after the other.
func parts(all ...sftpipe.Part) func() (sftpipe.Part, error) {
	return func() (sftpipe.Part, error) {
		if len(all) == 0 {
			return sftpipe.Part{}, io.EOF
		}
		p := all[0]
		all = all[1:]
		return p, nil
	}
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// assemble makes a new file at path of parts of the old one.
func assemble(ctx context.Context, t fataler, c *sftpipe.Client, old, path string, next func() (sftpipe.Part, error), attrs sftpipe.Attrs) (int64, error) {
	t.Helper()
	was, err := c.Lstat(ctx, old)
	must(t, err)
	from, err := c.OpenFile(ctx, old, sftpipe.OpenRead, sftpipe.Attrs{})
	must(t, err)
	to, err := c.Create(ctx, path)
	must(t, err)
	return to.Assemble(ctx, from, was, next, attrs)
}

// TestAssembleAnything: whatever is copied and written in whatever order, OpenSSH's server makes of it what was meant.
func TestAssembleAnything(t *testing.T) {
	c, dir := openSSH(t), t.TempDir()
	old := content(18<<20, 1)
	must(t, os.WriteFile(filepath.Join(dir, "old"), old, 0o600))
	rapid.Check(t, func(t *rapid.T) {
		var want []byte
		var all []sftpipe.Part
		sizes := []int{0, 1, 1000, 32 << 10, 64 << 10, 261120, 300_000}
		if rapid.IntRange(0, 20).Draw(t, "large") == 0 {
			sizes = append(sizes, 17<<20) // more than one request
		}
		for range rapid.IntRange(0, 8).Draw(t, "parts") {
			size := rapid.SampledFrom(sizes).Draw(t, "size")
			off := rapid.IntRange(0, len(old)-size).Draw(t, "off")
			if rapid.Bool().Draw(t, "copy") {
				all = append(all, sftpipe.Part{Off: int64(off), N: int64(size)})
			} else {
				all = append(all, sftpipe.Part{Data: bytes.ToUpper(old[off : off+size])})
			}
			piece := old[off : off+size]
			if all[len(all)-1].Data != nil {
				piece = all[len(all)-1].Data
			}
			want = append(want, piece...)
		}
		path := filepath.Join(dir, "new")
		defer os.Remove(path)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		got, err := assemble(ctx, t, c, filepath.Join(dir, "old"), path, parts(all...), sftpipe.Attrs{Has: sftpipe.HasMode | sftpipe.HasTimes | sftpipe.HasSize, Mode: 0o640, Mtime: 77, Size: uint64(len(want))})
		if err != nil || got != int64(len(want)) {
			t.Fatalf("%d of %d bytes, %v", got, len(want), err)
		}
		have, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || !bytes.Equal(have, want) || info.ModTime().Unix() != 77 || info.Mode() != 0o640 {
			t.Fatalf("it is another: %v, %v", err, info)
		}
	})
}

// TestAssembleOnAFullDisk: OpenSSH says that a copy has succeeded of which the last 64 KiB found no room.
func TestAssembleOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("left out: mounting a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c := openSSH(t)
	old, path := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	must(t, os.WriteFile(old, content(4<<20+20<<10, 1), 0o600)) // nearly half of it: the rest is less than it by a little
	from, err := c.OpenFile(soon(t), old, sftpipe.OpenRead, sftpipe.Attrs{})
	must(t, err)
	to, err := c.Create(soon(t), path)
	must(t, err)
	if err := c.CopyData(soon(t), from, 0, 4<<20, to, 0); err != nil {
		t.Logf("this server says so by itself: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() >= 4<<20 {
		t.Fatalf("it found room: %v, %v", info, err)
	}
	must(t, to.Close(soon(t)))
	must(t, os.Remove(path))
	n, err := assemble(soon(t), t, c, old, path, parts(sftpipe.Part{N: 4 << 20}, sftpipe.Part{Data: []byte("end")}), sftpipe.Attrs{})
	if err == nil || n != 0 {
		t.Errorf("%d bytes confirmed, %v", n, err)
	}
	t.Log(err)
}

// TestAssembleBelievesNobody: whatever a server says that is not exactly right makes it fail, and both files are closed.
func TestAssembleBelievesNobody(t *testing.T) {
	const size = 40 << 20 // three copies
	refused := func(w wire) ([][]byte, bool) { return [][]byte{status(w.id, 4)}, true }
	is := func(w wire, typ byte, handle string) bool { return w.typ == typ && w.str(0) == handle }
	const old, made = "h1", "h2" // in the order of the opens
	good := sftpipe.Attrs{Size: size, Mtime: 5}
	attrs := func(w wire, size uint64, mtime uint32) ([][]byte, bool) {
		return [][]byte{packet(byte(105), w.id, uint32(1|8), size, mtime, mtime)}, true
	}
	copies, stats := 0, 0
	tests := map[string]func(w wire) ([][]byte, bool){
		"": func(w wire) ([][]byte, bool) { return nil, false },
		"copy refused": func(w wire) ([][]byte, bool) {
			if w.typ == 200 && w.str(0) == "copy-data" {
				return refused(w)
			}
			return nil, false
		},
		"last copy not carried out": func(w wire) ([][]byte, bool) {
			if w.typ == 200 && w.str(0) == "copy-data" {
				if copies++; copies == 3 {
					return [][]byte{status(w.id, 0)}, true
				}
			}
			return nil, false
		},
		"size not told": func(w wire) ([][]byte, bool) {
			if is(w, 8, made) {
				return [][]byte{packet(byte(105), w.id, uint32(0))}, true
			}
			return nil, false
		},
		"size refused": func(w wire) ([][]byte, bool) {
			if is(w, 8, made) {
				return refused(w)
			}
			return nil, false
		},
		"size one more in the middle": func(w wire) ([][]byte, bool) {
			if is(w, 8, made) {
				if stats++; stats == 2 {
					return attrs(w, 32<<20+1, 5)
				}
			}
			return nil, false
		},
		"old of another size": func(w wire) ([][]byte, bool) {
			if is(w, 8, old) {
				return attrs(w, size+1, 5)
			}
			return nil, false
		},
		"old of another time": func(w wire) ([][]byte, bool) {
			if is(w, 8, old) {
				return attrs(w, size, 6)
			}
			return nil, false
		},
		"old gone dumb": func(w wire) ([][]byte, bool) {
			if is(w, 8, old) {
				return [][]byte{packet(byte(105), w.id, uint32(0))}, true
			}
			return nil, false
		},
		"write refused": func(w wire) ([][]byte, bool) {
			if w.typ == 6 {
				return refused(w)
			}
			return nil, false
		},
		"close refused": func(w wire) ([][]byte, bool) {
			if w.typ == 4 {
				return refused(w)
			}
			return nil, false
		},
	}
	for name, lie := range tests {
		t.Run(name, func(t *testing.T) {
			f, c := fakeClient(t, func(w wire) ([][]byte, bool) {
				if replies, handled := lie(w); handled {
					return replies, true
				}
				if is(w, 8, old) {
					return attrs(w, size, 5)
				}
				return nil, false
			})
			from, err := c.OpenFile(soon(t), "/old", sftpipe.OpenRead, sftpipe.Attrs{})
			must(t, err)
			to, err := c.Create(soon(t), "/new")
			must(t, err)
			n, err := to.Assemble(soon(t), from, good, parts(sftpipe.Part{N: size}, sftpipe.Part{Data: []byte("more")}), sftpipe.Attrs{Has: sftpipe.HasTimes})
			if name == "" && (err != nil || n != size+4) {
				t.Errorf("%d, %v", n, err)
			} else if name != "" && err == nil {
				t.Error("it was believed")
			}
			if strings.HasPrefix(name, "old") != errors.Is(err, sftpipe.ErrSourceChanged) {
				t.Errorf("error %v", err)
			}
			_, err = c.Lstat(soon(t), "/")
			must(t, err)
			if name != "close refused" {
				f.check(t)
			}
		})
	}
}

// TestAssembleGivesUpItsSource: when what is to be written cannot be had, both files are closed.
func TestAssembleGivesUpItsSource(t *testing.T) {
	f, c := fakeClient(t, nil)
	from, err := c.OpenFile(soon(t), "/old", sftpipe.OpenRead, sftpipe.Attrs{})
	must(t, err)
	to, err := c.Create(soon(t), "/new")
	must(t, err)
	broken, n := errors.New("broken disk"), 0
	_, err = to.Assemble(soon(t), from, sftpipe.Attrs{}, func() (sftpipe.Part, error) {
		if n++; n < 3 {
			return sftpipe.Part{Data: make([]byte, 500_000)}, nil
		}
		return sftpipe.Part{}, broken
	}, sftpipe.Attrs{})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	_, err = c.Lstat(soon(t), "/")
	must(t, err)
	f.check(t)
	if _, err := to.Fstat(soon(t)); err == nil {
		t.Error("it is open")
	}
	if _, err := from.Fstat(soon(t)); err == nil {
		t.Error("the old one is open")
	}
}

// copied carries a copy-data out on the sizes of a fake.
func (f *fake) copied(w wire) {
	rest := w.body[4+len("copy-data"):]
	rest = rest[4+len(w.str(1)):]
	n := binary.BigEndian.Uint64(rest[8:])
	rest = rest[16:]
	to := string(rest[4:][:binary.BigEndian.Uint32(rest)])
	f.open[to] = max(f.open[to], binary.BigEndian.Uint64(rest[4+len(to):])+n)
}
