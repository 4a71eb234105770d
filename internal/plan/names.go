package plan

import (
	"slices"

	"releve/internal/tree"
)

// name is one name of a file with several, and what is known of it on the replica.
type name struct {
	put     Put
	old     tree.Entry
	current bool // its content is as it shall be
}

func (d *differ) name(p string) name {
	s := d.src[p]
	n := name{put: Put{Path: p, Entry: s}}
	switch old, there := d.at(p); {
	case !there:
		n.put.Old = d.oldAt(p)
	case old.Type != s.Type:
		n.put.Old, n.put.Cleared = Other, d.count(p)
	default:
		n.put.Old, n.old, n.current = Same, old, sameContent(s, old)
	}
	return n
}

// worth says how well a name serves as the one that the others become links to.
func (n name) worth() int {
	worth := 0
	if n.current {
		worth += 8
	}
	if n.old.Ino != 0 {
		worth += 4
	}
	if reusable(n.put.Entry, n.old) != [32]byte{} {
		worth += 2
	}
	if n.old.Shared != 0 {
		worth++
	}
	return worth
}

// joins reports whether the replica has both as names of one file.
func (n name) joins(o name) bool { return n.old.Shared != 0 && n.old.Shared == o.old.Shared }

// compareNames compares a file with several names: its content once, and whether the replica has them all as names of one
// file.
func (d *differ) compareNames(paths []string) {
	slices.Sort(paths)
	lead, names := 0, make([]name, len(paths))
	agreed := d.agreed(paths)
	for i, p := range paths {
		names[i] = d.name(p)
		names[i].current = names[i].current && agreed
		if names[i].worth() > names[lead].worth() {
			lead = i
		}
	}
	first := names[lead]
	put := first.put
	for i, n := range names {
		switch joined := n.joins(first); {
		case first.current && (joined || i == lead):
			d.compareAttrs(n.put.Path, n.put.Entry, n.old)
		case i != lead:
			n.put.Joined, n.put.Current = joined, n.current
			put.Also = append(put.Also, n.put)
		}
	}
	switch {
	case !first.current:
		put.Sum = reusable(put.Entry, first.old)
	case put.Also == nil:
		return
	default:
		put.Current, put.Entry.Sum = true, first.old.Sum
	}
	d.plan.Files = append(d.plan.Files, put)
}

// agreed reports whether the looks at the names of a file saw it in the same state. Where they did not, it changed between
// one and the next: what the earlier ones say of its content is not true any more, and they do not know it.
func (d *differ) agreed(paths []string) bool {
	first := d.src[paths[0]]
	return !slices.ContainsFunc(paths[1:], func(p string) bool {
		e := d.src[p]
		return e.CTime != first.CTime || e.MTime != first.MTime || e.Size != first.Size
	})
}

// Names are all paths that put places.
func (put Put) Names() []string {
	paths := []string{put.Path}
	for _, also := range put.Also {
		paths = append(paths, also.Path)
	}
	return paths
}

// Split is put and each of its further names, alone.
func (put Put) Split() []Put {
	also := put.Also
	put.Also = nil
	return append([]Put{put}, also...)
}

// filterFiles takes out the names that drop reports. Where that is the one whose file is sent, the next takes its place.
func filterFiles(files []Put, drop func(Put) bool) []Put {
	var kept []Put
	for _, put := range files {
		names := put.Split()
		first, also := names[0], slices.DeleteFunc(names[1:], drop)
		if first.Current || !drop(first) { // what is current is not touched
			first.Also = also
		} else if len(also) > 0 {
			first = also[0]
			first.Joined, first.Also = false, also[1:]
		} else {
			continue
		}
		if !first.Current || len(first.Also) > 0 {
			kept = append(kept, first)
		}
	}
	return kept
}

// inPlace names the new directories that have to be made in place, because a name of a file that has others comes to lie
// there: what is built under a temporary name is built by itself.
func (d *differ) inPlace() map[string]bool {
	dirs := map[string]bool{}
	for _, put := range d.plan.Files {
		for _, p := range put.Names() {
			for p != "." {
				p = tree.Parent(p)
				dirs[p] = true
			}
		}
	}
	return dirs
}
