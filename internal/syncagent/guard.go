package syncagent

import (
	"fmt"
	"time"

	"releve/internal/plan"
)

// guardWindow is how far back deletions count together: a tree that is removed step by step is removed.
const guardWindow = time.Minute

// guard decides which deletions are believed (the design's S5). It looks at nothing by itself.
type guard struct {
	limits   plan.Limits
	root     rootID         // seen last
	trusted  rootID         // what the source was when deletions were last believed of it; the record keeps it
	replaced bool           // the source is another directory than that, and nobody has said that this is right
	approved map[string]int // paths whose deletion a human has let through, and of how many entries
	recent   []deletion
}

type deletion struct {
	at time.Time
	n  int
}

// rootSeen is told which directory the source's path leads to. A path that leads through a symbolic link may come to
// lead elsewhere (current -> releases/7): that is a deploy, and the limits judge it. A directory that has become
// another one under its own name has been unmounted, or lost and made anew, or somebody has put another one in its place:
// whether the agent was running then makes no difference.
func (g *guard) rootSeen(now rootID) {
	g.root = now
	g.replaced = g.trusted.path == now.path && !g.trusted.same(now)
	g.trust()
}

// trust takes the directory that was seen last for the right one, unless it has replaced another.
func (g *guard) trust() {
	if !g.replaced {
		g.trusted = g.root
	}
}

// rootID names the directory that a source's path leads to.
type rootID struct {
	path     string // without symbolic links
	dev, ino uint64 // dev is 0 in what a record tells: another boot may give another number
	born     int64  // 0 if it is not known
}

// same reports whether both are the same directory, as far as is known of both.
func (r rootID) same(as rootID) bool {
	return r.path == as.path && r.ino == as.ino && (r.dev == as.dev || r.dev == 0 || as.dev == 0) &&
		(r.born == as.born || r.born == 0 || as.born == 0)
}

// deleted counts deletions that were carried out.
func (g *guard) deleted(at time.Time, n int) {
	if n > 0 {
		g.recent = append(g.recent, deletion{at, n})
	}
}

func (g *guard) recentCount(now time.Time) int {
	sum, keep := 0, g.recent[:0]
	for _, d := range g.recent {
		if now.Sub(d.at) < guardWindow {
			keep = append(keep, d)
			sum += d.n
		}
	}
	g.recent = keep
	return sum
}

// judge takes out of p the deletions that are not to be believed and says why. After errors nothing is lost by
// waiting: those deletions are not shown as held, they come again with the next comparison.
func (g *guard) judge(p plan.Plan, l view, known *plan.Known, now time.Time) (plan.Plan, []plan.Delete, string) {
	all := func(string) bool { return true }
	if len(l.problems) > 0 {
		return plan.Hold(p, all), nil, ""
	}
	limits, why := g.limits, ""
	switch {
	case empties(p, known):
		limits, why = plan.Limits{}, "the source folder is empty"
	case g.replaced:
		limits, why = plan.Limits{}, "the source folder is another one than before (unmounted, or deleted and made anew)"
	}
	p, held := plan.Guard(p, known.Len(), g.recentCount(now), limits, g.lets(p))
	if len(held) == 0 {
		if l.scope.All {
			g.replaced = false
			g.trust()
		}
		return p, nil, ""
	}
	if why == "" {
		why = fmt.Sprintf("more than %d entries and %d %% of the folder at once", limits.Count, limits.Percent)
	}
	return p, held, why
}

// empties reports whether nothing would be left of the replica, whether the events say so or a scan.
func empties(p plan.Plan, known *plan.Known) bool {
	gone := 0
	for _, d := range p.Deletes {
		gone += d.Count
	}
	entries, _ := p.Totals()
	return gone > 0 && gone >= known.Len()-1 && entries == 0
}

// lets gives what was approved of p: what was shown, not what has come to lie there since.
func (g *guard) lets(p plan.Plan) func(path string) bool {
	counts := map[string]int{}
	for _, d := range p.Deletes {
		counts[d.Path] = d.Count
	}
	return func(path string) bool {
		shown, ok := g.approved[path]
		return ok && counts[path] <= shown
	}
}

// approve lets exactly the held paths through, once.
func (g *guard) approve(held []plan.Delete) {
	if g.approved == nil {
		g.approved = map[string]int{}
	}
	for _, d := range held {
		g.approved[d.Path] = d.Count
	}
}

// used is told that everything was compared, and what was believed of it carried out: no approval lasts longer.
func (g *guard) used() { g.approved = nil }
