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

	"github.com/google/renameio/v2"

	"releve/internal/plan"
	"releve/internal/tree"
)

// The record is what the agent remembers of what it pushed: for each path the identity of the source file that the
// replica's was made from, and which directory the source was. It is disposable. Without it the first comparison after a start goes by size and
// whole-second time alone, as rsync's does; with it, changes that leave both as they were are found.
//
// The file is a header, the entries, and the SHA-256 of all before it; it is replaced atomically. A file that is not
// exactly that is worth nothing and is not used.
const recordHeader = "releve record 3\n"

// saveRecord writes what is known to path, and returns the checksum that it ends with. owner tells the folder and target
// that it is about.
func saveRecord(path, owner string, root rootID, known *plan.Known) (checksum [sha256.Size]byte, err error) {
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return checksum, fmt.Errorf("save record: %w", err)
	}
	defer file.Cleanup()
	sum := sha256.New()
	buf := bufio.NewWriterSize(file, 1<<16)
	w := &recordWriter{w: io.MultiWriter(buf, sum)}
	w.text(recordHeader)
	w.text(owner)
	w.text(root.path)
	w.number(root.ino)
	w.signed(root.born)
	w.number(uint64(known.Len()))
	for p, e := range known.All() {
		w.text(p)
		w.entry(e)
		w.flush()
	}
	w.number(uint64(len(known.Expected())))
	for p, e := range known.Expected() {
		w.text(p)
		w.entry(e)
		w.flush()
	}
	w.number(uint64(len(known.Laid())))
	for p, l := range known.Laid() {
		w.text(p)
		w.text(l.At)
		w.entry(l.Entry)
		w.flush()
	}
	w.flush()
	checksum = [sha256.Size]byte(sum.Sum(nil))
	if w.err == nil {
		_, w.err = buf.Write(checksum[:])
	}
	if err := errors.Join(w.err, buf.Flush()); err != nil {
		return checksum, fmt.Errorf("save record: %w", err)
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return checksum, fmt.Errorf("save record: %w", err)
	}
	return checksum, nil
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
	w.number(uint64(e.Nlink))
	w.number(e.Shared)
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

// parseRecord reads a record: what was known, and of which source. A record that is damaged, of another version or about
// something else is an error.
func parseRecord(data []byte, owner string) (rootID, *plan.Known, error) {
	if len(data) < sha256.Size {
		return rootID{}, nil, errors.New("it is cut short")
	}
	body, want := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], want) {
		return rootID{}, nil, errors.New("it is damaged")
	}
	r := &recordReader{data: body}
	if r.text() != recordHeader {
		return rootID{}, nil, errors.New("it is of another version")
	}
	if r.text() != owner {
		return rootID{}, nil, errors.New("it is about another folder or target")
	}
	root := rootID{path: r.text(), ino: r.number(), born: r.signed()}
	known := plan.NewKnown(nil)
	r.each(known.Set)
	r.each(known.Expect)
	for range r.count() {
		p := r.text()
		known.Lay(p, plan.Laid{At: r.text(), Entry: r.entry()})
	}
	if r.bad || len(r.data) > 0 {
		return rootID{}, nil, errors.New("it is damaged")
	}
	return root, known, nil
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

// count is a number of things that follow.
func (r *recordReader) count() uint64 {
	n := r.number()
	if n > uint64(len(r.data)) {
		r.bad = true
		return 0
	}
	return n
}

// each hands over a number of paths with their entries.
func (r *recordReader) each(take func(string, tree.Entry)) {
	for range r.count() {
		take(r.text(), r.entry())
	}
}

func (r *recordReader) entry() tree.Entry {
	e := tree.Entry{Type: tree.Type(r.number()), Mode: fs.FileMode(r.number())}
	e.Size, e.MTime, e.CTime = r.signed(), r.signed(), r.signed()
	e.Dev, e.Ino, e.Nlink, e.Shared = r.number(), r.number(), uint32(r.number()), r.number()
	e.Link = r.text()
	if e.Type == tree.File {
		copy(e.Sum[:], r.bytes(sha256.Size))
	}
	return e
}
