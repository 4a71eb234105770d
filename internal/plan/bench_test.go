package plan_test

import (
	"fmt"
	"testing"

	"releve/internal/plan"
	"releve/internal/tree"
)

// site is a tree like a web site's: ten files a directory, directories in directories.
func site(files int) tree.Tree {
	t := tree.Tree{".": {Type: tree.Dir, Mode: 0o755, Ino: 1, Dev: 1}}
	dir := ""
	for i := range files {
		if i%10 == 0 {
			d := i / 10
			dir = fmt.Sprintf("section-%d/page-%d", d/100, d)
			t[tree.Parent(dir)] = tree.Entry{Type: tree.Dir, Mode: 0o755, Ino: uint64(10_000_000 + d/100), Dev: 1, MTime: 1e18}
			t[dir] = tree.Entry{Type: tree.Dir, Mode: 0o755, Ino: uint64(20_000_000 + d), Dev: 1, MTime: 1e18}
		}
		e := tree.Entry{Mode: 0o644, Size: int64(i), MTime: 1e18 + int64(i), CTime: 1e18 + int64(i), Ino: uint64(i + 2), Dev: 1, Nlink: 1}
		e.Sum[0], e.Sum[1] = byte(i), 1
		t[fmt.Sprintf("%s/file-%d.html", dir, i)] = e
	}
	return t
}

func BenchmarkDiffNew(b *testing.B) {
	src := site(20_000)
	for b.Loop() {
		plan.Diff(src, plan.NewKnown(nil), plan.Scope{All: true})
	}
}

func BenchmarkDiffSame(b *testing.B) {
	src, known := site(200_000), plan.NewKnown(site(200_000))
	for b.Loop() {
		if p := plan.Diff(src, known, plan.Scope{All: true}); !p.Empty() {
			b.Fatal("there is something to do")
		}
	}
}

func BenchmarkKnown(b *testing.B) {
	t := site(200_000)
	for b.Loop() {
		known := plan.NewKnown(nil)
		for p, e := range t {
			known.Set(p, e)
		}
	}
}
