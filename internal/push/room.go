package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"releve/pkg/sftpipe"
)

// reserve is the part of the replica's disk that is not for what was replaced or deleted: one byte in so many.
const reserve = 20

// MakeRoom has the trash give way, oldest first, while there is less room on the replica's disk than need and a twentieth
// of the disk. Where that is not enough, what is replaced or deleted is not kept any more, until there is room again.
// Kept says whether it is. now is the present time. It may not be called while anything else is under way.
func (r *Replica) MakeRoom(ctx context.Context, now time.Time, need uint64) error {
	if r.trash.keep == 0 {
		return nil
	}
	low, err := r.low(ctx, need)
	if err != nil {
		return err
	}
	if !low {
		r.trash.off = false
		return nil
	}
	folders, err := r.trashed(ctx)
	if err != nil {
		return err
	}
	for n := 1; low && len(folders) > 0; n *= 2 { // there may be one of every minute of a week
		n = min(n, len(folders))
		if err := r.discard(ctx, folders[:n]); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		folders, r.trash.given = folders[n:], now
		if low, err = r.low(ctx, need); err != nil {
			return err
		}
	}
	r.trash.off = low
	return nil
}

// Kept reports whether what is replaced or deleted is kept, as far as it is to be, and when last something that was kept
// had to give way before its time; zero if nothing had.
func (r *Replica) Kept() (kept bool, given time.Time) { return !r.trash.off, r.trash.given }

// low reports whether the disk has less room than need and what is reserved. Where that cannot be told it has not.
func (r *Replica) low(ctx context.Context, need uint64) (bool, error) {
	st, err := r.lanes.Small.StatVFS(ctx, r.target)
	switch {
	case err != nil && fatal(ctx, err):
		return false, fmt.Errorf("ask for free space: %w", err)
	case err != nil:
		return false, nil
	}
	size := sftpipe.StatVFS{BlocksAvailable: st.Blocks, FragmentSize: st.FragmentSize}.Available()
	if need > size {
		need = 0 // the trash will not help
	}
	return st.Available() < size/reserve+need || st.Files > 0 && st.FilesAvailable == 0, nil
}

// trashed lists the folders of the trash, oldest first.
func (r *Replica) trashed(ctx context.Context) ([]string, error) {
	entries, err := r.lanes.Bulk.ReadDir(ctx, r.trash.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list trash: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, ours := trashedAt(e.Name); ours {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// trashedAt is when a folder of the trash was opened, if it is one of ours.
func trashedAt(name string) (time.Time, bool) {
	stamp, _, ok := strings.Cut(name, "-")
	when, err := time.Parse(trashTime, stamp)
	return when, ok && err == nil
}

// discard removes folders of the trash.
func (r *Replica) discard(ctx context.Context, names []string) error {
	paths := make([]string, len(names))
	for i, name := range names {
		if name == r.trash.folder {
			r.trash.turn()
		}
		paths[i] = path.Join(r.trash.root, name)
	}
	return r.removeAll(ctx, paths...)
}

// freed has the trash give way to what has just failed for lack of room, so that it fits when it is tried again, or to what
// has just been put in place.
func (b *batch) freed(ctx context.Context, now time.Time) error {
	_, bytes := b.plan.Totals()
	need, sizes := uint64(0), b.sizes()
	for _, f := range b.out.Failed {
		if errors.Is(f.Err, ErrNoSpace) {
			need += max(sizes[f.Path], little)
		}
	}
	if need == 0 && bytes < bulkSize { // the next batch will see
		return nil
	}
	return b.r.MakeRoom(ctx, now, need)
}

// room is the question whether the disk has room for what a batch replaces and deletes. It is asked beside the uploads,
// and answered before anything is put in place.
type room struct {
	answered chan struct{}
	err      error
}

// askRoom asks. The trash may not be used before hasRoom has returned.
func (b *batch) askRoom(ctx context.Context, now time.Time) {
	b.room.answered = make(chan struct{})
	go func() { // joined by hasRoom
		defer close(b.room.answered)
		b.room.err = b.r.MakeRoom(ctx, now, 0)
	}()
}

// hasRoom waits for the answer. An error ends the batch.
func (b *batch) hasRoom(ctx context.Context) error {
	<-b.room.answered // the question is bounded by ctx itself
	if b.room.err != nil && fatal(ctx, b.room.err) {
		return b.room.err
	}
	return nil
}
