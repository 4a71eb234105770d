package watch

import "time"

const (
	burstPaths  = 8                     // this many paths, newly dirty
	burstWindow = 10 * time.Millisecond // within this time, make a burst;
	burstQuiet  = 25 * time.Millisecond // which is over when no path has become dirty for this long,
	burstMax    = 2 * time.Second       // or goes out in slices of this length
	pairWait    = 3 * time.Millisecond  // how far apart the two halves of a rename may come
)

// A gate decides how long dirty paths wait for company. A single change must not wait at all; a deploy or a
// checkout should come out whole; and the two names of a rename belong together.
type gate struct {
	recent  [burstPaths]time.Time // when the last few paths became dirty, a ring
	at      int
	last    time.Time
	burst   time.Time // since when there is a burst; zero: there is none
	pairing time.Time // until when the second half of a rename may come; zero: none is awaited
	working time.Time // since when a new directory is being taken in; zero: none is
}

// dirtied is told of each path that was clean before.
func (g *gate) dirtied(now time.Time) {
	oldest := g.recent[g.at]
	g.recent[g.at] = now
	g.at = (g.at + 1) % burstPaths
	if g.burst.IsZero() && !oldest.IsZero() && now.Sub(oldest) <= burstWindow {
		g.burst = now
	}
	g.last = now
}

// released is told when the dirty paths were handed out.
func (g *gate) released(now time.Time) {
	switch {
	case g.burst.IsZero():
	case now.Sub(g.last) >= burstQuiet:
		g.burst = time.Time{}
	default:
		g.burst = now
	}
}

// wait is how long to keep what is dirty; zero: hand it out.
func (g *gate) wait(now time.Time) time.Duration {
	var until time.Time
	if g.pairing.After(now) {
		until = g.pairing
	}
	if !g.working.IsZero() {
		until = later(until, g.working.Add(burstMax))
	}
	if !g.burst.IsZero() {
		until = later(until, earlier(g.last.Add(burstQuiet), g.burst.Add(burstMax)))
	}
	return max(0, until.Sub(now))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
