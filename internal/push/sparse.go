package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

const (
	// holeSize is the least size of a hole that is worth to be one on the replica too, and holesMost how many of them a
	// file may have that is not just fragmented.
	holeSize  = 64 << 10
	holesMost = 1 << 16
	// sparseShare is the part of a file, one byte in so many, that has to be holes.
	sparseShare = 8
	// hashAtOnce is how many zeros are hashed between two looks whether that is still wanted.
	hashAtOnce = 16 << 20
)

// sparse is the content of a file with holes: they are hashed, as the zeros that they stand for, and not sent.
type sparse struct {
	*reader
	file *os.File
	size int64
	data []tree.Extent // those that follow
}

// holes returns the parts of f that hold data, nil if too little of it is holes. With a version on the replica from which the
// server could copy what has not changed, that is to be most of it: what it copies has no holes.
func holes(f *os.File, size int64, versions bool) ([]tree.Extent, error) {
	if size <= holeSize {
		return nil, nil
	}
	all, err := tree.Extents(f, size, holeSize, holesMost)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	share := int64(sparseShare)
	if versions {
		share = 2
	}
	if size-dataIn(all) < size/share || len(all) > 0 && all[0] == (tree.Extent{To: size}) {
		return nil, nil
	}
	if all == nil {
		all = []tree.Extent{}
	}
	return all, nil
}

func dataIn(extents []tree.Extent) (n int64) {
	for _, x := range extents {
		n += x.To - x.From
	}
	return n
}

// gap passes over the hole ahead, and returns its size and how much data follows before the next one: none at the end.
func (s *sparse) gap(ctx context.Context) (hole, data int64, err error) {
	next := tree.Extent{From: s.size, To: s.size}
	if len(s.data) > 0 {
		next = s.data[0]
	}
	if hole = max(0, next.From-s.done); hole > 0 {
		s.from = zeros{}
		for s.done < next.From {
			if ctx.Err() != nil {
				return 0, 0, context.Cause(ctx)
			}
			if _, err := io.CopyN(io.Discard, s.reader, min(hashAtOnce, next.From-s.done)); err != nil {
				return 0, 0, err
			}
		}
		s.from = s.file
		if _, err := s.file.Seek(next.From, io.SeekStart); err != nil {
			s.err = err
			return 0, 0, err
		}
	}
	data = next.To - s.done
	if data == 0 && len(s.data) > 0 {
		s.data = s.data[1:]
		return s.gap(ctx)
	}
	return hole, data, nil
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// uploadSparse writes a file with holes to a slot. A file is born without content, and is given its size first: what is not
// written stays a hole.
func (r *Replica) uploadSparse(ctx context.Context, to *slot, content *sparse, e tree.Entry) (int64, error) {
	if !acquire(ctx, r.large) {
		return 0, context.Cause(ctx)
	}
	defer release(r.large)
	var clients []*sftpipe.Client
	if dataIn(content.data) >= stripeSize {
		more, done := r.lanes.more(ctx, true)
		defer done()
		clients = more
	}
	f := to.file
	if to.file = nil; f == nil {
		first := r.lanes.Bulk
		if len(clients) > 0 {
			first, clients = clients[0], clients[1:]
		}
		var err error
		if f, err = first.Create(ctx, to.path); err != nil {
			return 0, err
		}
	}
	if err := f.Setstat(ctx, sftpipe.Attrs{Has: sftpipe.HasSize, Size: uint64(e.Size)}); err != nil {
		return 0, errors.Join(err, f.Close(ctx))
	}
	n, err := stripe(ctx, f, clients, content)
	if err != nil {
		return n, errors.Join(err, f.Close(ctx))
	}
	attrs := attrsOf(e)
	attrs.Has |= sftpipe.HasSize // to be compared with the server's
	attrs.Size = uint64(e.Size)
	_, err = f.Finish(ctx, nil, attrs)
	return n, err
}
