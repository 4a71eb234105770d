package sftpipe_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"releve/pkg/sftpipe"
)

// TestUploadIsOneFlight: open; then everything else without waiting, the rename
// nowhere in it.
func TestUploadIsOneFlight(t *testing.T) {
	gated(t, 6, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
		done := make(chan error)
		attrs := sftpipe.Attrs{Has: sftpipe.HasMode | sftpipe.HasTimes, Mode: 0o644}
		go func() {
			_, err := c.Upload(t.Context(), "/f", strings.NewReader("x"), attrs, sftpipe.WithSync())
			done <- err
		}()
		open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, want := f.types()[2:], []byte{3, 6, 200, 10, 4}; !bytes.Equal(got, want) {
			t.Errorf("packets of types %d, want %d", got, want)
		}
		open3 := f.seen[2]
		want := packet("/f", uint32(2|8|32), uint32(4), uint32(0o600))[4:]
		if !bytes.Equal(open3.body, want) {
			t.Errorf("open %q, want %q", open3.body, want)
		}
	})
}

// TestEveryReplyOfAnUploadCounts: each request of an upload refused in its turn
// makes it fail with that refusal, and the file is closed all the same. The size
// is asked for where there was more than one WRITE.
func TestEveryReplyOfAnUploadCounts(t *testing.T) {
	for _, size := range []int{100, 100_000, 3 << 20} {
		for typ, name := range map[byte]string{3: "open", 6: "write", 200: "fsync", 10: "fsetstat", 8: "fstat", 4: "close"} {
			if typ == 8 && size <= 261120 {
				continue
			}
			f, c := fakeClient(t, func(w wire) ([][]byte, bool) {
				if w.typ != typ || w.typ == 200 && w.str(0) != "fsync@openssh.com" {
					return nil, false
				}
				return [][]byte{status(w.id, 4)}, true
			})
			n, err := c.Upload(soon(t), "/f", bytes.NewReader(make([]byte, size)), sftpipe.Attrs{Has: sftpipe.HasMode}, sftpipe.WithSync())
			status, ok := errors.AsType[*sftpipe.StatusError](err)
			if !ok || status.Op != name || status.Path != "/f" || status.Code != sftpipe.StatusFailure || status.Message != "words" {
				t.Errorf("%s of %d bytes refused: %v", name, size, err)
			}
			if typ == 6 && n != 0 || typ == 4 && n != int64(size) {
				t.Errorf("%s of %d bytes refused: %d confirmed", name, size, n)
			}
			if got := bytes.Count(f.types(), []byte{4}); got != 1 && typ != 3 {
				t.Errorf("%s of %d bytes refused: %d closes", name, size, got)
			}
			if _, err := c.Lstat(soon(t), "/"); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestWriteRefusedMidway: what was confirmed before the refusal is counted, and
// nothing behind it; the source is not read much further.
func TestWriteRefusedMidway(t *testing.T) {
	writes := 0
	_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
		if w.typ == 6 {
			if writes++; writes == 4 {
				return [][]byte{status(w.id, 4)}, true
			}
		}
		return nil, false
	})
	source := io.LimitReader(zeros{}, 1<<30)
	n, err := c.Upload(soon(t), "/f", source, sftpipe.Attrs{})
	if status, ok := errors.AsType[*sftpipe.StatusError](err); !ok || status.Op != "write" {
		t.Errorf("error %v", err)
	}
	if n != 3*261120 {
		t.Errorf("%d bytes confirmed, want three packets", n)
	}
	if taken := 1<<30 - source.(*io.LimitedReader).N; taken > 16<<20 {
		t.Errorf("%d bytes taken from the source", taken)
	}
}

func TestUploadComparesSize(t *testing.T) {
	tests := []struct {
		name         string
		fstat, lstat func(id uint32) []byte
		want         string
	}{
		{"short", size(3), size(3), "4 bytes were written, the server has 3"},
		{"looked too early", size(0), size(4), ""},
		{"denied", func(id uint32) []byte { return status(id, 3) }, size(0), ""},
		{"unknown", func(id uint32) []byte { return status(id, 8) }, size(0), ""},
		{"no size in the answer", func(id uint32) []byte { return packet(byte(105), id, uint32(0)) }, size(0), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
				switch w.typ {
				case 8:
					return [][]byte{test.fstat(w.id)}, true
				case 7:
					return [][]byte{test.lstat(w.id)}, true
				}
				return nil, false
			})
			_, err := c.Upload(soon(t), "/f", strings.NewReader("data"), sftpipe.Attrs{Has: sftpipe.HasSize, Size: 4})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestUploadComparesSizeOfSeveralWrites: that each of them succeeded does not say
// that they lie where they belong.
func TestUploadComparesSizeOfSeveralWrites(t *testing.T) {
	_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
		switch w.typ {
		case 8, 7:
			return [][]byte{size(261120)(w.id)}, true
		}
		return nil, false
	})
	_, err := c.Upload(soon(t), "/f", io.LimitReader(zeros{}, 261121), sftpipe.Attrs{})
	if err == nil || !strings.Contains(err.Error(), "261121 bytes were written, the server has 261120") {
		t.Errorf("error %v", err)
	}
}

func size(n uint64) func(uint32) []byte {
	return func(id uint32) []byte { return packet(byte(105), id, uint32(1), n) }
}

func TestUploadSource(t *testing.T) {
	broken := errors.New("broken disk")
	tests := []struct {
		name   string
		source io.Reader
		size   uint64 // demanded
		want   func(error) bool
	}{
		{"fails at once", iotest.ErrReader(broken), 0, func(err error) bool { return errors.Is(err, broken) }},
		{"fails later", io.MultiReader(io.LimitReader(zeros{}, 1<<20), iotest.ErrReader(broken)), 0, func(err error) bool { return errors.Is(err, broken) }},
		{"torn", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)), 0, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"shrank", strings.NewReader("abc"), 4, func(err error) bool { return err != nil && strings.Contains(err.Error(), "3 bytes, expected 4") }},
		{"grew", strings.NewReader("abcde"), 4, func(err error) bool { return err != nil && strings.Contains(err.Error(), "5 bytes, expected 4") }},
		{"as announced", iotest.OneByteReader(strings.NewReader("abcd")), 4, func(err error) bool { return err == nil }},
		{"idle", stuckReader{}, 0, func(err error) bool { return errors.Is(err, io.ErrNoProgress) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, c := fakeClient(t, nil)
			attrs := sftpipe.Attrs{}
			if test.size > 0 {
				attrs = sftpipe.Attrs{Has: sftpipe.HasSize, Size: test.size}
			}
			if _, err := c.Upload(soon(t), "/f", test.source, attrs); !test.want(err) {
				t.Errorf("error %v", err)
			}
			f.check(t)
			if slices.Contains(f.types(), 10) {
				t.Error("the size was set on the server")
			}
		})
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// TestFullDisk: the one error that matters most, from the real server.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	c := openSSH(t)
	f, err := c.OpenFile(soon(t), "/dev/full", sftpipe.OpenWrite, sftpipe.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.WriteAt(soon(t), make([]byte, 1<<20), 0)
	if status, ok := errors.AsType[*sftpipe.StatusError](err); n != 0 || !ok || status.Code != sftpipe.StatusFailure || status.Op != "write" {
		t.Errorf("%d, %v", n, err)
	}
	if err := f.Close(soon(t)); err != nil {
		t.Error(err)
	}
}

// TestBadPaths: what would make OpenSSH end the session is refused here, and
// nothing of its flight is sent.
func TestBadPaths(t *testing.T) {
	c, dir := openSSH(t), t.TempDir()
	errs := c.Do(soon(t), sftpipe.Mkdir(filepath.Join(dir, "a"), sftpipe.Attrs{}), sftpipe.Remove("a\x00b"), sftpipe.Remove(strings.Repeat("x", 300_000)))
	for i, err := range errs {
		if err == nil {
			t.Errorf("request %d was sent", i)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a request of a refused flight was carried out")
	}
	if _, err := c.Lstat(soon(t), "a\x00b"); err == nil || errors.Is(err, sftpipe.ErrConnectionLost) {
		t.Errorf("lstat: %v", err)
	}
	if _, err := c.Lstat(soon(t), strings.Repeat("x", 200_000)); err == nil || errors.Is(err, sftpipe.ErrConnectionLost) {
		t.Errorf("lstat: %v", err)
	}
	if _, err := c.Lstat(soon(t), dir); err != nil {
		t.Errorf("the session has ended: %v", err)
	}
}

func TestStatusErrors(t *testing.T) {
	tests := []struct {
		code uint32
		is   error
	}{{1, io.EOF}, {2, fs.ErrNotExist}, {3, fs.ErrPermission}, {8, errors.ErrUnsupported}}
	_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
		if w.typ == 13 {
			return [][]byte{packet(byte(101), w.id, uint32(w.str(0)[0]-'0'), "evil\nwords\x1b", "")}, true
		}
		return nil, false
	})
	for _, test := range tests {
		err := c.Do(soon(t), sftpipe.Remove(string(rune('0'+test.code))))[0]
		for _, other := range tests {
			if got := errors.Is(err, other.is); got != (other == test) {
				t.Errorf("code %d is %v: %v", test.code, other.is, got)
			}
		}
		if sftpipe.IsUnsupported(err) != (test.code == 8) {
			t.Errorf("code %d: IsUnsupported", test.code)
		}
		if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("control characters in %q", err)
		}
	}
}

// TestShortReads: a server may give less than was asked for; what follows was
// then asked for at the wrong place, and must not be joined on.
func TestShortReads(t *testing.T) {
	want := content(1<<20, 3)
	_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
		switch w.typ {
		case 5:
			rest := w.body[4+len(w.str(0)):]
			off, n := binary.BigEndian.Uint64(rest), binary.BigEndian.Uint32(rest[8:])
			if off >= uint64(len(want)) {
				return nil, false
			}
			part := want[off:][:min(int(n), len(want)-int(off), 40_000+int(off%1000))]
			return [][]byte{packet(byte(103), w.id, string(part))}, true
		case 8:
			return [][]byte{packet(byte(105), w.id, uint32(1), uint64(len(want)))}, true
		}
		return nil, false
	})
	f, err := c.OpenFile(soon(t), "/f", sftpipe.OpenRead, sftpipe.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, len(want)+1)
	if n, err := f.ReadAt(soon(t), p, 0); n != len(want) || err != io.EOF || !bytes.Equal(p[:n], want) {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	if got, err := c.ReadFile(soon(t), "/f", 1<<20); err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadFile: %d, %v", len(got), err)
	}
}
