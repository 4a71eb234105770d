package plan

import (
	"releve/internal/tree"
)

// rooted is src without what does not lie in a directory: who exchanges a directory for a symbolic link while it is looked
// at makes us see both the link and something below it. On the replica that would be written through the link, to
// wherever it leads.
func rooted(src tree.Tree, dst *Known) tree.Tree {
	stands := map[string]bool{".": true}
	var inDir func(dir string) bool
	inDir = func(dir string) bool {
		ok, done := stands[dir]
		if !done {
			e, seen := src[dir]
			if !seen {
				e, seen = dst.Get(dir) // out of scope
			}
			ok = seen && e.Type == tree.Dir && inDir(tree.Parent(dir))
			stands[dir] = ok
		}
		return ok
	}
	astray := false
	for p := range src {
		if p != "." && !inDir(tree.Parent(p)) {
			astray = true
			break
		}
	}
	if !astray {
		return src
	}
	kept := make(tree.Tree, len(src))
	for p, e := range src {
		if p == "." || inDir(tree.Parent(p)) {
			kept[p] = e
		}
	}
	return kept
}
