package plan_test

import (
	"fmt"
	"maps"
	"testing"

	"releve/internal/plan"
	"releve/internal/tree"
)

// TestGuardHoldsMassDeletion (S5): deletions beyond both limits are held, pushes go on.
func TestGuardHoldsMassDeletion(t *testing.T) {
	nobody := func(string) bool { return false }
	for _, c := range []struct {
		name                 string
		files, gone, recent  int
		limits               plan.Limits
		approved             func(string) bool
		wantHeld             int
		wantDeletes, wantPut int
	}{
		{"few", 1000, 100, 0, plan.Limits{Count: 100, Percent: 20}, nobody, 0, 100, 1},
		{"many, small share", 1000, 150, 0, plan.Limits{Count: 100, Percent: 20}, nobody, 0, 150, 1},
		{"many, large share", 1000, 300, 0, plan.Limits{Count: 100, Percent: 20}, nobody, 300, 0, 1},
		{"all of a small folder", 50, 50, 0, plan.Limits{Count: 100, Percent: 20}, nobody, 0, 50, 1},
		{"in small steps", 1000, 50, 240, plan.Limits{Count: 100, Percent: 20}, nobody, 50, 0, 1},
		{"approved", 1000, 300, 0, plan.Limits{Count: 100, Percent: 20}, func(string) bool { return true }, 0, 300, 1},
	} {
		src := newFiles()
		for i := range c.files {
			src.make(fmt.Sprint(i), tree.File)
		}
		dst := plan.NewKnown(maps.Clone(src.tree))
		for i := range c.gone {
			src.remove(fmt.Sprint(i))
		}
		src.make("new", tree.File)
		p := plan.Diff(src.tree, dst, plan.Scope{All: true})
		p, held := plan.Guard(p, dst.Len(), c.recent, c.limits, c.approved)
		if len(held) != c.wantHeld || len(p.Deletes) != c.wantDeletes || len(p.Files) != c.wantPut {
			t.Errorf("%s: %d held, %d deletions, %d files; want %d, %d, %d", c.name,
				len(held), len(p.Deletes), len(p.Files), c.wantHeld, c.wantDeletes, c.wantPut)
		}
	}
}

// TestGuardHoldsReplacedDirectory: a directory of 500 files that becomes a link is a deletion of 500 files.
func TestGuardHoldsReplacedDirectory(t *testing.T) {
	src := newFiles()
	src.make("site", tree.Dir)
	for i := range 500 {
		src.make(fmt.Sprintf("site/%d", i), tree.File)
	}
	dst := plan.NewKnown(maps.Clone(src.tree))
	src.remove("site")
	src.make("site", tree.Link)
	p := plan.Diff(src.tree, dst, plan.Scope{All: true})
	p, held := plan.Guard(p, dst.Len(), 0, plan.Limits{Count: 100, Percent: 20}, func(string) bool { return false })
	if len(held) != 1 || held[0].Count != 501 || len(p.Links) != 0 || len(p.Deletes) != 0 {
		t.Errorf("held %+v, plan %+v", held, p)
	}
}
