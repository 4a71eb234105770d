package sftpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

const (
	// copyPiece is how much one copy-data request asks for at most: a server
	// works on nothing else of this connection meanwhile.
	copyPiece = 16 << 20
	// copyWindow is how many bytes a server may have been asked to copy without
	// having answered: what it copies in a long round trip.
	copyWindow = 64 << 20
	// flightsAhead bounds the memory for requests without a reply, however
	// small the ranges are.
	flightsAhead = 512
)

// ErrSourceChanged is matched by the error of [File.Assemble] when the file that
// was copied from is not what it was said to be.
var ErrSourceChanged = errors.New("the file that was copied from has changed")

// Part is a piece of a file that is assembled.
type Part struct {
	// Data is to be written. It is not used any more when the next part is asked for.
	Data []byte
	// Where Data is empty, the server copies N bytes at Off of the old file.
	Off, N int64
}

// Assemble makes a new file out of parts of an old one and of data: it writes
// what next gives, until that gives [io.EOF], one part after the other from the
// start of f on, and finishes as [File.Finish] does. Parts of old, which must be
// open on the same connection, are copied by the server (copy-data, OpenSSH 9.0):
// only the data travels. f must be new and empty. old is closed as well, whatever
// happens.
//
// was is what old is known to be. After the last copy its size and time are
// compared with the server's: if they differ, somebody has changed it and
// nobody knows what was copied. The error then matches [ErrSourceChanged].
//
// OpenSSH says that a copy has succeeded also when the last 64 KiB of it could
// not be written, or were not there to be read. So the size of f is asked
// for after each copy, in the same flight, and has to be exactly what was
// written so far. A server that works on requests of one flight in parallel
// fails this test.
func (f *File) Assemble(ctx context.Context, old *File, was Attrs, next func() (Part, error), attrs Attrs, opts ...UploadOption) (n int64, err error) {
	if old.c != f.c {
		return 0, fmt.Errorf("assemble %q: file of another connection", f.path)
	}
	old.mu.Lock()
	closed := old.closed
	old.closed = true
	old.mu.Unlock()
	if closed {
		return 0, fmt.Errorf("assemble %q: %w", old.path, fs.ErrClosed)
	}
	return f.finish(ctx, attrs, opts, func(s *stream) (bool, error) {
		s.old, s.was, s.fresh = old, was, false
		for {
			part, err := next()
			switch {
			case err == io.EOF:
				return true, nil
			case err != nil:
				return false, fmt.Errorf("read source of %q: %w", f.path, err)
			case len(part.Data) > 0:
				err = s.add(part.Data)
			default:
				err = s.copyOld(part.Off, part.N)
			}
			if err != nil {
				return false, err
			}
		}
	})
}

// add appends data to the buffer and sends what is full.
func (s *stream) add(data []byte) error {
	c := s.f.c
	for len(data) > 0 {
		if s.buf != nil && len(s.buf.b) == cap(s.buf.b) {
			if err := s.flush(); err != nil {
				return err
			}
		}
		if s.buf == nil {
			s.buf = c.buffer(c.limits.MaxWrite)
		}
		n := copy(s.buf.b[len(s.buf.b):cap(s.buf.b)], data)
		s.buf.b = s.buf.b[:len(s.buf.b)+n]
		data = data[n:]
	}
	return nil
}

// copyOld sends what was added and has the server copy n bytes at off.
func (s *stream) copyOld(off, n int64) error {
	if off < 0 || n < 0 {
		return fmt.Errorf("copy-data %q: negative offset or length", s.f.path)
	}
	if err := s.flush(); err != nil {
		return err
	}
	for n > 0 {
		piece := min(n, copyPiece)
		for len(s.flights) > 0 && (s.copying+piece > copyWindow || len(s.flights) >= flightsAhead) {
			if err := s.reap(); err != nil {
				return err
			}
			if s.err != nil {
				return s.err
			}
		}
		reqs := []Request{
			{op: opCopyData, path: s.f.path, handle: s.f.handle, handle2: s.old.handle, off: uint64(s.off), off2: uint64(off), n: uint64(piece)},
			{op: opFstat, path: s.f.path, handle: s.f.handle},
		}
		if err := s.send(newFlight(s.lane, reqs...)); err != nil {
			return err
		}
		s.copying += piece
		s.copied = true
		s.off, off, n = s.off+piece, off+piece, n-piece
	}
	return nil
}

// copyError says whether a copy was carried out: the file has to end where it does.
func copyError(copied *Request, r, size *reply) error {
	end := copied.off + copied.n
	switch {
	case r.err != nil:
		return r.err
	case size.err != nil:
		return size.err
	}
	if a := size.value.(Attrs); a.Has&HasSize == 0 || a.Size != end {
		return fmt.Errorf("copy-data %q: %d bytes were copied, the server has %d of %d", copied.path, copied.n, a.Size, end)
	}
	return nil
}

// sourceError says whether the file that was copied from is still what it was.
func (s *stream) sourceError(r *reply) error {
	if r.err != nil {
		return r.err
	}
	const both = HasSize | HasTimes
	if a := r.value.(Attrs); a.Has&both != both || a.Size != s.was.Size || a.Mtime != s.was.Mtime {
		return fmt.Errorf("%s %q: %w", ops[opCopyData].name, s.old.path, ErrSourceChanged)
	}
	return nil
}
