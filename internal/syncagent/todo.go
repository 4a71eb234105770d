package syncagent

import (
	"maps"
	"slices"
	"strings"
	"time"

	"releve/internal/plan"
	"releve/internal/watch"
)

// todo is what has to be compared: what the watcher named, and what failed before and is due at its time.
type todo struct {
	scope  plan.Scope
	reason string
	busy   map[string]bool // files that have a writer just now; they come again

	retry   plan.Scope
	retryAt time.Time
	pause   time.Duration
	asked   bool // since take, something was put off

	// What is as good as can be for now, and might get better.
	idle      []string
	idleAt    time.Time
	idlePause time.Duration

	throttle throttle
	slow     map[string]time.Time // what changes too often, and when its turn comes
}

func (t *todo) everything() { t.scope = plan.Scope{All: true} }

func (t *todo) add(c watch.Changes) {
	if c.All {
		t.scope.All, t.reason = true, c.Reason
	}
	t.scope.Paths = append(t.scope.Paths, c.Paths...)
	t.scope.Subtrees = append(t.scope.Subtrees, c.Subtrees...)
	// What was busy before and is named now has settled; it will not be named again.
	maps.DeleteFunc(t.busy, func(p string, _ bool) bool { return names(c, p) })
	for _, p := range c.Busy {
		if t.busy == nil {
			t.busy = map[string]bool{}
		}
		t.busy[p] = true
	}
}

// names reports whether c tells to look at p.
func names(c watch.Changes, p string) bool {
	return c.All || slices.Contains(c.Paths, p) || slices.ContainsFunc(c.Subtrees, func(sub string) bool {
		return p == sub || strings.HasPrefix(p, sub+"/")
	})
}

// later has paths compared again after a pause, which grows for as long as that is asked for round after round.
func (t *todo) later(now time.Time, paths []string, floor, ceiling time.Duration) {
	t.pause = min(max(2*t.pause, floor), ceiling)
	t.asked = true
	t.retry.Paths = append(t.retry.Paths, paths...)
	if at := now.Add(t.pause); t.retryAt.IsZero() || at.Before(t.retryAt) {
		t.retryAt = at
	}
}

// whenever has paths compared again some time, after pauses that double for as long as that is asked for. Nothing is
// missing on the replica meanwhile.
func (t *todo) whenever(now time.Time, paths []string, floor, ceiling time.Duration) {
	if len(paths) == 0 {
		return
	}
	t.idle = append(t.idle, paths...)
	if t.idleAt.IsZero() {
		t.idlePause = min(max(2*t.idlePause, floor), ceiling)
		t.idleAt = now.Add(t.idlePause)
	}
}

// calm ends the growth of the pauses, unless something was put off in this very round.
func (t *todo) calm() {
	if !t.asked {
		t.pause = 0
	}
}

// due reports whether there is anything to compare at the time now.
func (t *todo) due(now time.Time) bool {
	return t.scope.All || len(t.scope.Paths)+len(t.scope.Subtrees) > 0 || t.retryDue(now) || t.idleDue(now) || t.slowDue(now)
}

func (t *todo) retryDue(now time.Time) bool { return !t.retryAt.IsZero() && !now.Before(t.retryAt) }

func (t *todo) idleDue(now time.Time) bool { return !t.idleAt.IsZero() && !now.Before(t.idleAt) }

func (t *todo) slowDue(now time.Time) bool {
	for _, at := range t.slow {
		if !now.Before(at) {
			return true
		}
	}
	return false
}

// next is when something falls due by itself, at the latest at limit.
func (t *todo) next(limit time.Time) time.Time {
	for _, at := range []time.Time{t.retryAt, t.idleAt} {
		if !at.IsZero() && at.Before(limit) {
			limit = at
		}
	}
	for _, at := range t.slow {
		if at.Before(limit) {
			limit = at
		}
	}
	return limit
}

// take returns what is due and forgets it.
func (t *todo) take(now time.Time) (scope plan.Scope, reason string, busy map[string]bool) {
	t.asked = false
	if t.retryDue(now) {
		t.scope.Paths = append(t.scope.Paths, t.retry.Paths...)
		t.scope.Subtrees = append(t.scope.Subtrees, t.retry.Subtrees...)
		t.retry, t.retryAt = plan.Scope{}, time.Time{}
	}
	if t.idleDue(now) {
		t.scope.Paths = append(t.scope.Paths, t.idle...)
		t.idle, t.idleAt = nil, time.Time{}
	}
	scope, reason, busy = t.scope, t.reason, t.busy
	t.scope, t.reason, t.busy = plan.Scope{}, "", nil
	if scope.All {
		scope.Paths, scope.Subtrees = nil, nil
		clear(t.slow)
	}
	slices.Sort(scope.Paths)
	scope.Paths = slices.Compact(scope.Paths)
	return scope, reason, busy
}

// pending is how many paths are waiting.
func (t *todo) pending() int {
	return len(t.scope.Paths) + len(t.scope.Subtrees) + len(t.retry.Paths) + len(t.retry.Subtrees) + len(t.slow)
}
