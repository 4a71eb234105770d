package push

import (
	"cmp"
	"context"
	"io/fs"
	"strconv"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// CarrySize is where a file is worth to be carried beside the plans of others, so that none waits for it.
const CarrySize = stripeSize

// removeWithin bounds the wait for the removal of what is not wanted any more.
const removeWithin = 5 * time.Second

// Carried is a file that lies on the replica, whole and checked, but not in its place yet. Where it turned out to be what
// lies in its place already, it lies nowhere else.
type Carried struct {
	at    slot
	entry tree.Entry
	kept  bool // by an earlier session
}

// Carries reports whether put can be uploaded by Carry: it is large enough, and can lie in the spool.
func (r *Replica) Carries(put plan.Put, known *plan.Known) bool {
	dir, ok := known.Get(tree.Parent(put.Path))
	return put.Entry.Size >= CarrySize && r.ahead.made && !r.ahead.off && ok && dir.Mode&fs.ModeSetgid == 0
}

// Carry uploads put's file from src ahead of the plan that puts it in place. was is what the replica is known to hold
// there. Unlike all other methods it may run beside others. Failures are those of Apply; nothing is left on the replica
// then that Read does not sweep.
func (r *Replica) Carry(ctx context.Context, src *tree.Root, put plan.Put, was tree.Entry, progress Progress) (Carried, error) {
	b := &batch{r: r, src: src, progress: progress}
	at := slot{path: r.spool() + "/" + r.id + "-" + strconv.FormatUint(r.serial.Add(1), 36), spool: true}
	s, err := b.sendFile(ctx, put, src.OpenFile, was, &at)
	if ctx.Err() != nil {
		// Nobody wants it any more, and it may be large. What is still on its way goes nowhere then.
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
		defer cancel()
		r.lanes.Small.Do(removing, sftpipe.Remove(at.path))
		return Carried{}, cmp.Or(err, ctx.Err())
	}
	if err != nil {
		return Carried{}, r.lacksSpace(ctx, err, b.needs(put))
	}
	if s.metaOnly {
		at.path = ""
	}
	return Carried{at: at, entry: s.entry}, nil
}

// Expect hands over what was carried, for the next plan that holds a put for path. Forget gives up what none held.
func (r *Replica) Expect(path string, c Carried) { r.carried[path] = c }

// Expects reports whether a file has been carried for path.
func (r *Replica) Expects(path string) bool {
	_, ok := r.carried[path]
	return ok
}

// Forget removes what was carried and is not wanted any more.
func (r *Replica) Forget(ctx context.Context) error {
	var reqs []sftpipe.Request
	for _, c := range r.carried {
		if c.at.path != "" {
			reqs = append(reqs, sftpipe.Remove(c.at.path))
		}
	}
	clear(r.carried)
	for _, err := range r.lanes.Small.Do(ctx, reqs...) {
		if err != nil && fatal(ctx, err) {
			return err
		}
	}
	return nil
}

// carried gives what lies ready for put, if that is still what it asks for: the file may have changed since, and what
// was carried then is an older version, but a whole one. Whether it was replaced or its mode changed is another matter.
func (b *batch) carried(put plan.Put) (Carried, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.r.carried[put.Path]
	if !ok || c.entry.Ino != put.Entry.Ino || c.entry.Dev != put.Entry.Dev || c.entry.Mode != put.Entry.Mode {
		return Carried{}, false
	}
	if c.at.path == "" && c.entry.Sum != put.Sum { // what lies in its place is not what it was compared with
		return Carried{}, false
	}
	if c.kept && !c.current(put.Entry) {
		return Carried{}, false
	}
	delete(b.r.carried, put.Path)
	return c, true
}

// outdated reports whether the file has changed since it was read.
func (c Carried) outdated(now tree.Entry) bool {
	now.Sum = c.entry.Sum
	return c.entry != now
}
