package plan_test

import (
	"maps"
	"slices"
	"testing"

	"releve/internal/plan"
	"releve/internal/tree"
)

// TestRecall: what lies on the replica after an interruption is what was known, what was sent, or nobody knows what.
func TestRecall(t *testing.T) {
	old := tree.Entry{Type: tree.File, Size: 3, MTime: 5_000_000_001, Ino: 1, CTime: 6, Sum: [32]byte{1}}
	sent := tree.Entry{Type: tree.File, Size: 3, MTime: 5_000_000_002, Ino: 2, CTime: 7, Sum: [32]byte{2}}
	linked := old
	linked.Shared = 7
	longer := sent
	longer.Size = 4
	listing := func(e tree.Entry) tree.Entry {
		return tree.Entry{Type: e.Type, Size: e.Size, Mode: e.Mode, MTime: e.Seconds() * 1e9, Link: e.Link}
	}
	for name, c := range map[string]struct {
		known, sent *tree.Entry
		listed      tree.Entry
		want        tree.Entry
	}{
		"as it was":                         {known: &old, listed: listing(old), want: old},
		"names of one file":                 {known: &linked, listed: listing(old), want: linked},
		"perhaps a name of another":         {known: &old, sent: &linked, listed: listing(old), want: old},
		"never arrived":                     {known: &old, sent: &longer, listed: listing(old), want: old},
		"arrived":                           {known: &old, sent: &longer, listed: listing(longer), want: longer},
		"the first of its name":             {sent: &sent, listed: listing(sent), want: sent},
		"either, of the same look":          {known: &old, sent: &sent, listed: listing(old), want: plan.Doubt(listing(old))},
		"neither":                           {known: &old, sent: &sent, listed: listing(longer), want: plan.Doubt(listing(longer))},
		"somebody else's":                   {known: &old, listed: listing(longer), want: plan.Doubt(listing(longer))},
		"never heard of: as rsync would":    {listed: listing(old), want: listing(old)},
		"a doubt remains one":               {known: ptr(plan.Doubt(listing(old))), listed: listing(old), want: plan.Doubt(listing(old))},
		"what was sent and set is not sent": {known: &sent, listed: listing(sent), want: sent},
	} {
		k := plan.NewKnown(nil)
		if c.known != nil {
			k.Expect("f", old)
			k.Set("f", *c.known)
		}
		if c.sent != nil {
			k.Expect("f", *c.sent)
		}
		listed := tree.Tree{"f": c.listed}
		k.Recall(listed)
		if listed["f"] != c.want {
			t.Errorf("%s: got %+v, want %+v", name, listed["f"], c.want)
		}
	}
	// What is doubtful is sent again, although size and second are right.
	src := tree.Tree{".": {Type: tree.Dir, Ino: 9}, "f": sent}
	dst := plan.NewKnown(tree.Tree{".": {Type: tree.Dir, Ino: 9}, "f": plan.Doubt(listing(old))})
	if p := plan.Diff(src, dst, plan.Scope{All: true}); len(p.Files) != 1 || p.Files[0].Sum != [32]byte{} {
		t.Errorf("not sent again: %+v", p)
	}
}

func ptr[T any](v T) *T { return &v }

// TestLinked: the other names of a file are found whatever came and went.
func TestLinked(t *testing.T) {
	k := plan.NewKnown(tree.Tree{"a": {Type: tree.File, Ino: 7}, "b": {Type: tree.File, Ino: 7}, "c": {Type: tree.File, Ino: 8}})
	names := func(ino uint64) []string { return slices.Sorted(k.Linked(tree.Entry{Ino: ino})) }
	check := func(ino uint64, want ...string) {
		t.Helper()
		if got := names(ino); !slices.Equal(got, want) {
			t.Errorf("inode %d: %v, want %v", ino, got, want)
		}
	}
	check(7, "a", "b")
	k.Rename("c", "d")
	k.Set("e", tree.Entry{Type: tree.File, Ino: 7})
	check(7, "a", "b", "e")
	check(8, "d")
	k.Delete("a")
	check(7, "b", "e")
	k.Set("b", tree.Entry{Type: tree.File, Ino: 8})
	check(7, "e")
	check(8, "b", "d")
	k.Delete("e")
	check(7)
}

// TestRepeat: what was told, told again, leads to the same.
func TestRepeat(t *testing.T) {
	start := tree.Tree{".": {Type: tree.Dir}, "d": {Type: tree.Dir}, "d/f": {Type: tree.File, Ino: 1}, "g": {Type: tree.File}}
	k, again := plan.NewKnown(maps.Clone(start)), plan.NewKnown(maps.Clone(start))
	k.Observe(again.Repeat)
	k.Rename("d", "e")
	k.Set("d", tree.Entry{Type: tree.Link})
	k.Delete("g")
	k.Expect("e/f", tree.Entry{Type: tree.File, Ino: 3})
	k.Expect("h", tree.Entry{Type: tree.File, Ino: 4})
	k.Set("h", tree.Entry{Type: tree.File, Ino: 4})
	if !maps.Equal(maps.Collect(k.All()), maps.Collect(again.All())) || !maps.Equal(k.Expected(), again.Expected()) {
		t.Errorf("got %v, want %v", maps.Collect(again.All()), maps.Collect(k.All()))
	}
}

// TestS4NothingBelowALink: a view of the source that is not of one moment has nothing written through a link.
func TestS4NothingBelowALink(t *testing.T) {
	link := tree.Entry{Type: tree.Link, Link: "/etc"}
	file := tree.Entry{Type: tree.File, Size: 1, Ino: 5}
	for name, dst := range map[string]tree.Tree{
		"the replica has the link":        {".": {Type: tree.Dir}, "d": link},
		"the replica has a directory":     {".": {Type: tree.Dir}, "d": {Type: tree.Dir}},
		"the replica has a file":          {".": {Type: tree.Dir}, "d": {Type: tree.File}},
		"the replica has nothing so far":  {".": {Type: tree.Dir}},
		"the link has not been looked at": {".": {Type: tree.Dir}, "d": link},
	} {
		src := tree.Tree{".": {Type: tree.Dir}, "d": link, "d/passwd": file, "d/sub": {Type: tree.Dir}, "d/sub/f": file}
		if name == "the link has not been looked at" {
			delete(src, "d")
		}
		p := plan.Diff(src, plan.NewKnown(dst), plan.Scope{Paths: []string{"d", "d/passwd"}})
		if len(p.Files)+len(p.Dirs)+len(p.Moves)+len(p.Stages) > 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestReusedInodeIsNoMove: a new directory that was given the number of a deleted one is not the deleted one: what
// that held would be seen under the new name.
func TestReusedInodeIsNoMove(t *testing.T) {
	dst := tree.Tree{".": {Type: tree.Dir}, "private": {Type: tree.Dir, Ino: 7, MTime: 1}, "private/key": {Type: tree.File, Ino: 8, MTime: 1}}
	src := tree.Tree{".": {Type: tree.Dir}, "public": {Type: tree.Dir, Ino: 7, MTime: 2}, "public/page": {Type: tree.File, Ino: 8, MTime: 2}}
	if p := plan.Diff(src, plan.NewKnown(maps.Clone(dst)), plan.Scope{All: true}); len(p.Moves) != 0 {
		t.Errorf("moved: %+v", p.Moves)
	}
	src = tree.Tree{".": {Type: tree.Dir}, "kept": {Type: tree.Dir, Ino: 7, MTime: 2}, "kept/key": {Type: tree.File, Ino: 8, MTime: 1}}
	if p := plan.Diff(src, plan.NewKnown(dst), plan.Scope{All: true}); len(p.Moves) != 1 {
		t.Errorf("not moved: %+v", p)
	}
}

// TestHoldLetsTheRestPass: holding all deletions holds nothing else, at whatever depth.
func TestHoldLetsTheRestPass(t *testing.T) {
	dst := tree.Tree{".": {Type: tree.Dir}, "d": {Type: tree.Dir}, "d/gone": {Type: tree.File}, "d/was": {Type: tree.Dir}, "d/was/in": {Type: tree.File}}
	src := tree.Tree{".": {Type: tree.Dir}, "d": {Type: tree.Dir}, "d/new": {Type: tree.File, Size: 1}, "d/dir": {Type: tree.Dir}, "d/was": {Type: tree.Link, Link: "x"}}
	p := plan.Diff(src, plan.NewKnown(dst), plan.Scope{All: true})
	p = plan.Hold(p, func(string) bool { return true })
	if len(p.Files) != 1 || len(p.Stages) != 1 || len(p.Deletes) != 0 || len(p.Links) != 0 {
		t.Errorf("got %+v", p)
	}
}
