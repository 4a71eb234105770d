package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

const (
	// bulkSize is where a file leaves the lane of the small ones.
	bulkSize = 1 << 20
	// hashFirst is the size up to which an unchanged size makes it worth to hash the file before it is sent.
	hashFirst = 64 << 20
	// smallFile is the size up to which a file is read into memory at once, to be hashed and sent from there.
	smallFile = 64 << 10
	// tries is how often a file is read that changes meanwhile.
	tries = 3
	// clockTick is how long after a change another one may leave the change time as it was: the kernel's coarse clock
	// advances by ticks of up to 10 ms.
	clockTick = 20 * time.Millisecond
)

// sent is a file of which the replica holds a complete copy now, under the name it was uploaded to.
type sent struct {
	entry tree.Entry // of the source as it was read, with its sum
	// metaOnly: the replica's content is right as it lies, nothing was uploaded.
	metaOnly bool
}

// sendFile uploads the source file of put to the name that to gives, where nothing may lie yet but the file that to has
// open, and proves that what was read is one state of the file: it is looked at before and after. On failure nothing is
// left there.
func (b *batch) sendFile(ctx context.Context, put plan.Put, to *slot) (sent, error) {
	for try := 1; ; try++ {
		s, err := b.sendOnce(ctx, put, to, try == tries)
		if !errors.Is(err, ErrUnsettled) || try == tries {
			return s, err
		}
	}
}

func (b *batch) sendOnce(ctx context.Context, put plan.Put, to *slot, last bool) (sent, error) {
	f, before, err := b.src.OpenFile(put.Path)
	if err != nil {
		return sent{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	defer f.Close()
	looked := time.Now()

	var in io.ReadSeeker = f
	if before.Size <= smallFile {
		buf := b.r.scratch.Get().(*[smallFile]byte)
		defer b.r.scratch.Put(buf)
		n, err := io.ReadFull(f, buf[:before.Size])
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return sent{}, fmt.Errorf("%w: %w", ErrSource, err)
		}
		in = bytes.NewReader(buf[:n])
	}
	if put.Sum != [sha256.Size]byte{} && before.Size == put.Entry.Size && before.Size <= hashFirst {
		if same, err := hashes(in, put.Sum); err != nil {
			return sent{}, fmt.Errorf("%w: %w", ErrSource, err)
		} else if same && unchanged(f, before) {
			before.Sum = put.Sum
			return sent{entry: ripe(before, looked), metaOnly: true}, nil
		}
	}

	content := &reader{from: in, left: before.Size, hash: sha256.New(), read: func(n int) { b.progress(0, int64(n)) }}
	n, err := b.send(ctx, to, content, before)
	switch {
	case err == nil && n == before.Size && unchanged(f, before) && (!racy(before, looked) || again(f, content)):
		before.Sum = [sha256.Size]byte(content.hash.Sum(nil))
		return sent{entry: ripe(before, looked)}, nil
	case err == nil && n == before.Size && last && grown(f, before) && again(f, content):
		// A log that never rests: what was read is what it held when it was looked at.
		before.Sum = [sha256.Size]byte(content.hash.Sum(nil))
		before.CTime = 0
		return sent{entry: before}, nil
	case err == nil:
		err = ErrUnsettled
	case content.err != nil:
		err = fmt.Errorf("%w: %w", ErrSource, content.err)
	}
	b.progress(0, -content.done)
	if !fatal(ctx, err) {
		b.r.lanes.Small.Do(ctx, sftpipe.Remove(to.path))
	}
	return sent{}, err
}

// send writes content to a slot.
func (b *batch) send(ctx context.Context, to *slot, content io.Reader, e tree.Entry) (int64, error) {
	switch f := to.file; {
	case f != nil:
		to.file = nil
		return f.Finish(ctx, content, attrsOf(e))
	case e.Size >= stripeSize:
		return b.r.uploadLarge(ctx, to.path, content, e)
	default:
		return b.lane(ctx, e.Size).Upload(ctx, to.path, content, attrsOf(e))
	}
}

// lane is the connection for a file of that size: of a plan with many bytes, all take turns.
func (b *batch) lane(ctx context.Context, size int64) *sftpipe.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spread && len(b.further) == 0 {
		b.giveBack()
		b.further, b.giveBack = b.r.lanes.more(ctx, false)
	}
	if n := len(b.further); n > 0 {
		b.turn++
		if i := b.turn % (n + 1); i < n {
			return b.further[i]
		}
		return b.r.lanes.Small
	}
	if size >= bulkSize {
		return b.r.lanes.Bulk
	}
	return b.r.lanes.Small
}

// ripe is e as it may be remembered. A change within a clock tick of the look would leave the change time as it is, so
// an entry that changed just before it was looked at is remembered without: the next comparison hashes it.
func ripe(e tree.Entry, looked time.Time) tree.Entry {
	if racy(e, looked) {
		e.CTime = 0
	}
	return e
}

// racy reports whether a change since the look might not show.
func racy(e tree.Entry, looked time.Time) bool { return looked.UnixNano()-e.CTime < int64(clockTick) }

// again reads again what was read, and reports whether it is still the same: then what went by was one state of the file
// and no mixture of two.
func again(f *os.File, read *reader) bool {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false
	}
	sum, n, err := tree.Hash(io.LimitReader(f, read.done))
	return err == nil && n == read.done && sum == [sha256.Size]byte(read.hash.Sum(nil))
}

func unchanged(f *os.File, before tree.Entry) bool {
	after, err := tree.Stat(f)
	// The link count goes down when the name is replaced under our hands; what was read is a complete old version.
	return err == nil && after.Size == before.Size && after.MTime == before.MTime &&
		(after.CTime == before.CTime || after.Nlink < before.Nlink)
}

func grown(f *os.File, before tree.Entry) bool {
	after, err := tree.Stat(f)
	return err == nil && after.Size > before.Size
}

// hashes reports whether what in gives hashes to sum, and rewinds it.
func hashes(in io.ReadSeeker, sum [sha256.Size]byte) (bool, error) {
	got, _, err := tree.Hash(in)
	if err != nil {
		return false, err
	}
	_, err = in.Seek(0, io.SeekStart)
	return got == sum, err
}

// reader reads no more of a file than it had when it was looked at, hashes what goes by, and remembers its own errors:
// they are the source's, not the connection's.
type reader struct {
	from io.Reader
	left int64
	done int64
	hash hash.Hash
	err  error
	read func(n int)
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.from.Read(p)
	r.hash.Write(p[:n])
	r.left -= int64(n)
	r.done += int64(n)
	r.read(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
