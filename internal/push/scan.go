package push

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

const (
	// segmentSize is how much of a file is read and hashed in one piece; at least a block.
	segmentSize = 1 << 20
	// segmentsAhead is how many are in memory at once.
	segmentsAhead = 6
)

// scan reads a file once, ahead of whoever takes its segments: one goroutine reads and hashes the blocks, one hashes the
// whole, and a third compares and sends.
type scan struct {
	scanned // valid when next has returned io.EOF
	free    chan *segment
	out     chan *segment
	quit    chan struct{}
	goes    sync.WaitGroup
	err     error // valid when out is closed
}

// scanned is what was read: n bytes, of which the rest is told if they are all.
type scanned struct {
	n      int64
	sum    [sha256.Size]byte
	blocks *Blocks
}

// segment is a piece of the file, of whole blocks but at its end.
type segment struct {
	buf    []byte
	data   []byte
	blocks []BlockHash
}

// newScan reads size bytes of f, compared at level. read is told of each step.
func newScan(f *os.File, size int64, level int, read func(int)) *scan {
	s := &scan{free: make(chan *segment, segmentsAhead), out: make(chan *segment), quit: make(chan struct{})}
	for range segmentsAhead {
		s.free <- &segment{}
	}
	between := make(chan *segment)
	s.goes.Go(func() {
		defer close(between)
		s.read(f, size, level, read, between)
	})
	s.goes.Go(func() {
		defer close(s.out)
		whole := sha256.New()
		for seg := range between {
			whole.Write(seg.data)
			select {
			case s.out <- seg:
			case <-s.quit:
				return
			}
		}
		s.sum = [sha256.Size]byte(whole.Sum(nil))
	})
	return s
}

func (s *scan) read(f *os.File, size int64, level int, read func(int), to chan<- *segment) {
	sums := newBlockSums(size)
	defer func() { s.blocks = sums.blocks() }()
	length := max(segmentSize, blockSize(level))
	for left := size; left > 0; {
		var seg *segment
		select {
		case seg = <-s.free:
		case <-s.quit:
			return
		}
		if seg.buf == nil {
			seg.buf = make([]byte, min(length, size))
		}
		n, err := io.ReadFull(f, seg.buf[:min(length, left)])
		if err != nil {
			s.err = fmt.Errorf("%w: %w", ErrSource, err)
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				s.err = ErrUnsettled
			}
			return
		}
		read(n)
		s.n += int64(n)
		left -= int64(n)
		seg.data = seg.buf[:n]
		hashes := leaves(seg.data)
		sums.add(hashes, int64(n))
		seg.blocks = seg.blocks[:0]
		for group := range slices.Chunk(hashes, 1<<level) {
			for range level {
				group = fold(group)
			}
			seg.blocks = append(seg.blocks, group...)
		}
		select {
		case to <- seg:
		case <-s.quit:
			return
		}
	}
}

// next gives the next segment, in order; io.EOF after the last. It is valid until it is recycled.
func (s *scan) next() (*segment, error) {
	if seg, ok := <-s.out; ok {
		return seg, nil
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, io.EOF
}

// recycle takes a segment back.
func (s *scan) recycle(seg *segment) {
	if seg != nil {
		s.free <- seg // there is room for all
	}
}

// stop ends the reading.
func (s *scan) stop() {
	close(s.quit)
	s.goes.Wait()
}
