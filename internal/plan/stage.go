package plan

import (
	"cmp"
	"path"
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
	type weight struct {
		entries int
		bytes   int64
		moves   bool // something moves into it: it has to exist in place before
	}
	weights := map[string]weight{}
	for p, put := range d.fresh {
		for q := p; q != "."; q = path.Dir(q) {
			if f, ok := d.fresh[q]; !ok || f.Entry.Type != tree.Dir && q != p {
				break
			}
			w := weights[q]
			w.entries++
			if put.Entry.Type == tree.File {
				w.bytes += put.Entry.Size
			}
			weights[q] = w
		}
	}
	for _, m := range d.plan.Moves {
		for q := path.Dir(m.To); q != "."; q = path.Dir(q) {
			w := weights[q]
			w.moves = true
			weights[q] = w
		}
	}

	open := d.inPlace()
	paths := make([]string, 0, len(d.fresh))
	for p := range d.fresh {
		paths = append(paths, p)
	}
	slices.Sort(paths) // parents first
	index := map[string]int{}
	inPlace := map[string]bool{}
	for _, p := range paths {
		put := d.fresh[p]
		if top, staged := index[path.Dir(p)]; staged {
			s := &d.plan.Stages[top]
			put.Old = Absent
			s.Below = append(s.Below, put)
			if put.Entry.Type == tree.Dir {
				index[p] = top
			}
			continue
		}
		switch put.Entry.Type {
		case tree.Dir:
			w := weights[p]
			if p == "." || w.moves || open[p] || w.entries > stageEntries || w.bytes > stageBytes {
				d.plan.Dirs = append(d.plan.Dirs, put)
				inPlace[p] = true
				continue
			}
			index[p] = len(d.plan.Stages)
			d.plan.Stages = append(d.plan.Stages, Stage{Top: put})
		case tree.File:
			d.plan.Files = append(d.plan.Files, put)
		case tree.Link:
			d.plan.Links = append(d.plan.Links, put)
		}
	}
	// Directories that are replaced by nothing of ours but made in place count as present for what goes into them.
	for p := range inPlace {
		delete(d.fresh, p)
	}
	byPath := func(a, b Put) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortFunc(d.plan.Files, byPath)
	slices.SortFunc(d.plan.Links, byPath)
}
