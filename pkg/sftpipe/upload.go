package sftpipe

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

const (
	// defaultWindow is how many bytes of one file may be on the way without a
	// reply: twice the window of an OpenSSH channel, so that one file can
	// keep the channel full, and little enough that a full disk is noticed soon.
	defaultWindow = 4 << 20

	// urgentData is the size up to which a file passes before bulk data.
	urgentData = 64 << 10
)

// UploadOption changes how one upload is done.
type UploadOption func(*uploadOptions)

type uploadOptions struct {
	window int
	sync   bool
}

// WithWindow bounds the bytes that are on the way without a reply. The default
// is 4 MiB.
func WithWindow(bytes int) UploadOption { return func(o *uploadOptions) { o.window = bytes } }

// WithSync has the server put the file onto its disk before it is closed
// (fsync@openssh.com), at no further round trip.
func WithSync() UploadOption { return func(o *uploadOptions) { o.sync = true } }

// Upload creates the file path, with mode 0600 and only if it does not exist,
// writes what r gives until its end, sets attrs and closes the file. It returns
// the bytes the server confirmed, and nil only if every reply was good and, of
// data that took more than one WRITE, the server's size of the file is theirs.
//
// A size in attrs is not set but demanded: Upload fails if r gives more or less,
// or the server has.
//
// It takes two round trips for a file of one packet, which has been read by the
// time the first begins: nobody is given that time to change it. r is read in
// the calling goroutine and must not block for longer than the caller would wait,
// since ctx cannot interrupt it. On error the file may be there, in any state: it
// is the caller's to remove.
func (c *Client) Upload(ctx context.Context, path string, r io.Reader, attrs Attrs, opts ...UploadOption) (n int64, err error) {
	first, err := c.read(r, path)
	if err != nil {
		return 0, err
	}
	f, err := c.Create(ctx, path)
	if err != nil {
		c.recycle(first.buf)
		return 0, err
	}
	return f.finish(ctx, attrs, opts, func(s *stream) (bool, error) { return true, s.copy(r, first) })
}

// Finish writes what r gives from the start of the file on, sets attrs and
// closes the file, whatever happens. It is the second half of [Client.Upload],
// and takes one round trip for a file of one packet. r may be nil if the
// content was written by other means; then the size is compared only if attrs
// has one.
func (f *File) Finish(ctx context.Context, r io.Reader, attrs Attrs, opts ...UploadOption) (n int64, err error) {
	return f.finish(ctx, attrs, opts, func(s *stream) (bool, error) {
		if r == nil {
			return false, nil
		}
		return true, s.copy(r, ahead{})
	})
}

// finish has produce put the content into a stream, and ends the upload. produce
// reports whether what it gave is all that the file holds.
func (f *File) finish(ctx context.Context, attrs Attrs, opts []UploadOption, produce func(*stream) (all bool, err error)) (n int64, err error) {
	o := uploadOptions{window: defaultWindow}
	for _, opt := range opts {
		opt(&o)
	}
	s := newStream(ctx, f, 0, o.window)
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return 0, fmt.Errorf("write %q: %w", f.path, fs.ErrClosed)
	}
	f.closed = true
	s.finishing, s.fresh = true, !f.used
	f.mu.Unlock()

	all, err := produce(s)
	size, sized := attrs.Size, attrs.Has&HasSize != 0
	// The reply to a WRITE says that all of its data was written. Of several, the
	// size says that they lie where they belong, and nothing else does.
	stat := sized || all && s.off > 0
	if err == nil && all {
		total := uint64(s.off)
		if s.buf != nil {
			total += uint64(len(s.buf.b))
		}
		if sized && total != size {
			err = fmt.Errorf("upload %q: source gave %d bytes, expected %d", f.path, total, size)
		}
		size = total
	}
	attrs.Has &^= HasSize
	if err == nil {
		err = s.finish(attrs, o.sync, stat)
	}
	if err != nil {
		s.close()
	}
	if derr := s.drain(); err == nil {
		err = derr
	}
	if err == nil && stat {
		err = s.compare(size)
	}
	return s.confirmed, err
}
