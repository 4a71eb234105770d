package sftpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// stream is a run of WRITEs to one file. It belongs to one goroutine.
type stream struct {
	ctx    context.Context
	f      *File
	lane   *lane
	window int
	off    int64 // where the next byte goes

	buf       *buffer   // read, not yet sent
	flights   []*flight // on the way, oldest first
	unacked   int       // bytes of data in them
	confirmed int64     // bytes from the start that the server has confirmed
	holed     bool      // a WRITE failed: later ones do not count
	err       error     // first refusal
	last      *flight   // the one that ends with the CLOSE
	stat      *Attrs    // of the file, after the last WRITE

	old     *File // that parts are copied from, and what it was
	was     Attrs
	copied  bool  // something was
	copying int64 // bytes the server was asked to copy and has not answered for

	finishing bool // the file is this stream's alone and ends with it
	fresh     bool // nothing was sent about the file yet: it may take the urgent lane
}

func newStream(ctx context.Context, f *File, off int64, window int) *stream {
	return &stream{ctx: ctx, f: f, lane: f.c.bulk, window: window, off: off}
}

// copy reads r to its end and sends what it gave, after what was read of it
// before, but for the last buffer.
func (s *stream) copy(r io.Reader, read ahead) error {
	for ; ; read = (ahead{}) {
		if read.buf == nil {
			var err error
			if read, err = s.f.c.read(r, s.f.path); err != nil {
				return err
			}
		}
		s.buf = read.buf
		if read.end {
			return nil
		}
		s.fresh = false
		if err := s.flush(); err != nil {
			return err
		}
	}
}

// ahead is a part of a source that has been read.
type ahead struct {
	buf *buffer // nil if nothing was
	end bool    // it is the last
}

// read fills a buffer, a small one if that will do.
func (c *Client) read(r io.Reader, path string) (ahead, error) {
	buf := c.buffer(smallData)
	end, err := buf.fill(r)
	if !end && err == nil && cap(buf.b) < c.limits.MaxWrite {
		small := buf
		buf = c.buffer(c.limits.MaxWrite)
		buf.b = append(buf.b, small.b...)
		c.recycle(small)
		end, err = buf.fill(r)
	}
	if err != nil {
		c.recycle(buf)
		return ahead{}, fmt.Errorf("read source of %q: %w", path, err)
	}
	return ahead{buf, end}, nil
}

// fill reads until the buffer is full or r is at its end.
func (buf *buffer) fill(r io.Reader) (end bool, err error) {
	for idle := 0; len(buf.b) < cap(buf.b); {
		n, err := r.Read(buf.b[len(buf.b):cap(buf.b)])
		buf.b = buf.b[:len(buf.b)+n]
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if n > 0 {
			idle = 0
		} else if idle++; idle == 100 {
			return false, io.ErrNoProgress
		}
	}
	return false, nil
}

// write makes the request for the buffer that was read last, and waits for
// its turn: for room in the window and in the queue.
func (s *stream) write(reqs []Request) ([]Request, error) {
	buf := s.buf
	s.buf = nil
	if buf == nil {
		return reqs, nil
	}
	if len(buf.b) == 0 {
		s.f.c.recycle(buf)
		return reqs, nil
	}
	for len(s.flights) > 0 && s.unacked+len(buf.b) > s.window {
		err := s.reap()
		if err == nil {
			err = s.err
		}
		if err != nil {
			s.f.c.recycle(buf)
			return nil, err
		}
	}
	req := Request{op: opWrite, path: s.f.path, handle: s.f.handle, off: uint64(s.off), data: buf}
	var err error
	if req.charge, err = s.f.c.charge(s.ctx, s.lane, len(buf.b)); err != nil {
		s.f.c.recycle(buf)
		return nil, req.unconfirmed(false, err)
	}
	req.n = uint64(len(buf.b))
	s.off += int64(len(buf.b))
	return append(reqs, req), nil
}

// flush sends the buffer that was read last.
func (s *stream) flush() error {
	reqs, err := s.write(nil)
	if err != nil || len(reqs) == 0 {
		return err
	}
	return s.send(newFlight(s.lane, reqs...))
}

// finish sends the last buffer together with all that ends an upload.
func (s *stream) finish(attrs Attrs, sync, stat bool) error {
	if s.fresh && (s.buf == nil || len(s.buf.b) <= urgentData) {
		s.lane = s.f.c.urgent
	}
	reqs, err := s.write(make([]Request, 0, 7))
	if err != nil {
		return err
	}
	if s.copied {
		reqs = append(reqs, Request{op: opFstat, path: s.old.path, handle: s.old.handle})
	}
	about := func(op op) Request { return Request{op: op, path: s.f.path, handle: s.f.handle} }
	if sync {
		reqs = append(reqs, about(opFsync))
	}
	if attrs.Has != 0 {
		req := about(opFsetstat)
		req.attrs = attrs
		reqs = append(reqs, req)
	}
	if stat {
		reqs = append(reqs, about(opFstat))
	}
	s.last = newFlight(s.lane, append(reqs, s.closes()...)...)
	return s.send(s.last)
}

// closes ends what is the stream's.
func (s *stream) closes() []Request {
	reqs := []Request{{op: opClose, path: s.f.path, handle: s.f.handle}}
	if s.old != nil {
		reqs = append(reqs, Request{op: opClose, path: s.old.path, handle: s.old.handle})
	}
	return reqs
}

// close sends the CLOSE on its own, after an error.
func (s *stream) close() {
	if s.buf != nil {
		s.f.c.recycle(s.buf)
		s.buf = nil
	}
	fl := newFlight(s.lane, s.closes()...)
	fl.kept = true
	s.f.c.enqueue(fl)
	s.flights = append(s.flights, fl)
}

func (s *stream) send(fl *flight) error {
	for i := range fl.reqs {
		if fl.reqs[i].op == opWrite {
			s.unacked += int(fl.reqs[i].n)
		}
	}
	if s.finishing {
		s.f.c.enqueue(fl)
	} else if err := s.f.enqueue(fl); err != nil {
		return err
	}
	s.flights = append(s.flights, fl)
	return nil
}

// reap waits for the oldest flight and takes note of its replies. Its error is
// that of the context; then all flights are abandoned.
func (s *stream) reap() error {
	c, fl := s.f.c, s.flights[0]
	if err := c.wait(s.ctx, fl); err != nil {
		err = c.unconfirmed(fl, err)
		s.abandon()
		return err
	}
	s.flights = s.flights[1:]
	for i := range fl.reqs {
		req, r := &fl.reqs[i], &fl.replies[i]
		err := r.err
		switch {
		case req.op == opCopyData:
			s.copying -= int64(req.n)
			err = copyError(req, r, &fl.replies[i+1])
			s.holed = s.holed || err != nil
			if !s.holed {
				s.confirmed += int64(req.n)
			}
		case req.op == opFstat && i > 0 && fl.reqs[i-1].op == opCopyData:
			continue // the copy's
		case req.op == opFstat && s.copied && req.handle == s.old.handle:
			err = s.sourceError(r)
		case req.op == opWrite:
			s.unacked -= int(req.n)
			s.holed = s.holed || r.err != nil
			if !s.holed {
				s.confirmed += int64(req.n)
			}
		case req.op == opFstat && r.err == nil:
			a := r.value.(Attrs)
			s.stat = &a
		case req.op == opFstat && notAllowed(r.err):
			continue // some hosts deny it; the replies to the WRITEs are then all we have
		}
		if s.err == nil {
			s.err = err
		}
	}
	return nil
}

// notAllowed reports whether a server does not carry out a request of this
// kind at all.
func notAllowed(err error) bool {
	return IsUnsupported(err) || errors.Is(err, fs.ErrPermission)
}

// drain waits for everything on the way and gives the first error.
func (s *stream) drain() error {
	for len(s.flights) > 0 {
		if err := s.reap(); err != nil {
			return err
		}
	}
	return s.err
}

// abandon gives up all flights, and sees to it that the file is closed.
func (s *stream) abandon() {
	c := s.f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fl := range s.flights {
		c.abandon(fl)
	}
	s.flights = nil
	if s.last != nil && s.last.sent == 0 && s.last.left > 0 {
		// The flight that would have closed the file was withdrawn.
		fl := newFlight(s.lane, s.closes()...)
		fl.kept, fl.abandoned = true, true
		c.enqueueLocked(fl)
	}
}

// compare checks the size of the finished file.
func (s *stream) compare(size uint64) error {
	if s.stat == nil || s.stat.Has&HasSize == 0 || s.stat.Size == size {
		return nil
	}
	// Some servers work on the requests of one flight in parallel, against the
	// draft (§6.1), and have looked too early. The file is closed now: look again.
	a, err := s.f.c.Lstat(s.ctx, s.f.path)
	if err != nil {
		return fmt.Errorf("compare size: %w", err)
	}
	if a.Size != size {
		return fmt.Errorf("upload %q: %d bytes were written, the server has %d", s.f.path, size, a.Size)
	}
	return nil
}
