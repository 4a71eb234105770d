package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

const (
	// A plan of more than this is a first sync or close to one. It puts new files in place as they arrive, so that
	// an interruption does not cost what was done; smaller plans appear as a whole, in one flight.
	wholeEntries = 10_000
	wholeBytes   = 512 << 20
	// stagesAtOnce is how many new directories are under construction at once.
	stagesAtOnce = 64
)

// batch is one Apply under way. It goes through three phases, each of which sends its requests in one flight or as
// many at once as the connection takes: arrange (directories, moves), upload (everything under temporary names),
// settle (renames, links, deletions, attributes, in this order).
type batch struct {
	r        *Replica
	src      *tree.Root
	plan     plan.Plan
	known    *plan.Known
	progress Progress
	files    chan struct{} // a slot for each file in flight

	mu        sync.Mutex // guards all below, known and the trash while uploads run
	out       Outcome
	laid      int    // files noted since that was flushed
	laidBytes int64  // and their bytes
	finish    []step // what the settle phase puts in place: files and new directories
	links     []step // the same for symbolic links, which come after what they point to
	attrs     []step
	junk      []string         // temporary names that could not be put in place
	locked    []locked         // directories that were opened and have to be shut again
	filled    map[string]int64 // what files with holes take up, by path

	trashless error // why there is no trash for the present flight
	room      room

	both     bool // the files are worth both channels of the session,
	onSmall  int  // each with as many in flight as it takes
	onBulk   int
	spread   bool              // the bytes are worth further connections
	further  []*sftpipe.Client // those, as soon as there are any
	giveBack func()
	turn     int
}

// arrange makes the directories that are filled in place and moves what has only been renamed.
func (b *batch) arrange(ctx context.Context) error {
	if err := b.unlock(ctx); err != nil {
		return err
	}
	if err := b.tighten(ctx); err != nil {
		return err
	}
	var steps []step
	for put, m := range b.plan.Arrangement() {
		if put != nil {
			steps = append(steps, b.mkdirStep(*put))
		} else {
			steps = append(steps, b.moveStep(*m))
		}
	}
	return b.fly(ctx, b.trashFirst(steps))
}

// trashFirst is steps with the directories of the trash that they need in front. Steps that use the trash fly in the
// arrange and settle phases only, where nothing else is under way.
func (b *batch) trashFirst(steps []step) []step {
	reqs, first := b.r.trash.flush()
	mkdirs := len(reqs)
	if root, ok := b.known.Get("."); ok && first {
		// Making the trash has changed the target's time, and nothing of the plan need set it again.
		reqs = append(reqs, sftpipe.Setstat(b.r.target, timesOf(root)))
	}
	made := func(errs []error) { b.trashless = b.r.trash.flown(errs[:mkdirs], first) }
	return append([]step{{reqs: reqs, done: made}}, steps...)
}

// mkdirStep makes a directory in place. Nobody else may look in before it has its own mode, which comes last.
func (b *batch) mkdirStep(put plan.Put) step {
	abs := b.r.abs(put.Path)
	return step{reqs: append(b.keep(put, abs), sftpipe.Mkdir(abs, private)), done: func(errs []error) {
		if err := errs[len(errs)-1]; err != nil {
			b.fail(put.Path, fmt.Errorf("make directory: %w", err))
			return
		}
		if put.Old == plan.Other {
			b.known.Delete(put.Path)
		}
		b.placed(put.Path, withMode(put.Entry, ownerRWX))
	}}
}

// moveStep renames on the far side.
func (b *batch) moveStep(m plan.Move) step {
	req := sftpipe.Rename
	if m.Copy {
		req = sftpipe.Hardlink
	}
	reqs := []sftpipe.Request{req(b.r.abs(m.From), b.r.abs(m.To))}
	return step{reqs: reqs, move: &m, done: func(errs []error) { b.moved(m, errs[0]) }}
}

// moved notes how a move ended. The caller holds b.mu.
func (b *batch) moved(m plan.Move, err error) {
	if err != nil {
		// Nothing is wrong with the source: have both ends compared anew, and what cannot be moved uploaded. It is
		// forgotten which source file it was made from, or the same move would be planned again and again.
		strangers := tree.Tree{}
		for p, e := range b.known.Below(m.From) {
			strangers[p] = plan.Doubt(e)
		}
		for p, e := range strangers {
			b.known.Set(p, e)
		}
		b.out.Stale = true
		b.out.Again = append(b.out.Again, m.From, m.To)
		return
	}
	b.out.Moved++
	old, _ := b.known.Get(m.From)
	if !m.Copy {
		b.known.Rename(m.From, m.To)
	}
	e := withMode(m.Entry, old.Mode) // its own mode is set with the attributes
	e.Sum, e.Shared = old.Sum, old.Shared
	b.known.Set(m.To, e)
}

// upload sends all files and links to temporary names and builds the new directories.
func (b *batch) upload(ctx context.Context) error {
	entries, bytes := b.plan.Totals()
	whole := entries <= wholeEntries && bytes <= wholeBytes
	slots := b.r.lanes.Parallel
	if b.both = entries > slots && b.r.lanes.Bulk != b.r.lanes.Small && len(b.r.large) == 0; b.both {
		slots *= 2
	}
	b.files = make(chan struct{}, slots)
	b.spread, b.giveBack = bytes >= spreadBytes && !b.r.lanes.Near, func() {}
	defer func() { b.giveBack() }()

	group, working := errgroup.WithContext(ctx)
	stages := make(chan struct{}, stagesAtOnce)
	for _, s := range b.plan.Stages {
		if !acquire(working, stages) {
			break
		}
		group.Go(func() error {
			defer release(stages)
			return b.stage(working, s, whole || s.Top.Old != plan.Absent)
		})
	}
	source := cursor{src: b.src}
	defer source.close()
	for _, put := range b.plan.Files {
		if !acquire(working, b.files) {
			break
		}
		to := b.slot(put)
		open, opened := source.to(put.Path)
		group.Go(func() error {
			defer release(b.files)
			defer opened()
			replaces := func(put plan.Put) bool { return put.Old != plan.Absent }
			return b.file(working, put, open, to, whole || slices.ContainsFunc(put.Split(), replaces))
		})
	}
	for _, put := range b.plan.Links {
		if !acquire(working, b.files) {
			break
		}
		group.Go(func() error {
			defer release(b.files)
			return b.link(working, put)
		})
	}
	if missing := spares - b.spare(); missing > 0 && b.r.ahead.made && !b.r.ahead.off {
		group.Go(func() error {
			more := b.r.stock(working, missing)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.r.ahead.open = append(b.r.ahead.open, more...)
			return nil
		})
	}
	return cmp.Or(group.Wait(), ctx.Err())
}

// slot is Replica.slot while uploads run.
func (b *batch) slot(put plan.Put) slot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.r.slot(put, b.known)
}

// spare is how many files are open ahead.
func (b *batch) spare() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.r.ahead.open)
}

func acquire(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func release(slots chan struct{}) { <-slots }

// file uploads one file; later says that it is put in place with the final flight.
func (b *batch) file(ctx context.Context, put plan.Put, open opener, to slot, later bool) error {
	var s sent
	var err error
	if c, arrived := b.carried(put); arrived {
		if c.outdated(put.Entry) {
			b.again(put.Names()...)
		}
		s, later = sent{c.entry, c.at.path == ""}, true
		if !s.metaOnly {
			to = c.at
		}
	} else if put.Current {
		s = sent{put.Entry, true}
	} else if s, err = b.sendFile(ctx, put, open, b.was(put), &to); err != nil {
		b.giveSlot(ctx, to)
		return b.failedAll(ctx, put.Split(), err)
	}
	if s.metaOnly {
		b.giveSlot(ctx, to)
	} else if later {
		b.lay(put.Path, to.path, s.entry)
	}
	if len(put.Also) > 0 {
		return b.names(ctx, put, s, to, later)
	}
	put.Entry = s.entry
	if s.metaOnly {
		put.Entry.Shared = b.was(put).Shared
		b.attr(put)
		return nil
	}
	st := b.renameStep(put, to)
	if !later {
		return b.fly(ctx, []step{st})
	}
	b.place(st)
	return nil
}

// place has st done with the final flight.
func (b *batch) place(st step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish = append(b.finish, st)
}

// attr has put's mode and times set with the final flight.
func (b *batch) attr(put plan.Put) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attrs = append(b.attrs, b.attrStep(put))
}

// was is what the replica is known to hold in put's place.
func (b *batch) was(put plan.Put) tree.Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := b.known.Get(put.Path)
	return e
}

// giveSlot gives back a slot that was not needed. Others are being opened in its place: no more are kept than that takes.
func (b *batch) giveSlot(ctx context.Context, to slot) {
	if to.file == nil {
		return
	}
	b.mu.Lock()
	keep := len(b.r.ahead.open) < spares
	if keep {
		b.r.ahead.open = append(b.r.ahead.open, to)
	} else {
		b.junk = append(b.junk, to.path)
	}
	b.mu.Unlock()
	if !keep {
		_ = to.file.Close(ctx) // it is empty, and removed with the junk
	}
}

// again has paths compared anew.
func (b *batch) again(paths ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.Again = append(b.out.Again, paths...)
}

// link makes a symbolic link under a temporary name.
func (b *batch) link(ctx context.Context, put plan.Put) error {
	temp := b.r.temp(put.Path)
	if err := first(b.r.lanes.Small.Do(ctx, sftpipe.Symlink(put.Entry.Link, temp))); err != nil {
		return b.failed(ctx, put.Path, fmt.Errorf("make link: %w", err))
	}
	st := b.renameStep(put, slot{path: temp})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.links = append(b.links, st)
	b.attrs = append(b.attrs, b.attrStep(put))
	return nil
}

// renameStep puts what lies whole in a slot into its place, keeping what lies there.
func (b *batch) renameStep(put plan.Put, from slot) step {
	abs := b.r.abs(put.Path)
	b.mu.Lock()
	reqs := b.keep(put, abs)
	b.mu.Unlock()
	reqs = append(reqs, sftpipe.Rename(from.path, abs))
	return step{path: put.Path, reqs: reqs, puts: []plan.Put{put}, done: func(errs []error) {
		switch err := errs[len(errs)-1]; {
		case err != nil && from.spool: // perhaps because of where it lay: once more, from beside its place
			b.r.ahead.off = true
			b.out.Again = append(b.out.Again, put.Path)
			b.junk = append(b.junk, from.path)
			return
		case err != nil:
			b.fail(put.Path, fmt.Errorf("put in place: %w", err))
			b.junk = append(b.junk, from.path)
			return
		}
		if put.Old == plan.Other {
			b.known.Delete(put.Path)
		}
		b.placed(put.Path, put.Entry)
	}}
}

// keep returns the requests that save what put replaces. The caller holds b.mu.
func (b *batch) keep(put plan.Put, abs string) []sftpipe.Request {
	if put.Old != plan.Absent {
		<-b.room.answered
	}
	switch {
	case put.Old == plan.Same && put.Entry.Type == tree.File:
		return b.r.trash.link(put.Path, abs)
	case put.Old == plan.Other:
		return b.r.trash.rename(put.Path, abs)
	}
	return nil
}

// settle makes everything visible in one flight: files, then links, then deletions, then attributes, deepest first.
// OpenSSH's server works through a flight strictly in order.
func (b *batch) settle(ctx context.Context) error {
	byPath := func(x, y step) int { return strings.Compare(x.path, y.path) }
	slices.SortFunc(b.finish, byPath)
	slices.SortFunc(b.links, byPath)
	steps := append(b.finish, b.links...)
	for _, del := range b.plan.Deletes {
		steps = append(steps, b.deleteStep(del))
	}
	steps = append(steps, b.attrs...)
	steps = append(steps, b.lastSteps()...)
	if err := b.fly(ctx, b.trashFirst(steps)); err != nil {
		return err
	}
	if err := b.clean(ctx); err != nil {
		return err
	}
	return b.explain(ctx)
}

// clean removes what could not be put in place. The directories it lay in have got their times before: they get them
// once more.
func (b *batch) clean(ctx context.Context) error {
	if len(b.junk) == 0 {
		return nil
	}
	if err := b.r.removeAll(ctx, b.junk...); err != nil && fatal(ctx, err) {
		return err
	}
	var steps []step
	done := map[string]bool{}
	for _, temp := range b.junk {
		dir := b.r.rel(path.Dir(temp))
		if e, ok := b.known.Get(dir); ok && !done[dir] {
			done[dir] = true
			steps = append(steps, b.attrStep(plan.Put{Path: dir, Entry: e}))
		}
	}
	return b.fly(ctx, steps)
}

func (b *batch) deleteStep(del plan.Delete) step {
	reqs := b.r.trash.rename(del.Path, b.r.abs(del.Path))
	return step{reqs: reqs, done: func(errs []error) {
		// "No such file" may be said of the path, which then is gone already, or of the trash: somebody else has been
		// at work, and the replica is looked at again.
		if err := errs[len(errs)-1]; err != nil {
			if b.trashless != nil && errors.Is(err, fs.ErrNotExist) {
				err = b.trashless
			}
			b.fail(del.Path, fmt.Errorf("move to the trash: %w", err))
			return
		}
		b.known.Delete(del.Path)
		b.out.Deleted += del.Count
	}}
}

// attrStep sets mode and times.
func (b *batch) attrStep(put plan.Put) step {
	reqs := b.r.setattr(b.r.abs(put.Path), put.Entry)
	return step{reqs: reqs, puts: []plan.Put{put}, done: func(errs []error) {
		switch err := first(errs); {
		case err != nil && put.Path == "." && errors.Is(err, fs.ErrPermission):
			b.out.Root = err
			return
		case err != nil:
			b.fail(put.Path, fmt.Errorf("set mode and times: %w", err))
			return
		}
		if old, ok := b.known.Get(put.Path); ok && old.Type == put.Entry.Type {
			b.known.Set(put.Path, put.Entry)
		}
	}}
}
