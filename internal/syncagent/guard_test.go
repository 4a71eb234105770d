package syncagent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
)

// deletion plans are made from a replica of n files of which the source has lost some.
func losing(n, lost int) (plan.Plan, view, *plan.Known) {
	src, dst := tree.Tree{".": {Type: tree.Dir}}, tree.Tree{".": {Type: tree.Dir}}
	for i := range n {
		p := fmt.Sprint("f", i)
		dst[p] = tree.Entry{Type: tree.File}
		if i >= lost {
			src[p] = dst[p]
		}
	}
	known := plan.NewKnown(dst)
	l := view{src: src, scope: plan.Scope{All: true}}
	return plan.Diff(src, known, l.scope), l, known
}

// recorded is what the record keeps of a root.
func (r rootID) recorded() rootID { return rootID{path: r.path, ino: r.ino, born: r.born} }

func TestGuard(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	home := rootID{"/srv/www", 1, 2, 100}
	for _, c := range []struct {
		name         string
		files, lost  int
		prepare      func(g *guard, l *view)
		held, delete int
	}{
		{name: "few", files: 50, lost: 10, delete: 10},
		{name: "beyond the limits", files: 1000, lost: 500, held: 500},
		{name: "emptied (S5)", files: 5, lost: 5, held: 5},
		{
			name: "read error (S5)", files: 50, lost: 1,
			prepare: func(_ *guard, l *view) { l.problems = []tree.Problem{{Path: "d"}} },
		},
		{
			name: "unmounted (S5)", files: 50, lost: 1, held: 1,
			prepare: func(g *guard, _ *view) { g.rootSeen(home); g.rootSeen(rootID{"/srv/www", 9, 9, 200}) },
		},
		{
			name: "another one since the last run (S5)", files: 50, lost: 1, held: 1,
			prepare: func(g *guard, _ *view) { g.trusted = home.recorded(); g.rootSeen(rootID{"/srv/www", 1, 9, 200}) },
		},
		{
			name: "another file system of the same kind since the last run (S5)", files: 50, lost: 1, held: 1,
			prepare: func(g *guard, _ *view) { g.trusted = home.recorded(); g.rootSeen(rootID{"/srv/www", 1, 2, 200}) },
		},
		{
			name: "the same one after a reboot", files: 50, lost: 1, delete: 1,
			prepare: func(g *guard, _ *view) { g.trusted = home.recorded(); g.rootSeen(rootID{"/srv/www", 77, 2, 100}) },
		},
		{
			name: "a file system that knows no births", files: 50, lost: 1, delete: 1,
			prepare: func(g *guard, _ *view) {
				g.trusted = rootID{"/srv/www", 0, 2, 0}
				g.rootSeen(rootID{"/srv/www", 77, 2, 0})
			},
		},
		{
			name: "link flipped since the last run", files: 50, lost: 1, delete: 1,
			prepare: func(g *guard, _ *view) {
				g.trusted = home.recorded()
				g.rootSeen(rootID{"/srv/releases/2", 1, 7, 200})
			},
		},
		{
			name: "unmounted and mounted again", files: 50, lost: 1, delete: 1,
			prepare: func(g *guard, _ *view) { g.rootSeen(home); g.rootSeen(rootID{"/srv/www", 9, 9, 200}); g.rootSeen(home) },
		},
		{
			name: "unmounted, and seen a second time (S5)", files: 50, lost: 1, held: 1,
			prepare: func(g *guard, _ *view) {
				g.rootSeen(home)
				g.rootSeen(rootID{"/srv/www", 9, 9, 200})
				g.rootSeen(rootID{"/srv/www", 9, 9, 200})
			},
		},
		{
			name: "link flipped to a new release", files: 50, lost: 1, delete: 1,
			prepare: func(g *guard, _ *view) { g.rootSeen(home); g.rootSeen(rootID{"/srv/releases/2", 1, 7, 200}) },
		},
		{
			name: "step by step", files: 1000, lost: 50, held: 50,
			prepare: func(g *guard, _ *view) { g.deleted(now.Add(-30*time.Second), 200) },
		},
		{
			name: "long ago", files: 1000, lost: 50, delete: 50,
			prepare: func(g *guard, _ *view) { g.deleted(now.Add(-2*time.Minute), 200) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := guard{limits: plan.Limits{Count: 100, Percent: 20}}
			p, l, known := losing(c.files, c.lost)
			if c.prepare != nil {
				c.prepare(&g, &l)
			}
			p, held, why := g.judge(p, l, known, now)
			if len(held) != c.held || len(p.Deletes) != c.delete {
				t.Fatalf("%d held (%s), %d deleted; want %d, %d", len(held), why, len(p.Deletes), c.held, c.delete)
			}
			if c.held == 0 {
				return
			}
			if why == "" {
				t.Error("held without a reason")
			}
			// Approval lets exactly those through, once.
			g.approve(held)
			p, l, known = losing(c.files, c.lost)
			p, held, _ = g.judge(p, l, known, now)
			if len(held) != 0 || len(p.Deletes) != c.held {
				t.Errorf("after approval %d held, %d deleted", len(held), len(p.Deletes))
			}
			g.used()
			p, l, known = losing(c.files, c.lost)
			if _, held, _ = g.judge(p, l, known, now); c.name == "emptied (S5)" && len(held) == 0 {
				t.Error("an approval was good for a second time")
			}
		})
	}
}

func TestTopmostNamesAFolderOnce(t *testing.T) {
	got := topmost([]plan.Delete{{Path: "a/b/c", Count: 1}, {Path: "a-b", Count: 1}, {Path: "a", Count: 9}, {Path: "a/b", Count: 3}, {Path: "z/y", Count: 2}, {Path: "a", Count: 9}})
	want := []plan.Delete{{Path: "a", Count: 9}, {Path: "a-b", Count: 1}, {Path: "z/y", Count: 2}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestS5DeletionsAreSuspectOfEvents: events are believed no more than a scan is.
func TestS5DeletionsAreSuspectOfEvents(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	g := guard{limits: plan.Limits{Count: 100, Percent: 20}}
	_, l, known := losing(5, 5)
	l.scope = plan.Scope{Paths: []string{"f0", "f1", "f2", "f3", "f4"}}
	if _, held, _ := g.judge(plan.Diff(l.src, known, l.scope), l, known, now); len(held) != 5 {
		t.Errorf("emptied by events: %d held, want 5", len(held))
	}
}

// TestS5ApprovalIsOfWhatWasShown: what has come to lie in a folder since its deletion was approved is not approved.
func TestS5ApprovalIsOfWhatWasShown(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	g := guard{limits: plan.Limits{Count: 100, Percent: 20}}
	g.approve([]plan.Delete{{Path: "d", Count: 201}})
	for files, want := range map[int]int{200: 0, 250: 1} {
		dst := tree.Tree{".": {Type: tree.Dir}, "d": {Type: tree.Dir}, "other": {Type: tree.File}}
		for i := range files {
			dst[fmt.Sprint("d/f", i)] = tree.Entry{Type: tree.File}
		}
		known := plan.NewKnown(dst)
		l := view{src: tree.Tree{".": {Type: tree.Dir}, "other": {Type: tree.File}}, scope: plan.Scope{All: true}}
		if _, held, _ := g.judge(plan.Diff(l.src, known, l.scope), l, known, now); len(held) != want {
			t.Errorf("a folder of %d files: %d held, want %d", files, len(held), want)
		}
	}
}

// TestS5DeletionsAreSuspectOfAReplacedRoot: while the agent is down somebody puts another directory in the source's
// place. What that lacks is held, over restarts too, until a human says that it is right; a link that leads elsewhere is
// a deploy.
func TestS5DeletionsAreSuspectOfAReplacedRoot(t *testing.T) {
	a := newAgentWorld(t)
	site := filepath.Dir(a.src) + "/site"
	release := func(dir string, files int, content string) {
		for i := range files {
			write(t, filepath.Join(dir, fmt.Sprint("f", i)), content)
		}
	}
	release(a.src, 10, "one")
	a.start(t)
	a.identical(t)
	a.stop()

	must(t, os.Rename(a.src, a.src+".old"))
	release(a.src, 9, "another")
	for range 2 {
		a.start(t)
		eventually(t, "one deletion is held, because of the replaced folder", func() bool {
			s := a.engine.snapshot()
			return s.state == stateHeld && len(s.held) == 1 && s.held[0].Path == "f9" && strings.Contains(s.heldWhy, "another one than before")
		})
		if content, _ := os.ReadFile(filepath.Join(a.dst, "f0")); string(content) != "another" {
			t.Errorf("f0 was not pushed: %q", content)
		}
		a.stop()
	}
	a.start(t)
	eventually(t, "held", func() bool { return a.engine.snapshot().state == stateHeld })
	a.engine.approve()
	a.identical(t)
	a.stop()
	must(t, os.Remove(filepath.Join(a.src, "f8")))
	a.start(t) // it has been approved as such
	a.identical(t)
	a.stop()

	must(t, os.Rename(a.src, site+"1"))
	must(t, os.Symlink(site+"1", a.src))
	a.src = site + "1" // as the comparison has it; the folder's source is the link
	a.start(t)
	a.identical(t)
	a.stop()
	release(site+"2", 7, "third")
	must(t, os.Remove(a.folder.Source))
	must(t, os.Symlink(site+"2", a.folder.Source))
	a.src = site + "2"
	a.start(t)
	a.identical(t)
}
