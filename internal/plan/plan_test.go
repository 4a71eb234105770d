package plan_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"releve/internal/plan"
	"releve/internal/tree"
)

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// carryOut does to a replica what a plan says, checking at each step that it can be done on a real file system: a
// parent is there and is a directory, nothing is renamed over something it cannot replace.
func carryOut(t fataler, dst *plan.Known, p plan.Plan) {
	t.Helper()
	place := func(put plan.Put) {
		t.Helper()
		if e, ok := dst.Get(path.Dir(put.Path)); put.Path != "." && (!ok || e.Type != tree.Dir) {
			t.Fatalf("%s: its parent is not a directory", put.Path)
		}
		old, there := dst.Get(put.Path)
		switch {
		case put.Old == plan.Absent && there:
			t.Fatalf("%s: said to be absent, and is a %v", put.Path, old.Type)
		case put.Old == plan.Same && (!there || old.Type != put.Entry.Type):
			t.Fatalf("%s: said to be a %v already, and is not", put.Path, put.Entry.Type)
		case put.Old == plan.Other:
			if n := count(dst, put.Path); !there || old.Type == put.Entry.Type || n != put.Cleared {
				t.Fatalf("%s: said to replace %d entries of another type; there are %d", put.Path, put.Cleared, n)
			}
			dst.Delete(put.Path)
		}
		dst.Set(put.Path, put.Entry)
	}
	for put, m := range p.Arrangement() {
		if put != nil {
			place(*put)
			continue
		}
		old, ok := dst.Get(m.From)
		if _, taken := dst.Get(m.To); taken || !ok || old.Type != m.Entry.Type {
			t.Fatalf("cannot move %s to %s", m.From, m.To)
		}
		if e, ok := dst.Get(path.Dir(m.To)); !ok || e.Type != tree.Dir {
			t.Fatalf("move to %s: its parent is not a directory", m.To)
		}
		if m.Copy {
			dst.Set(m.To, old)
		} else {
			dst.Rename(m.From, m.To)
		}
		old.CTime = m.Entry.CTime // a rename changes the change time of what it moves, of nothing below
		dst.Set(m.To, old)
	}
	for _, s := range p.Stages {
		place(s.Top)
		for _, put := range s.Below {
			place(put)
		}
	}
	for _, put := range slices.Concat(p.Files, p.Links) {
		place(put)
	}
	for _, del := range p.Deletes {
		if n := count(dst, del.Path); n != del.Count || n == 0 {
			t.Fatalf("delete %s: counted %d entries, there are %d", del.Path, del.Count, n)
		}
		dst.Delete(del.Path)
	}
	for _, put := range p.Attrs {
		if e, ok := dst.Get(put.Path); !ok || e.Type != put.Entry.Type {
			t.Fatalf("attributes of %s, which is not there or of another type", put.Path)
		}
		dst.Set(put.Path, put.Entry)
	}
}

func count(k *plan.Known, p string) int {
	n := 0
	for range k.Below(p) {
		n++
	}
	return n
}

// files is a source whose paths change as a file system would change them.
type files struct {
	tree tree.Tree
	next uint64
	now  int64
}

func newFiles() *files {
	f := &files{tree: tree.Tree{}}
	f.make(".", tree.Dir)
	return f
}

func (f *files) tick() int64 { f.now++; return f.now }

func (f *files) make(p string, typ tree.Type) {
	f.next++
	now := f.tick()
	e := tree.Entry{Type: typ, Dev: 1, Ino: f.next, MTime: now * 1e9, CTime: now}
	switch typ {
	case tree.Link:
		e.Link = fmt.Sprint("target", now)
	case tree.File:
		e.Size, e.Mode = now%3, 0o644
	case tree.Dir:
		e.Mode = 0o755
	}
	f.tree[p] = e
}

func (f *files) remove(p string) {
	for q := range f.tree {
		if q == p || strings.HasPrefix(q, p+"/") {
			delete(f.tree, q)
		}
	}
}

func (f *files) rename(from, to string) {
	moved := tree.Tree{}
	for q, e := range f.tree {
		if q == from || strings.HasPrefix(q, from+"/") {
			moved[to+strings.TrimPrefix(q, from)] = e
		}
	}
	e := moved[to]
	e.CTime = f.tick()
	moved[to] = e
	f.remove(from)
	f.remove(to)
	maps.Copy(f.tree, moved)
}

// mutate applies one random operation and returns the paths that inotify would name.
func (f *files) mutate(t *rapid.T) []string {
	paths := slices.Sorted(maps.Keys(f.tree))
	dirs := slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return f.tree[p].Type != tree.Dir })
	fresh := func() string {
		name := rapid.SampledFrom([]string{"a", "b", "c", "a-b", "d"}).Draw(t, "name")
		return path.Join(rapid.SampledFrom(dirs).Draw(t, "in"), name)
	}
	p := rapid.SampledFrom(paths).Draw(t, "path")
	switch rapid.IntRange(0, 5).Draw(t, "op") {
	case 0, 1:
		q := fresh()
		types := []tree.Type{tree.File, tree.Dir, tree.Link, tree.File, tree.Dir, tree.Other}
		f.remove(q)
		f.make(q, rapid.SampledFrom(types).Draw(t, "type"))
		return []string{q}
	case 2:
		if p == "." {
			return nil
		}
		f.remove(p)
		return []string{p}
	case 3:
		q := fresh()
		if p == "." || q == p || strings.HasPrefix(q, p+"/") || strings.HasPrefix(p, q+"/") {
			return nil
		}
		f.rename(p, q)
		return []string{p, q}
	case 4:
		e := f.tree[p]
		if e.Type == tree.Link {
			return nil
		}
		e.Mode ^= 0o022
		e.CTime = f.tick()
		f.tree[p] = e
		return []string{p}
	default:
		e := f.tree[p]
		if e.Type != tree.File {
			return nil
		}
		now := f.tick()
		e.MTime, e.CTime, e.Size = now*1e9, now, now%3
		f.tree[p] = e
		return []string{p}
	}
}

// inScope is what a partial look at the source for the named paths finds: them, their parents, and all below them.
func (f *files) inScope(paths []string) tree.Tree {
	part := tree.Tree{}
	for q, e := range f.tree {
		for _, p := range paths {
			if p == "." || q == p || strings.HasPrefix(q, p+"/") || q == path.Dir(p) {
				part[q] = e
			}
		}
	}
	return part
}

func same(t fataler, src tree.Tree, dst *plan.Known) {
	t.Helper()
	for p, s := range src {
		d, ok := dst.Get(p)
		if s.Type == tree.Other {
			if ok {
				t.Fatalf("%s: a special file in the source, a %v on the replica", p, d.Type)
			}
			continue
		}
		if !ok || !tree.Equal(s, d) {
			t.Fatalf("%s: source %+v, replica %+v (there: %v)", p, s, d, ok)
		}
		if s.Type == tree.File && (s.MTime != d.MTime || s.Size != d.Size) {
			t.Fatalf("%s: the replica holds another content", p)
		}
	}
	for p := range dst.All() {
		if _, ok := src[p]; !ok {
			t.Fatalf("%s: on the replica only", p)
		}
	}
}

// TestDiffMakesEqual (S2): whatever happened to the source, carrying out the plan makes the replica equal, for a
// comparison of everything as for one of the paths that changed.
func TestDiffMakesEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, dst := newFiles(), plan.NewKnown(nil)
		for range rapid.IntRange(0, 12).Draw(t, "before") {
			src.mutate(t)
		}
		carryOut(t, dst, plan.Diff(src.tree, dst, plan.Scope{All: true}))
		same(t, src.tree, dst)

		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			var changed []string
			for range rapid.IntRange(0, 6).Draw(t, "changes") {
				changed = append(changed, src.mutate(t)...)
			}
			scope, look := plan.Scope{All: true}, src.tree
			switch rapid.IntRange(0, 2).Draw(t, "scope") {
			case 1:
				scope, look = plan.Scope{Paths: changed}, src.inScope(changed)
			case 2:
				scope, look = plan.Scope{Subtrees: changed}, src.inScope(changed)
			}
			carryOut(t, dst, plan.Diff(look, dst, scope))
			same(t, src.tree, dst)
		}
		if p := plan.Diff(src.tree, dst, plan.Scope{All: true}); !p.Empty() {
			t.Fatalf("equal trees, and still something to do: %+v", p)
		}
	})
}

func replica(entries tree.Tree) *plan.Known {
	entries = maps.Clone(entries)
	if _, ok := entries["."]; !ok {
		entries["."] = tree.Entry{Type: tree.Dir, Mode: 0o755}
	}
	return plan.NewKnown(entries)
}

func TestRenamedDirectoryIsMoved(t *testing.T) {
	src := newFiles()
	src.make("old", tree.Dir)
	for i := range 100 {
		src.make(fmt.Sprintf("old/%d", i), tree.File)
	}
	dst := replica(src.tree)
	src.rename("old", "new")
	p := plan.Diff(src.inScope([]string{"old", "new"}), dst, plan.Scope{Paths: []string{"old", "new"}})
	if len(p.Moves) != 1 || len(p.Files)+len(p.Stages)+len(p.Deletes) != 0 {
		t.Fatalf("got %d moves, %d files, %d stages, %d deletes; want one move",
			len(p.Moves), len(p.Files), len(p.Stages), len(p.Deletes))
	}
}

// TestRotatedLogStaysVisible: log -> log.1 with a new log at once. The old one must be found at its name until the new
// one replaces it.
func TestRotatedLogStaysVisible(t *testing.T) {
	src := newFiles()
	src.make("log", tree.File)
	dst := replica(src.tree)
	src.rename("log", "log.1")
	src.make("log", tree.File)
	p := plan.Diff(src.tree, dst, plan.Scope{All: true})
	if len(p.Moves) != 1 || !p.Moves[0].Copy || len(p.Files) != 1 || p.Files[0].Old != plan.Same {
		t.Fatalf("got %+v", p)
	}
}

// TestSameSecondChangeIsSeen: size and whole-second mtime are equal, the content is not.
func TestSameSecondChangeIsSeen(t *testing.T) {
	old := tree.Entry{Type: tree.File, Size: 5, MTime: 1_000_000_001, CTime: 7, Ino: 3, Mode: 0o644}
	for name, change := range map[string]func(*tree.Entry){
		"nanoseconds": func(e *tree.Entry) { e.MTime++ },
		"inode":       func(e *tree.Entry) { e.Ino++ },
		"change time": func(e *tree.Entry) { e.CTime++ },
	} {
		now := old
		change(&now)
		p := plan.Diff(tree.Tree{"f": now}, replica(tree.Tree{"f": old}), plan.Scope{Paths: []string{"f"}})
		if len(p.Files) != 1 {
			t.Errorf("%s: the change went unseen", name)
		}
	}
}

func TestStagesAreBounded(t *testing.T) {
	src := newFiles()
	src.make("big", tree.Dir)
	for i := range 1500 {
		src.make(fmt.Sprintf("big/%d", i), tree.File)
	}
	src.make("small", tree.Dir)
	src.make("small/f", tree.File)
	p := plan.Diff(src.tree, replica(tree.Tree{}), plan.Scope{All: true})
	if len(p.Stages) != 1 || p.Stages[0].Top.Path != "small" || len(p.Stages[0].Below) != 1 {
		t.Errorf("stages: %+v", p.Stages)
	}
	if len(p.Dirs) != 1 || p.Dirs[0].Path != "big" || len(p.Files) != 1500 {
		t.Errorf("got %d directories in place, %d files", len(p.Dirs), len(p.Files))
	}
}
