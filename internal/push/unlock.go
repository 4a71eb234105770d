package push

import (
	"cmp"
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// A directory may be read-only at the source, whose owner is root perhaps, while the replica's owner is an ordinary
// account: it can neither make nor rename anything there. Nor can it rename such a directory into another one, which
// changes the directory's "..". So those that a plan touches are opened to their owner, and to nobody else, first of
// all, and get their modes back last.

// locked is a directory that was opened, and the mode it had.
type locked struct {
	path string // before the plan's moves
	mode fs.FileMode
}

// unlock opens the directories that the plan touches, parents first.
func (b *batch) unlock(ctx context.Context) error {
	need := b.needed()
	var steps []step
	for _, p := range slices.Sorted(maps.Keys(need)) {
		e, ok := b.known.Get(p)
		if !ok || e.Type != tree.Dir || e.Mode&need[p] == need[p] {
			continue
		}
		open := withMode(e, e.Mode|ownerRWX)
		attrs := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: posixMode(open.Mode)}
		req := sftpipe.Setstat(b.r.abs(p), attrs)
		steps = append(steps, step{reqs: []sftpipe.Request{req}, done: func(errs []error) {
			if errs[0] == nil {
				b.known.Set(p, open)
				b.locked = append(b.locked, locked{p, e.Mode})
			}
		}})
	}
	return b.fly(ctx, steps)
}

// needed says what the owner must be allowed to do in which directories, by their paths before the moves: everything in
// those that the plan works in or renames, and to pass through all above them.
func (b *batch) needed() map[string]fs.FileMode {
	const pass = 0o100
	need, unmoved := map[string]fs.FileMode{}, b.unmoved()
	add := func(p string) {
		p = unmoved(p)
		need[p] = ownerRWX
		for p != "." {
			p = tree.Parent(p)
			need[p] |= pass
		}
	}
	add(".") // the trash lies there
	for dir := range b.plan.Touched() {
		add(dir)
	}
	for _, put := range b.plan.Attrs {
		add(tree.Parent(put.Path))
	}
	for _, m := range b.plan.Moves {
		add(tree.Parent(m.From))
		add(m.From)
	}
	for _, del := range b.plan.Deletes {
		add(del.Path)
	}
	for put := range b.plan.Clearing() {
		add(put.Path)
	}
	return need
}

// unmoved says where what lies at a path once the moves are done lies before.
func (b *batch) unmoved() func(p string) string {
	return renames(b.plan.Moves, func(m plan.Move) (string, string) { return m.To, m.From })
}

// movedTo says where what lies at a path before the moves lies once they are done.
func (b *batch) movedTo() func(p string) string {
	return renames(b.plan.Moves, func(m plan.Move) (string, string) { return m.From, m.To })
}

// renames follows the move of a path itself, or else of the nearest directory above it.
func renames(moves []plan.Move, ends func(plan.Move) (from, to string)) func(p string) string {
	moved := make(map[string]string, len(moves))
	for _, m := range moves {
		if from, to := ends(m); !m.Copy {
			moved[from] = to
		}
	}
	return func(p string) string {
		for q := p; q != "." && len(moved) > 0; q = tree.Parent(q) {
			if to, ok := moved[q]; ok {
				return to + strings.TrimPrefix(p, q)
			}
		}
		return p
	}
}

// lastSteps set the attributes of the plan and give the opened directories their modes back, deepest first: nothing can
// be reached any more in a directory that was shut.
func (b *batch) lastSteps() []step {
	var steps []step
	planned, movedTo := map[string]bool{}, b.movedTo()
	for _, put := range b.plan.Attrs {
		planned[put.Path] = true
		// Where a directory could not be put in its place, what lies there keeps its own: it may be a file that is private.
		if e, ok := b.known.Get(put.Path); !ok || e.Type != put.Entry.Type {
			continue
		}
		s := b.attrStep(put)
		s.path = put.Path
		steps = append(steps, s)
	}
	for _, l := range b.locked {
		if p := movedTo(l.path); !planned[p] && !b.leaves(p) {
			steps = append(steps, b.lockStep(p, l.mode))
		}
	}
	depth := func(p string) int {
		if p == "." {
			return -1
		}
		return strings.Count(p, "/")
	}
	slices.SortStableFunc(steps, func(x, y step) int { return cmp.Compare(depth(y.path), depth(x.path)) })
	return steps
}

// leaves reports whether the plan deletes the directory at p, or puts something else in its place.
func (b *batch) leaves(p string) bool {
	for put := range b.plan.Clearing() {
		if tree.Within(p, put.Path) {
			return true
		}
	}
	return slices.ContainsFunc(b.plan.Deletes, func(del plan.Delete) bool { return tree.Within(p, del.Path) })
}

// lockStep gives a directory its mode back.
func (b *batch) lockStep(p string, mode fs.FileMode) step {
	attrs := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: posixMode(mode)}
	return step{path: p, reqs: []sftpipe.Request{sftpipe.Setstat(b.r.abs(p), attrs)}, done: func(errs []error) {
		if e, ok := b.known.Get(p); ok && e.Type == tree.Dir && errs[0] == nil {
			b.known.Set(p, withMode(e, mode))
		}
	}}
}
