package plan_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"releve/internal/plan"
	"releve/internal/tree"
)

// TestKnownHoldsWhatWasSaid: whatever is said of the replica, what is known of it is what a simple map would hold, and the
// names of a file are found whether somebody has asked for names before or not.
func TestKnownHoldsWhatWasSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known, want := plan.NewKnown(nil), tree.Tree{}
		name := rapid.SampledFrom([]string{"a", "b", "c", "a.", "a-"})
		path := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(name, 1, 4).Draw(t, "path"), "/")
		})
		entry := rapid.Custom(func(t *rapid.T) tree.Entry {
			e := tree.Entry{
				Type: tree.Type(rapid.IntRange(0, 3).Draw(t, "type")), Mode: rapid.SampledFrom([]fs.FileMode{0, 0o644, 0o755 | fs.ModeSetgid, fs.ModeSticky | fs.ModeSetuid}).Draw(t, "mode"),
				Size: rapid.Int64().Draw(t, "size"), MTime: rapid.Int64().Draw(t, "mtime"), CTime: rapid.Int64().Draw(t, "ctime"),
				Dev: rapid.Uint64Range(0, 2).Draw(t, "dev"), Ino: rapid.Uint64Range(0, 3).Draw(t, "ino"), Nlink: rapid.Uint32().Draw(t, "nlink"),
				Shared: rapid.Uint64Range(0, 1).Draw(t, "shared"), Link: rapid.SampledFrom([]string{"", "x"}).Draw(t, "link"),
			}
			e.Sum[31] = rapid.Byte().Draw(t, "sum")
			return e
		})
		var set func(p string, e tree.Entry)
		above := func(p string) { // a tree has no entry without the directories above it
			if dir := tree.Parent(p); dir != "." && !hasEntry(want, dir) {
				set(dir, tree.Entry{Type: tree.Dir})
			}
		}
		set = func(p string, e tree.Entry) {
			above(p)
			known.Set(p, e)
			want[p] = e
		}
		removed := func(p string) {
			maps.DeleteFunc(want, func(q string, _ tree.Entry) bool { return tree.Within(q, p) })
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				set(path.Draw(t, "p"), entry.Draw(t, "e"))
			},
			"root": func(t *rapid.T) { set(".", entry.Draw(t, "e")) },
			"many": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "rarely") != 0 {
					t.Skip("it takes long")
				}
				p, e := path.Draw(t, "p"), entry.Draw(t, "e")
				for i := range rapid.IntRange(500, 530).Draw(t, "n") {
					set(fmt.Sprint(p, "/", i), e)
				}
			},
			"delete": func(t *rapid.T) {
				p := path.Draw(t, "p")
				known.Delete(p)
				removed(p)
			},
			"rename": func(t *rapid.T) {
				from, to := path.Draw(t, "from"), path.Draw(t, "to")
				if tree.Within(from, to) || tree.Within(to, from) {
					t.Skip("into itself")
				}
				above(to)
				known.Rename(from, to)
				removed(to)
				for p, e := range maps.Clone(want) {
					if tree.Within(p, from) {
						want[to+strings.TrimPrefix(p, from)] = e
						delete(want, p)
					}
				}
			},
			"rest": func(*rapid.T) { known.Rest() },
			"names": func(t *rapid.T) {
				e := entry.Draw(t, "e")
				var names []string
				for p, o := range want {
					if o.Type == tree.File && o.Ino == e.Ino && o.Dev == e.Dev && e.Ino != 0 {
						names = append(names, p)
					}
				}
				slices.Sort(names)
				if got := slices.Sorted(known.Linked(e)); !slices.Equal(got, names) {
					t.Fatalf("names %q, want %q", got, names)
				}
			},
			"": func(t *rapid.T) {
				if got := maps.Collect(known.All()); !maps.Equal(got, want) || known.Len() != len(want) {
					t.Fatalf("%d known: %v, want %d: %v", known.Len(), got, len(want), want)
				}
				if got := maps.Collect(known.Below(".")); !maps.Equal(got, want) {
					t.Fatalf("below the root: %v, want %v", got, want)
				}
				p := path.Draw(t, "at")
				got, ok := known.Get(p)
				if e, there := want[p]; ok != there || got != e {
					t.Fatalf("at %q: %v, want %v", p, got, e)
				}
				var below []string
				for q, e := range known.Below(p) {
					if want[q] != e || !tree.Within(q, p) {
						t.Fatalf("below %q: %q, %v", p, q, e)
					}
					if i := slices.Index(below, tree.Parent(q)); i < 0 && q != p && hasEntry(want, tree.Parent(q)) {
						t.Fatalf("below %q: %q before its directory", p, q)
					}
					below = append(below, q)
				}
				for n, e := range known.In(p) {
					if want[p+"/"+n] != e {
						t.Fatalf("in %q: %q, %v", p, n, e)
					}
				}
			},
		})
	})
}

func hasEntry(t tree.Tree, p string) bool {
	_, ok := t[p]
	return ok
}
