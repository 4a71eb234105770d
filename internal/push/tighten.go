package push

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// narrowing is what is to have less rights: what it is to have, by its path before the moves.
type narrowing map[string]tree.Entry

// tighten takes from what is to have less rights those that it will not have, in a flight of its own, before anything is
// moved or put in place: what comes to lie in a directory that has become private, or gets another name, must not be
// seen by everybody for an instant. A server may refuse that (what lies there may be somebody else's). Then what was to be
// moved is made anew, and nothing comes to lie in a directory that is open to more than it is at the source.
func (b *batch) tighten(ctx context.Context) error {
	refused := map[string]error{}
	var steps []step
	narrowed := b.narrowed()
	for _, p := range slices.Sorted(maps.Keys(narrowed)) {
		e := narrowed[p]
		attrs := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: posixMode(e.Mode)}
		req := sftpipe.Setstat(b.r.abs(p), attrs)
		steps = append(steps, step{reqs: []sftpipe.Request{req}, done: func(errs []error) {
			if errs[0] != nil {
				refused[p] = errs[0]
				return
			}
			b.known.Set(p, e)
		}})
	}
	if err := b.fly(ctx, steps); err != nil || len(refused) == 0 {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stay(refused)
	b.shun(narrowed, refused)
	return nil
}

// narrowed is what has to be tightened, as the replica will hold it then.
func (b *batch) narrowed() narrowing {
	n, unmoved := narrowing{}, b.unmoved()
	narrow := func(from string, want tree.Entry) {
		have, ok := n[from]
		if !ok {
			have, ok = b.known.Get(from)
		}
		if !ok || have.Type != want.Type || have.Type == tree.Link {
			return
		}
		if mode := tighter(have, want); mode != have.Mode {
			n[from] = withMode(have, mode)
		}
	}
	for _, m := range b.plan.Moves {
		narrow(m.From, m.Entry)
	}
	for _, put := range b.plan.Attrs {
		narrow(unmoved(put.Path), put.Entry)
	}
	for _, put := range b.plan.Files {
		for _, name := range put.Names() {
			if from := unmoved(name); from != name { // its old version comes along with its directory
				narrow(from, put.Entry)
			}
		}
	}
	return n
}

// tighter is the replica's mode without what the source does not grant. What its owner may do does not matter yet.
func tighter(have, want tree.Entry) fs.FileMode { return have.Mode & (want.Mode | ownerRWX) }

// stay takes those moves out of the plan that would carry what could not be tightened to another name.
func (b *batch) stay(refused map[string]error) {
	b.plan.Moves = slices.DeleteFunc(slices.Clone(b.plan.Moves), func(m plan.Move) bool {
		for p, err := range refused {
			if tree.Within(p, m.From) {
				delete(refused, p)
				b.moved(m, err)
				return true
			}
		}
		return false
	})
}

// shun takes everything out of the plan that would come to lie, or be changed, in a directory that could not be tightened
// and lets others in whom the source does not. The directory itself is named when its attributes cannot be set, later.
func (b *batch) shun(narrowed narrowing, refused map[string]error) {
	const in = 0o055 // to list a directory, or pass through it
	open := map[string]error{}
	for p, err := range refused {
		if e, ok := b.known.Get(p); ok && e.Type == tree.Dir && (e.Mode&^narrowed[p].Mode)&in != 0 {
			open[p] = err
		}
	}
	if len(open) == 0 {
		return
	}
	shunned := map[string]bool{}
	b.plan = plan.Without(b.plan, func(p string) bool {
		for dir := p; dir != "."; {
			dir = tree.Parent(dir)
			if err := open[dir]; err != nil {
				if !shunned[p] {
					shunned[p] = true
					b.fail(p, fmt.Errorf("its directory %q on the replica is open to more than at the source: %w", dir, err))
				}
				return true
			}
		}
		return false
	})
}
