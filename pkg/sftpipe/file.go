package sftpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// OpenFlags say how a file is opened. The values are those of the protocol.
type OpenFlags uint32

const (
	OpenRead      OpenFlags = 1 << iota
	OpenWrite               // writing, at any offset
	OpenAppend              // every write goes to the end
	OpenCreate              // create the file if it does not exist
	OpenTruncate            // with OpenCreate: empty it if it does
	OpenExclusive           // with OpenCreate: fail if it does
)

// File is an open file on the server. Its methods may be called concurrently;
// requests reach the server in the order of the calls. No call but Close and
// Finish may be made once one of these was.
type File struct {
	c      *Client
	path   string
	handle string

	mu     sync.Mutex
	closed bool
	used   bool  // a request other than Finish's was sent
	lane   *lane // of all of those: two requests on one handle must never overtake each other
}

// OpenFile opens path. attrs, of which servers use the mode, are those of a file
// it creates; the server's umask applies.
//
// If ctx ends before the reply, a file that was opened after all is closed
// again, but one that was created remains.
func (c *Client) OpenFile(ctx context.Context, path string, flags OpenFlags, attrs Attrs) (*File, error) {
	handle, err := c.one(ctx, c.urgent, Request{op: opOpen, path: path, flags: flags, attrs: attrs})
	if err != nil {
		return nil, err
	}
	f := &File{c: c, path: path, handle: handle.(string), lane: c.urgent}
	if flags&(OpenWrite|OpenAppend) != 0 {
		f.lane = c.bulk
	}
	return f, nil
}

// Create makes a new file, readable and writable by its owner alone (mode
// 0600), and opens it for writing. It fails if path exists, be it as a symbolic
// link that leads nowhere. It is the first half of [Client.Upload].
func (c *Client) Create(ctx context.Context, path string) (*File, error) {
	return c.OpenFile(ctx, path, OpenWrite|OpenCreate|OpenExclusive, Attrs{Has: HasMode, Mode: 0o600})
}

// Path gives the path the file was opened by.
func (f *File) Path() string { return f.path }

// enqueue sends a flight about the open file, on the file's lane. Least of all
// may the CLOSE overtake anything: after it the server may give the handle to
// another file.
func (f *File) enqueue(fl *flight) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		f.c.mu.Lock()
		f.c.discard(fl)
		f.c.mu.Unlock()
		return fmt.Errorf("%s: %w", &fl.reqs[0], fs.ErrClosed)
	}
	f.used, fl.lane = true, f.lane
	f.c.enqueue(fl)
	return nil
}

// one sends a single request about the open file.
func (f *File) one(ctx context.Context, req Request) (any, error) {
	req.path, req.handle = f.path, f.handle
	if ctx.Err() != nil {
		return nil, req.unconfirmed(false, contextError(ctx))
	}
	fl := newFlight(nil, req)
	if err := f.enqueue(fl); err != nil {
		return nil, err
	}
	return f.c.await(ctx, fl)
}

// Fstat gives the attributes of the open file.
func (f *File) Fstat(ctx context.Context) (Attrs, error) {
	v, err := f.one(ctx, Request{op: opFstat})
	a, _ := v.(Attrs)
	return a, err
}

// Setstat sets attributes of the open file. A size truncates or extends it.
func (f *File) Setstat(ctx context.Context, attrs Attrs) error {
	_, err := f.one(ctx, Request{op: opFsetstat, attrs: attrs})
	return err
}

// Fsync returns when what was written is on the server's disk
// (fsync@openssh.com).
func (f *File) Fsync(ctx context.Context) error {
	_, err := f.one(ctx, Request{op: opFsync})
	return err
}

// CopyData has the server copy n bytes from one open file to another, or
// all that follow fromOff if n is 0 (copy-data, OpenSSH 9.0). A server works on
// nothing else meanwhile, so long ranges are better copied in parts.
func (c *Client) CopyData(ctx context.Context, from *File, fromOff, n int64, to *File, toOff int64) error {
	if fromOff < 0 || n < 0 || toOff < 0 {
		return fmt.Errorf("copy-data %q: negative offset or length", to.path)
	}
	if from.c != c || to.c != c {
		return fmt.Errorf("copy-data %q: file of another connection", to.path)
	}
	from.mu.Lock()
	closed := from.closed
	from.used, from.lane = true, c.bulk // as the copy is
	from.mu.Unlock()
	if closed {
		return fmt.Errorf("copy-data %q: %w", from.path, fs.ErrClosed)
	}
	_, err := to.one(ctx, Request{op: opCopyData, handle2: from.handle, off2: uint64(fromOff), n: uint64(n), off: uint64(toOff)})
	return err
}

// Close closes the file. The request is sent even if ctx has ended, only the
// reply is then not waited for. An error may be the first word of an earlier
// write that did not reach the disk.
func (f *File) Close(ctx context.Context) error {
	fl, err := f.close()
	if err != nil {
		return err
	}
	_, err = f.c.await(ctx, fl)
	return err
}

// close sends the CLOSE behind everything else.
func (f *File) close() (*flight, error) {
	req := Request{op: opClose, path: f.path, handle: f.handle}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("%s: %w", &req, fs.ErrClosed)
	}
	f.closed = true
	l := f.lane
	if !f.used {
		l = f.c.urgent
	}
	fl := newFlight(l, req)
	fl.kept = true
	f.c.enqueue(fl)
	return fl, nil
}

// WriteAt writes all of p at off, as many WRITEs in flight at once as the
// window of an upload holds. n counts the bytes from the start of p that the
// server confirmed; more may have been written behind them. p may be used again
// when WriteAt returns.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	written, err := f.WriteFrom(ctx, &sliceReader{p}, off)
	return int(written), err
}

// sliceReader is a bytes.Reader that can do nothing else.
type sliceReader struct{ p []byte }

func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.p)
	r.p = r.p[n:]
	return n, nil
}

// WriteFrom writes what r gives, to its end, from off on. Like WriteAt, it keeps
// many WRITEs in flight and counts the bytes confirmed.
func (f *File) WriteFrom(ctx context.Context, r io.Reader, off int64) (n int64, err error) {
	if off < 0 {
		return 0, fmt.Errorf("write %q: negative offset", f.path)
	}
	s := newStream(ctx, f, off, defaultWindow)
	err = s.copy(r, ahead{})
	if err == nil {
		err = s.flush()
	}
	if derr := s.drain(); err == nil {
		err = derr
	}
	return s.confirmed, err
}

// ReadAt reads len(p) bytes at off, with several READs in flight. As in
// [io.ReaderAt], n < len(p) comes with an error, [io.EOF] at the end of the file.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read %q: negative offset", f.path)
	}
	var ahead []*flight
	defer func() {
		f.c.mu.Lock()
		defer f.c.mu.Unlock()
		for _, fl := range ahead {
			f.c.abandon(fl)
		}
	}()
	asked, window := 0, max(1, readWindow/f.c.limits.MaxRead)
	for n < len(p) {
		for asked < len(p) && len(ahead) < window {
			fl, err := f.read(ctx, off+int64(asked), len(p)-asked)
			if err != nil {
				return n, err
			}
			ahead = append(ahead, fl)
			asked += int(fl.reqs[0].n)
		}
		fl := ahead[0]
		want := int(fl.reqs[0].n)
		v, err := f.c.await(ctx, fl)
		ahead = ahead[1:]
		data, _ := v.([]byte)
		n += copy(p[n:], data)
		switch {
		case isEOF(err):
			return n, io.EOF
		case err != nil:
			return n, err
		case len(data) < want:
			// Less than asked for: what is in flight does not join on, so ask again.
			f.c.mu.Lock()
			for _, fl := range ahead {
				f.c.abandon(fl)
			}
			f.c.mu.Unlock()
			ahead, asked = nil, n
		}
	}
	return n, nil
}

// readWindow bounds the bytes of one ReadAt in flight.
const readWindow = 2 << 20

func (f *File) read(ctx context.Context, off int64, n int) (*flight, error) {
	req := Request{op: opRead, path: f.path, handle: f.handle, off: uint64(off), n: uint64(min(n, f.c.limits.MaxRead))}
	if ctx.Err() != nil {
		return nil, req.unconfirmed(false, contextError(ctx))
	}
	fl := newFlight(nil, req)
	return fl, f.enqueue(fl)
}

// isEOF reports whether the server said that a file or listing is at its end.
func isEOF(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Code == StatusEOF
}

// ReadFile reads the whole file at path, of max bytes at most: a longer one is
// an error. It takes two round trips for a file that fits into one READ.
func (c *Client) ReadFile(ctx context.Context, path string, max int64) ([]byte, error) {
	f, err := c.OpenFile(ctx, path, OpenRead, Attrs{})
	if err != nil {
		return nil, err
	}
	defer f.close() // nothing was written, so nothing depends on the reply
	stat := newFlight(nil, Request{op: opFstat, path: path, handle: f.handle})
	if err := f.enqueue(stat); err != nil {
		return nil, err
	}
	var content []byte
	for {
		want := min(int64(c.limits.MaxRead), max+1-int64(len(content)))
		fl, err := f.read(ctx, int64(len(content)), int(want))
		if err != nil {
			return nil, err
		}
		v, err := c.await(ctx, fl)
		if isEOF(err) {
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		content = append(content, v.([]byte)...)
		if int64(len(content)) > max {
			return nil, fmt.Errorf("read %q: more than %d bytes", path, max)
		}
		if stat == nil {
			continue
		}
		// A file whose size has been reached needs no READ to tell its end.
		if v, err = c.await(ctx, stat); err == nil {
			if a := v.(Attrs); a.IsRegular() && a.Has&HasSize != 0 && a.Size == uint64(len(content)) {
				return content, nil
			}
		}
		if errors.Is(err, ErrConnectionLost) || ctx.Err() != nil {
			return nil, err
		}
		stat = nil
	}
}
