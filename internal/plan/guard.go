package plan

import (
	"iter"
	"slices"
)

// Limits say how many deletions at once are believed. Both have to be passed for deletions to be held.
type Limits struct {
	// Count is a number of entries; Percent a share of the folder's entries.
	Count, Percent int
}

// Guard splits off the deletions that nobody should believe without being asked (the design's S5). total is the
// number of entries the replica holds, recent how many of them the caller deleted a short while ago: a directory
// that is emptied in many small steps is as suspicious as one emptied at once. approved reports the paths whose
// deletion a human has let through.
//
// Replacing a directory by something else deletes what it held and is guarded alike. Everything that is not held
// stays in the plan: pushes go on.
func Guard(p Plan, total, recent int, limits Limits, approved func(path string) bool) (Plan, []Delete) {
	sum := recent
	var suspects []Delete
	suspect := func(path string, n int) {
		if !approved(path) {
			suspects = append(suspects, Delete{Path: path, Count: n})
			sum += n
		}
	}
	for _, del := range p.Deletes {
		suspect(del.Path, del.Count)
	}
	for put := range p.puts() {
		if put.Old == Other && put.Cleared > 1 {
			suspect(put.Path, put.Cleared)
		}
	}
	if sum <= limits.Count || sum*100 <= limits.Percent*max(total, 1) {
		return p, nil
	}
	return Hold(p, func(path string) bool {
		return slices.ContainsFunc(suspects, func(d Delete) bool { return d.Path == path })
	}), suspects
}

// Hold takes the deletions that held reports out of the plan, and everything that cannot be done without them.
func Hold(p Plan, suspect func(path string) bool) Plan {
	blocked := map[string]bool{}
	for _, del := range p.Deletes {
		if suspect(del.Path) {
			blocked[del.Path] = true
		}
	}
	for put := range p.Clearing() {
		if suspect(put.Path) {
			blocked[put.Path] = true
		}
	}
	held := func(path string) bool { return blocked[path] }
	clears := func(put Put) bool { return put.Old == Other && held(put.Path) }
	under := func(path string) bool {
		for q := range parents(path) {
			if held(q) {
				return true
			}
		}
		return false
	}
	drop := func(put Put) bool { return clears(put) || under(put.Path) }
	p.Deletes = slices.DeleteFunc(slices.Clone(p.Deletes), func(d Delete) bool { return held(d.Path) })
	p.Dirs = slices.DeleteFunc(slices.Clone(p.Dirs), drop)
	p.Files = filterFiles(p.Files, drop)
	p.Links = slices.DeleteFunc(slices.Clone(p.Links), drop)
	p.Attrs = slices.DeleteFunc(slices.Clone(p.Attrs), func(put Put) bool { return held(put.Path) || under(put.Path) })
	p.Moves = slices.DeleteFunc(slices.Clone(p.Moves), func(m Move) bool { return under(m.To) })
	p.Stages = slices.DeleteFunc(slices.Clone(p.Stages), func(s Stage) bool { return drop(s.Top) })
	return p
}

// parents yields the directories above p, the root left out.
func parents(p string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := len(p) - 1; i > 0; i-- {
			if p[i] == '/' && !yield(p[:i]) {
				return
			}
		}
	}
}

// Without takes out of a plan everything that touches a path which skip reports: those paths stay as they are on the
// replica until they are compared again.
func Without(p Plan, skip func(path string) bool) Plan {
	drop := func(put Put) bool { return skip(put.Path) }
	p.Dirs = slices.DeleteFunc(slices.Clone(p.Dirs), drop)
	p.Files = filterFiles(p.Files, drop)
	p.Links = slices.DeleteFunc(slices.Clone(p.Links), drop)
	p.Attrs = slices.DeleteFunc(slices.Clone(p.Attrs), drop)
	p.Deletes = slices.DeleteFunc(slices.Clone(p.Deletes), func(d Delete) bool { return skip(d.Path) })
	p.Moves = slices.DeleteFunc(slices.Clone(p.Moves), func(m Move) bool { return skip(m.From) || skip(m.To) })
	p.Stages = slices.DeleteFunc(slices.Clone(p.Stages), func(s Stage) bool { return drop(s.Top) })
	for i, s := range p.Stages {
		p.Stages[i].Below = slices.DeleteFunc(slices.Clone(s.Below), drop)
	}
	return p
}
