package plan

import (
	"cmp"
	"maps"
	"slices"

	"releve/internal/tree"
)

// A new directory is staged whole only up to these sizes. What is being staged when the link breaks is uploaded
// again; the limits bound that loss, and a first sync of a large tree goes on where it stopped.
const (
	stageEntries = 1000
	stageBytes   = 64 << 20
)

// stage distributes the new entries: small new directories to Stages, the rest to Dirs, Files and Links.
func (d *differ) stage() {
	byPath := func(a, b *Put) int { return cmp.Compare(a.Path, b.Path) }
	fresh := slices.SortedFunc(maps.Values(d.fresh), byPath) // parents first
	weights := d.weigh(fresh)
	open := d.inPlace()
	index := map[string]int{}
	inPlace := map[string]bool{}
	for _, put := range fresh {
		p := put.Path
		if top, staged := index[tree.Parent(p)]; staged {
			s := &d.plan.Stages[top]
			put.Old = Absent
			s.Below = append(s.Below, *put)
			if put.Entry.Type == tree.Dir {
				index[p] = top
			}
			continue
		}
		switch put.Entry.Type {
		case tree.Dir:
			w := weights[p]
			if p == "." || w.moves || open[p] || w.entries > stageEntries || w.bytes > stageBytes {
				d.plan.Dirs = append(d.plan.Dirs, *put)
				inPlace[p] = true
				continue
			}
			index[p] = len(d.plan.Stages)
			d.plan.Stages = append(d.plan.Stages, Stage{Top: *put})
		case tree.File:
			d.plan.Files = append(d.plan.Files, *put)
		case tree.Link:
			d.plan.Links = append(d.plan.Links, *put)
		}
	}
	// Directories that are replaced by nothing of ours but made in place count as present for what goes into them.
	for p := range inPlace {
		delete(d.fresh, p)
	}
	inOrder := func(a, b Put) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortFunc(d.plan.Files, inOrder) // with those that replace something
	slices.SortFunc(d.plan.Links, inOrder)
}

// weight is how much a new directory holds.
type weight struct {
	entries int // itself included
	bytes   int64
	moves   bool // something moves into it: it has to exist in place before
}

// weigh gives the weights of the new directories among fresh, which are in the order of their paths.
func (d *differ) weigh(fresh []*Put) map[string]weight {
	weights := map[string]weight{}
	for _, put := range slices.Backward(fresh) { // all that a directory holds comes before it
		w := weight{entries: 1}
		switch put.Entry.Type {
		case tree.Dir:
			w.entries += weights[put.Path].entries
			w.bytes = weights[put.Path].bytes
			weights[put.Path] = w
		case tree.File:
			w.bytes = put.Entry.Size
		}
		dir := tree.Parent(put.Path)
		above := weights[dir]
		above.entries += w.entries
		above.bytes += w.bytes
		weights[dir] = above
	}
	for _, m := range d.plan.Moves {
		for q := tree.Parent(m.To); q != "."; q = tree.Parent(q) {
			w := weights[q]
			w.moves = true
			weights[q] = w
		}
	}
	return weights
}
