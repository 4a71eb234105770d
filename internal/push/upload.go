package push

import (
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
// open, and proves that what was read is one state of the file: it is looked at before and after. was is what the replica
// is known to hold in its place. On failure nothing is left there.
func (b *batch) sendFile(ctx context.Context, put plan.Put, open opener, was tree.Entry, to *slot) (sent, error) {
	if was.Shared != 0 && (was.Ino != put.Entry.Ino || was.Dev != put.Entry.Dev) {
		was = tree.Entry{} // it must not stay a name of what has become another file
	}
	for try := 1; ; try++ {
		s, err := b.sendOnce(ctx, put, open, was, to, try == tries)
		if !errors.Is(err, ErrUnsettled) || try == tries {
			return s, err
		}
		open = b.src.OpenFile // its directory may be another one, too
	}
}

func (b *batch) sendOnce(ctx context.Context, put plan.Put, open opener, was tree.Entry, to *slot, last bool) (sent, error) {
	f, before, err := open(put.Path)
	if err != nil {
		return sent{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	defer f.Close()
	l := look{file: f, entry: before, at: time.Now()}
	if before.Size >= CarrySize {
		if err := l.rest(ctx); err != nil {
			return sent{}, err
		}
		before = l.entry
	}

	old := b.r.base(was, before)
	data, err := holes(f, before.Size, old != nil)
	if err != nil {
		return sent{}, err
	}
	if data != nil {
		old = nil
		b.fills(put.Path, dataIn(data))
	}
	if old != nil {
		of := deltaOf{file: f, now: before, path: b.r.abs(put.Path), was: was, old: old, to: to.path}
		if s, err := b.sendVersion(ctx, of, l, last); !errors.Is(err, errWhole) {
			return s, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return sent{}, fmt.Errorf("%w: %w", ErrSource, err)
		}
	} else if put.Sum != [sha256.Size]byte{} && before.Size == put.Entry.Size && before.Size <= hashFirst {
		if same, err := hashes(f, put.Sum); err != nil {
			return sent{}, fmt.Errorf("%w: %w", ErrSource, err)
		} else if same && unchanged(f, before) {
			before.Sum = put.Sum
			return sent{entry: ripe(before, l.at), metaOnly: true}, nil
		}
	}

	content := &reader{from: f, left: before.Size, hash: sha256.New(), read: b.read}
	if b.r.remembers(before.Size) {
		content.blocks = newBlockSums(before.Size)
	}
	var n int64
	if data != nil {
		n, err = b.r.uploadSparse(ctx, to, &sparse{reader: content, file: f, size: before.Size, data: data}, before)
	} else {
		n, err = b.send(ctx, to, content, before)
	}
	err = b.r.lost(ctx, err)
	if err == nil && n == before.Size {
		if s, ok := l.prove(n, content.sum(), last); ok {
			if content.blocks != nil {
				b.r.blocks.Save(s.entry.Sum, content.blocks.blocks())
			}
			return s, nil
		}
	}
	switch {
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

func (b *batch) read(n int) { b.progress(0, int64(n)) }

// errWhole: the file has to be sent whole.
var errWhole = errors.New("the file has to be sent whole")

// sendVersion is sendOnce for a file of which the replica has an old version. errWhole says that it came to nothing.
func (b *batch) sendVersion(ctx context.Context, of deltaOf, l look, last bool) (sent, error) {
	got, err := b.r.sendChanges(ctx, of, b.read)
	err = b.r.lost(ctx, err)
	if err == nil || errors.Is(err, errSame) {
		s, ok := l.prove(got.n, got.sum, last)
		switch {
		case !ok:
			err = ErrUnsettled
		case err != nil && s.entry.Sum != of.was.Sum:
			err = errWhole // it cannot be: the hashes are wrong
		case err == nil:
			b.r.blocks.Save(s.entry.Sum, got.blocks)
			return s, nil
		default:
			s.metaOnly = true
			b.r.lanes.Small.Do(ctx, sftpipe.Remove(of.to))
			return s, nil
		}
	}
	if got != nil {
		b.progress(0, -got.n)
	}
	if fatal(ctx, err) {
		return sent{}, err
	}
	b.r.lanes.Small.Do(ctx, sftpipe.Remove(of.to))
	if errors.Is(err, ErrSource) || errors.Is(err, ErrUnsettled) || errors.Is(err, ErrInterrupted) {
		return sent{}, err
	}
	if err := b.r.lacksSpace(ctx, err, uint64(l.entry.Size)); errors.Is(err, ErrNoSpace) {
		return sent{}, err
	}
	return sent{}, errWhole
}

// lost is err, but for the end of a connection that is not one of those that everything depends on.
func (r *Replica) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil || !errors.Is(err, sftpipe.ErrConnectionLost) || r.lanes.Small.Err() != nil || r.lanes.Bulk.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %v", ErrInterrupted, err)
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
		c, done := b.lane(ctx, e.Size)
		defer done()
		return c.Upload(ctx, to.path, content, attrsOf(e))
	}
}

// lane is the connection for a file of that size, to be given back when it is sent. Of a plan with many bytes all
// connections take their turns, and of one with many files both channels of the session: each has a server process of
// its own at the other end.
func (b *batch) lane(ctx context.Context, size int64) (c *sftpipe.Client, done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	nothing := func() {}
	if b.spread && len(b.further) == 0 {
		b.giveBack()
		b.further, b.giveBack = b.r.lanes.more(ctx, false)
	}
	if n := len(b.further); n > 0 {
		b.turn++
		if i := b.turn % (n + 1); i < n {
			return b.further[i], nothing
		}
		return b.r.lanes.Small, nothing
	}
	if size >= bulkSize {
		return b.r.lanes.Bulk, nothing
	}
	if !b.both {
		return b.r.lanes.Small, nothing
	}
	c, n := b.r.lanes.Small, &b.onSmall
	if b.onBulk < b.onSmall {
		c, n = b.r.lanes.Bulk, &b.onBulk
	}
	*n++
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		*n--
	}
}

// look is a look at an open source file.
type look struct {
	file  *os.File
	entry tree.Entry
	at    time.Time
}

// rest waits until a later change is sure to show in the change time, and looks again: that takes less than to read a
// large file twice, which is what it would take to know otherwise.
func (l *look) rest(ctx context.Context) error {
	if !racy(l.entry, l.at) {
		return nil
	}
	pause := time.NewTimer(min(clockTick, clockTick-l.at.Sub(time.Unix(0, l.entry.CTime))))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	at := time.Now()
	e, err := tree.Stat(l.file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	l.entry, l.at = e, at
	return nil
}

// prove says whether the n bytes that were read since the look, and have this sum, are one state of the file. last is
// for a log that never rests: what was read is what it held when it was looked at.
func (l *look) prove(n int64, sum [sha256.Size]byte, last bool) (sent, bool) {
	before := l.entry
	before.Sum = sum
	switch {
	case n != before.Size:
	case unchanged(l.file, before) && (!racy(before, l.at) || again(l.file, n, sum)):
		return sent{entry: ripe(before, l.at)}, true
	case last && grown(l.file, before) && again(l.file, n, sum):
		before.CTime = 0
		return sent{entry: before}, true
	}
	return sent{}, false
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
func again(f *os.File, size int64, sum [sha256.Size]byte) bool {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false
	}
	got, n, err := tree.Hash(io.LimitReader(f, size))
	return err == nil && n == size && got == sum
}

func unchanged(f *os.File, before tree.Entry) bool {
	after, err := tree.Stat(f)
	// Without any name left, it was replaced under our hands; what was read is a complete old version. With one left it may
	// have been changed under that, and what was read was perhaps never to be seen under ours.
	return err == nil && after.Size == before.Size && after.MTime == before.MTime &&
		(after.CTime == before.CTime || after.Nlink == 0)
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
	from   io.Reader
	left   int64
	done   int64
	hash   hash.Hash
	blocks *blockSums // nil where they are of no use
	err    error
	read   func(n int)
}

func (r *reader) sum() [sha256.Size]byte { return [sha256.Size]byte(r.hash.Sum(nil)) }

func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.from.Read(p)
	r.hash.Write(p[:n])
	if r.blocks != nil {
		r.blocks.Write(p[:n])
	}
	r.left -= int64(n)
	r.done += int64(n)
	r.read(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
