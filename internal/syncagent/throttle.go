package syncagent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
)

const (
	// A file that changes again and again takes no more of the line than this, in bytes a second, once it has taken
	// throttleBurst bytes at once, but is never kept back for longer than throttleMax.
	throttleRate  = 512 << 10
	throttleBurst = 2 << 20
	throttleMax   = 10 * time.Second
)

// throttle bounds what one file may cost that is changed all the time: a log of some megabytes to which every second ten
// lines are added would be sent ten times a second, and nothing else would get through. What is small enough is never kept
// back. It is a leaky bucket for each file that was sent a short while ago, and has no clock.
type throttle struct {
	full map[string]time.Time // when what a file has taken will have leaked away
}

// sent takes in that a file of that size was sent at the time now.
func (t *throttle) sent(path string, size int64, now time.Time) {
	if t.full == nil {
		t.full = map[string]time.Time{}
	}
	took := time.Duration(float64(size) / throttleRate * float64(time.Second))
	from := t.full[path]
	if from.Before(now) {
		from = now
	}
	burst := now.Add(throttleMax + burstTime())
	if from = from.Add(took); from.After(burst) {
		from = burst
	}
	t.full[path] = from
}

// burstTime is how long throttleBurst takes to leak away.
func burstTime() time.Duration { return throttleBurst * time.Second / throttleRate }

// until is from when on the file may be sent: not after now if it may be at once.
func (t *throttle) until(path string) time.Time {
	at, ok := t.full[path]
	if !ok {
		return time.Time{}
	}
	return at.Add(-burstTime())
}

// forget drops what has leaked away.
func (t *throttle) forget(now time.Time) {
	maps.DeleteFunc(t.full, func(_ string, at time.Time) bool { return !now.Before(at) })
}

// holdBack takes out of the paths that were named those that have taken their share for now, until it is their turn. same
// reports whether a path still is the file that was sent: what was renamed, deleted or replaced is never held back.
func (t *todo) holdBack(now time.Time, same func(path string) bool) {
	t.throttle.forget(now)
	maps.DeleteFunc(t.slow, func(p string, at time.Time) bool {
		due := !now.Before(at)
		if due {
			t.scope.Paths = append(t.scope.Paths, p)
		}
		return due
	})
	t.scope.Paths = slices.DeleteFunc(t.scope.Paths, func(p string) bool {
		at := t.throttle.until(p)
		if !at.After(now) || !same(p) {
			return false
		}
		if t.slow == nil {
			t.slow = map[string]time.Time{}
		}
		t.slow[p] = at
		return true
	})
}

// sameFile reports whether the source file at p is the one that the replica's was made from.
func (e *engine) sameFile(p string) bool {
	old, known := e.known.Get(p)
	now, err := e.root.Lstat(p)
	return known && err == nil && now.Type == tree.File && now.Ino == old.Ino && now.Dev == old.Dev
}

// restlessAfter is how often in turn a file may change while it is read before the owner is told.
const restlessAfter = 3

// restless names the files that change whenever they are read, such as a database in use: no copy of one would be a state
// that it was ever in, so none is sent.
func (e *engine) restless(p plan.Plan, unsettled []string) {
	was := e.unsettled
	e.unsettled = map[string]int{}
	for _, path := range unsettled {
		e.unsettled[path] = was[path] + 1
		if e.unsettled[path] >= restlessAfter {
			e.failed[path] = fmt.Errorf("%w: %w", push.ErrSource, push.ErrUnsettled)
		}
	}
	for path, n := range was {
		tried := slices.ContainsFunc(p.Files, func(put plan.Put) bool { return put.Path == path })
		if _, again := e.unsettled[path]; !again && !tried {
			e.unsettled[path] = n
		}
	}
}
