package syncagent

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"

	"releve/internal/plan"
	"releve/internal/tree"
)

// The record is what the agent remembers of what it pushed: for each path the identity of the source file that the
// replica's was made from. It is disposable. Without it the first comparison after a start goes by size and
// whole-second time alone, as rsync's does; with it, changes that leave both as they were are found.
//
// The file is a header, the entries, and the SHA-256 of all before it; it is replaced atomically. A file that is not
// exactly that is worth nothing and is not used.
const recordHeader = "releve record 1\n"

// saveRecord writes what is known to path. owner tells the folder and target that it is about.
func saveRecord(path, owner string, known *plan.Known) error {
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	defer file.Cleanup()
	sum := sha256.New()
	buf := bufio.NewWriterSize(file, 1<<16)
	w := &recordWriter{w: io.MultiWriter(buf, sum)}
	w.text(recordHeader)
	w.text(owner)
	w.number(uint64(known.Len()))
	for p, e := range known.All() {
		w.text(p)
		w.entry(e)
		w.flush()
	}
	w.flush()
	if w.err == nil {
		_, w.err = buf.Write(sum.Sum(nil))
	}
	if err := errors.Join(w.err, buf.Flush()); err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	return nil
}

type recordWriter struct {
	w   io.Writer
	buf []byte
	err error
}

func (w *recordWriter) number(n uint64) { w.buf = binary.AppendUvarint(w.buf, n) }
func (w *recordWriter) signed(n int64)  { w.buf = binary.AppendVarint(w.buf, n) }

func (w *recordWriter) text(s string) {
	w.number(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *recordWriter) entry(e tree.Entry) {
	w.number(uint64(e.Type))
	w.number(uint64(e.Mode))
	w.signed(e.Size)
	w.signed(e.MTime)
	w.signed(e.CTime)
	w.number(e.Dev)
	w.number(e.Ino)
	w.text(e.Link)
	if e.Type == tree.File {
		w.buf = append(w.buf, e.Sum[:]...)
	}
}

func (w *recordWriter) flush() {
	if w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// loadRecord reads the record at path. A record that is missing, damaged, of another version or about something else
// is nil, with the reason as the error (nil if there simply is none).
func loadRecord(path, owner string) (tree.Tree, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	t, err := parseRecord(data, owner)
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", path, err)
	}
	return t, nil
}

func parseRecord(data []byte, owner string) (tree.Tree, error) {
	if len(data) < sha256.Size {
		return nil, errors.New("it is cut short")
	}
	body, want := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], want) {
		return nil, errors.New("it is damaged")
	}
	r := &recordReader{data: body}
	if r.text() != recordHeader {
		return nil, errors.New("it is of another version")
	}
	if r.text() != owner {
		return nil, errors.New("it is about another folder or target")
	}
	n := r.number()
	if n > uint64(len(body)) {
		return nil, errors.New("it is damaged")
	}
	t := make(tree.Tree, n)
	for range n {
		p := r.text()
		t[p] = r.entry()
	}
	if r.bad || len(r.data) > 0 {
		return nil, errors.New("it is damaged")
	}
	return t, nil
}

type recordReader struct {
	data []byte
	bad  bool
}

func (r *recordReader) number() uint64 {
	n, size := binary.Uvarint(r.data)
	r.skip(size)
	return n
}

func (r *recordReader) signed() int64 {
	n, size := binary.Varint(r.data)
	r.skip(size)
	return n
}

func (r *recordReader) skip(size int) {
	if size <= 0 {
		r.bad, r.data = true, nil
		return
	}
	r.data = r.data[size:]
}

func (r *recordReader) bytes(n uint64) []byte {
	if n > uint64(len(r.data)) {
		r.bad, r.data = true, nil
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *recordReader) text() string { return string(r.bytes(r.number())) }

func (r *recordReader) entry() tree.Entry {
	e := tree.Entry{Type: tree.Type(r.number()), Mode: fs.FileMode(r.number())}
	e.Size, e.MTime, e.CTime = r.signed(), r.signed(), r.signed()
	e.Dev, e.Ino = r.number(), r.number()
	e.Link = r.text()
	if e.Type == tree.File {
		copy(e.Sum[:], r.bytes(sha256.Size))
	}
	return e
}

// recall gives the entries of a listing the identities that are remembered of them, where the listing bears out what
// is remembered. What is remembered of other versions of a path says nothing about what lies there now.
func recall(listed, remembered tree.Tree) {
	for p, e := range listed {
		if old, ok := remembered[p]; ok && tree.Equal(e, old) {
			listed[p] = old
		}
	}
}
