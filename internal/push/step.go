package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// private is the mode of everything of ours that is not in its place yet: nobody but its owner may look in.
var private = sftpipe.Attrs{Has: sftpipe.HasMode, Mode: ownerRWX}

// step is a group of requests within a flight. done is called with their replies, one step after the other.
type step struct {
	path string // orders the steps of a flight
	reqs []sftpipe.Request
	done func(errs []error)
	puts []plan.Put // what lies where once it is done
	move *plan.Move // what is renamed by it
}

// fly sends the requests of all steps as one flight and hands each step its replies.
func (b *batch) fly(ctx context.Context, steps []step) error {
	var reqs []sftpipe.Request
	for _, s := range steps {
		reqs = append(reqs, s.reqs...)
	}
	b.expect(steps)
	var errs []error
	if len(reqs) > 0 {
		errs = b.r.lanes.Small.Do(ctx, reqs...)
	}
	for _, err := range errs {
		if err != nil && fatal(ctx, err) {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range steps {
		s.done(errs[:len(s.reqs)])
		errs = errs[len(s.reqs):]
	}
	return nil
}

// expect notes what is about to be put where: if the replies are lost, it may have happened or not.
func (b *batch) expect(steps []step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range steps {
		for _, put := range s.puts {
			if put.Entry.Type == tree.File {
				b.known.Expect(put.Path, put.Entry)
			}
		}
		if s.move == nil {
			continue
		}
		for p, e := range b.known.Below(s.move.From) {
			if e.Type == tree.File {
				b.known.Expect(s.move.To+strings.TrimPrefix(p, s.move.From), e)
			}
		}
	}
	if b.r.flush != nil {
		b.r.flush()
	}
}

// placed notes that e lies at p now. The caller holds b.mu.
func (b *batch) placed(p string, e tree.Entry) {
	b.known.Set(p, e)
	b.out.Entries++
	if e.Type == tree.File {
		b.out.Files++
		b.out.Bytes += e.Size
	}
	b.progress(1, 0)
}

// fail notes that p stays as it was on the replica. The caller holds b.mu.
func (b *batch) fail(p string, err error) {
	switch {
	case errors.Is(err, ErrUnsettled):
		b.out.Again = append(b.out.Again, p)
		b.out.Unsettled = append(b.out.Unsettled, p)
	case errors.Is(err, ErrInterrupted),
		errors.Is(err, ErrSource) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, tree.ErrNotRegular)):
		b.out.Again = append(b.out.Again, p)
	case !errors.Is(err, ErrSource) && errors.Is(err, fs.ErrNotExist):
		b.out.Stale = true
		b.out.Again = append(b.out.Again, p)
	default:
		b.out.Failed = append(b.out.Failed, Failure{p, err})
	}
}

// failed is fail for a worker: it returns err if that ends the whole batch.
func (b *batch) failed(ctx context.Context, p string, err error) error {
	if fatal(ctx, err) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail(p, err)
	return nil
}

// explain finds out what an SFTP server cannot say: code 4, "Failure", stands for a full disk and for a dozen others.
func (b *batch) explain(ctx context.Context) error {
	opaque := false
	for _, f := range b.out.Failed {
		var status *sftpipe.StatusError
		opaque = opaque || errors.As(f.Err, &status) && status.Code == sftpipe.StatusFailure
	}
	if !opaque {
		return nil
	}
	free, err := b.r.free(ctx)
	if err != nil {
		if fatal(ctx, err) {
			return err
		}
		return nil // a server that cannot say leaves the failure as it is
	}
	sizes := b.sizes()
	for i, f := range b.out.Failed {
		if need := sizes[f.Path]; free < max(need, little) {
			b.out.Failed[i].Err = noSpace(free, need, f.Err)
		}
	}
	return nil
}

// little is what a disk that is full need not lack: the part of a file that was written has been removed again.
const little = 1 << 20

// lacksSpace is explain for one file that needs so many bytes.
func (r *Replica) lacksSpace(ctx context.Context, err error, need uint64) error {
	status, opaque := errors.AsType[*sftpipe.StatusError](err)
	if !opaque || status.Code != sftpipe.StatusFailure {
		return err
	}
	free, asked := r.free(ctx)
	if asked != nil || free >= max(need, little) {
		return err
	}
	return noSpace(free, need, err)
}

func noSpace(free, need uint64, err error) error {
	return fmt.Errorf("%w: %d MiB free, %d MiB needed (%w)", ErrNoSpace, free>>20, (need+1<<20-1)>>20, err)
}

// sizes is what each file of the plan needs on the replica, in bytes.
func (b *batch) sizes() map[string]uint64 {
	sizes := map[string]uint64{}
	for _, put := range b.plan.Files {
		sizes[put.Path] = b.needs(put)
	}
	for _, stage := range b.plan.Stages {
		for _, put := range stage.Below {
			sizes[put.Path] = b.needs(put)
			sizes[stage.Top.Path] += b.needs(put) // it is put in place as a whole
		}
	}
	return sizes
}

// fills notes what a file with holes takes up.
func (b *batch) fills(p string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filled == nil {
		b.filled = map[string]int64{}
	}
	b.filled[p] = bytes
}

// needs is how many bytes put's file takes up on the replica.
func (b *batch) needs(put plan.Put) uint64 {
	if n, ok := b.filled[put.Path]; ok {
		return uint64(n)
	}
	return uint64(put.Entry.Size)
}

// free is how many bytes fit into the replica's file system: none if it has no inode left.
func (r *Replica) free(ctx context.Context) (uint64, error) {
	st, err := r.lanes.Small.StatVFS(ctx, r.target)
	if err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	if st.Files > 0 && st.FilesAvailable == 0 {
		return 0, nil
	}
	return st.Available(), nil
}
