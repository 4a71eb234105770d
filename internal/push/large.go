package push

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

const (
	// stripeSize is where a file is worth several connections, if need be opened for it.
	stripeSize = 8 << 20
	// chunkSize is what one of them gets at a time, and chunksAhead how many of those it has on the way: together more
	// than an OpenSSH channel's window of 2 MiB, so that it never runs dry.
	chunkSize   = 1 << 20
	chunksAhead = 4
	// largeAtOnce is how many such files are on the way at once. Each can fill the line.
	largeAtOnce = 2
	// spreadBytes is where a plan as a whole is worth further connections, at a distance.
	spreadBytes = 32 << 20
)

// more is More, which may be missing.
func (l *Lanes) more(ctx context.Context, wait bool) ([]*sftpipe.Client, func()) {
	if l.More == nil {
		return nil, func() {}
	}
	return l.More(ctx, wait)
}

// uploadLarge writes a large file to a name, in stripes over all further connections. It has a place among largeAtOnce.
func (r *Replica) uploadLarge(ctx context.Context, path string, content io.Reader, e tree.Entry) (int64, error) {
	if !acquire(ctx, r.large) {
		return 0, context.Cause(ctx)
	}
	defer release(r.large)
	clients, done := r.lanes.more(ctx, true)
	defer done()
	if len(clients) == 0 {
		return r.lanes.Bulk.Upload(ctx, path, content, attrsOf(e))
	}
	f, err := clients[0].Create(ctx, path)
	if err != nil {
		return 0, err
	}
	n, err := stripe(ctx, f, clients[1:], content)
	if err != nil {
		return n, errors.Join(err, f.Close(ctx))
	}
	attrs := attrsOf(e)
	attrs.Has |= sftpipe.HasSize // to be compared with the server's
	attrs.Size = uint64(n)
	_, err = f.Finish(ctx, nil, attrs)
	return n, err
}

// stripe writes content to the open file f, and to the same file opened over further connections. When it returns, all
// of it is confirmed and f alone is still open.
func stripe(ctx context.Context, f *sftpipe.File, further []*sftpipe.Client, content io.Reader) (int64, error) {
	type chunk struct {
		buf *[]byte // from the pool
		n   int
		off int64
	}
	chunks := make(chan chunk)
	pool := sync.Pool{New: func() any { buf := make([]byte, chunkSize); return &buf }}
	group, working := errgroup.WithContext(ctx)
	write := func(f *sftpipe.File) error {
		for c := range chunks {
			if _, err := f.WriteAt(working, (*c.buf)[:c.n], c.off); err != nil {
				return err
			}
			pool.Put(c.buf)
		}
		return nil
	}
	for range chunksAhead {
		group.Go(func() error { return write(f) })
	}
	for _, client := range further {
		group.Go(func() error {
			f, err := client.OpenFile(working, f.Path(), sftpipe.OpenWrite, sftpipe.Attrs{})
			if err != nil {
				return err
			}
			each, _ := errgroup.WithContext(working)
			for range chunksAhead {
				each.Go(func() error { return write(f) })
			}
			return errors.Join(each.Wait(), f.Close(ctx))
		})
	}
	var n int64
	group.Go(func() error {
		defer close(chunks)
		holed, _ := content.(*sparse)
		for {
			from := content
			if holed != nil {
				hole, data, err := holed.gap(working)
				if err != nil || data == 0 {
					n += hole
					return err
				}
				n, from = n+hole, io.LimitReader(content, data)
			}
			buf := pool.Get().(*[]byte)
			got, err := io.ReadFull(from, *buf)
			if got > 0 {
				select {
				case chunks <- chunk{buf, got, n}:
					n += int64(got)
				case <-working.Done():
					return context.Cause(working)
				}
			}
			switch {
			case holed != nil && err == io.ErrUnexpectedEOF: // of this part
			case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
				return nil
			case err != nil:
				return err
			}
		}
	})
	err := group.Wait()
	return n, err
}
