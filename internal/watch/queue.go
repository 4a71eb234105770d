package watch

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxPaths    = 10_000 // more dirty paths than this are forgotten in favour of their directories,
	maxSubtrees = 1_000  // and more of those in favour of their parents, up to the root
)

// ops is what the events said about a path; hints, all of them.
type ops uint8

const (
	written ops = 1 << iota // content or attributes
	created                 // the name is new, or names something new
	removed
	moved // the name was given to something else
)

// A mark is one dirty path.
type mark struct {
	ops         ops
	first, last time.Time // the first and the last event
	due         time.Time // not worth looking at earlier
	busy        bool      // when last looked at, somebody was writing it
	gone        bool      // when last looked at, it was not there, and nothing has happened to it since
	sent        *stamp    // what went out while it was being written
}

// awaited tells whether a path is sure to be reported when its writer is done. One that went out
// while it was open is only if it changes again.
func (m *mark) awaited() bool { return m.busy && m.sent == nil }

// A queue holds what is dirty until somebody asks for it. Its size is bounded whatever happens to the folder.
type queue struct {
	mu       sync.Mutex
	marks    map[string]*mark
	subtrees map[string]time.Time // until when each has to wait
	all      string               // why everything is dirty; "" when it is not
	gate     gate
	wake     chan struct{}

	maxPaths, maxSubtrees int
}

func newQueue(maxPaths, maxSubtrees int) *queue {
	return &queue{
		marks:       map[string]*mark{},
		subtrees:    map[string]time.Time{},
		wake:        make(chan struct{}, 1),
		maxPaths:    maxPaths,
		maxSubtrees: maxSubtrees,
	}
}

// path marks one path dirty. fresh is asked only when it was clean, and may refuse it.
func (q *queue) path(now time.Time, path string, op ops, fresh func() bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if op&moved != 0 {
		q.gate.pairing = now.Add(pairWait)
	}
	if m := q.marks[path]; m != nil {
		m.ops |= op
		m.last = now
		m.gone = false
		if soon := now.Add(longestLook); m.due.After(soon) {
			m.due = soon
			signal(q.wake)
		}
		return
	}
	if fresh != nil && !fresh() {
		return
	}
	q.put(path, &mark{ops: op, first: now, last: now, due: now})
	q.gate.dirtied(now)
	signal(q.wake)
}

func (q *queue) put(path string, m *mark) {
	if len(q.marks) < q.maxPaths {
		q.marks[path] = m
		return
	}
	q.cover(parent(path), m.last)
	for p, m := range q.marks {
		q.cover(parent(p), m.last)
	}
	clear(q.marks)
}

// subtree marks a path and anything below it dirty.
func (q *queue) subtree(now time.Time, path string) { q.subtreeBy(now, path, 0) }

func (q *queue) subtreeBy(now time.Time, path string, op ops) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if op&moved != 0 {
		q.gate.pairing = now.Add(pairWait)
	}
	q.cover(path, now)
	q.gate.dirtied(now)
	signal(q.wake)
}

func (q *queue) cover(path string, now time.Time) {
	if q.all != "" {
		return
	}
	if path == "." {
		q.all = "too much has changed to name it"
		clear(q.subtrees)
		return
	}
	for p := path; p != "."; p = parent(p) {
		if _, ok := q.subtrees[p]; ok {
			return
		}
	}
	q.subtrees[path] = now
	if len(q.subtrees) <= q.maxSubtrees {
		return
	}
	short := shorten(slices.Collect(maps.Keys(q.subtrees)), q.maxSubtrees/2)
	clear(q.subtrees)
	for _, p := range short {
		q.cover(p, now)
	}
}

// everything marks the whole folder dirty.
func (q *queue) everything(reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = reason
	clear(q.subtrees)
	signal(q.wake)
}

// paired says that the event after the first half of a rename has been dealt with.
func (q *queue) paired() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.gate.pairing.IsZero() {
		q.gate.pairing = time.Time{}
		signal(q.wake)
	}
}

// work says that a directory is being taken in, and, at the end, that it has been.
func (q *queue) work(since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gate.working = since
	if since.IsZero() {
		signal(q.wake)
	}
}

// A round is what is looked at together, and what came of it.
type round struct {
	marks    map[string]*mark
	subtrees []string
	all      string

	ready []string             // go out now
	back  map[string]*mark     // are looked at again, at their due time
	held  map[string]time.Time // subtrees that have to wait
	busy  []string             // marks that are not looked at in this round, and were found busy before
}

// postpone puts the whole round off.
func (r *round) postpone(due time.Time) {
	for p, m := range r.marks {
		m.due = due
		r.back[p] = m
	}
	for _, p := range r.subtrees {
		r.held[p] = due
	}
	r.subtrees = nil
}

// take removes what is due. With nothing due it returns nil, and how long to wait, or -1 for "until woken".
func (q *queue) take(now time.Time) (*round, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.marks) == 0 && len(q.subtrees) == 0 && q.all == "" {
		return nil, -1
	}
	if d := q.gate.wait(now); d > 0 {
		return nil, d
	}
	r := &round{marks: map[string]*mark{}, back: map[string]*mark{}, held: map[string]time.Time{}, all: q.all}
	q.all = ""
	next := time.Duration(-1)
	put := func(due time.Time) {
		if d := due.Sub(now); next < 0 || d < next {
			next = d
		}
	}
	for p, m := range q.marks {
		if m.due.After(now) {
			put(m.due)
			if m.awaited() {
				r.busy = append(r.busy, p)
			}
			continue
		}
		r.marks[p] = m
		delete(q.marks, p)
	}
	for p, due := range q.subtrees {
		if due.After(now) {
			put(due)
			continue
		}
		r.subtrees = append(r.subtrees, p)
		delete(q.subtrees, p)
	}
	if len(r.marks) == 0 && len(r.subtrees) == 0 && r.all == "" {
		return nil, next
	}
	q.gate.released(now)
	return r, 0
}

// finish takes back what has not settled, and makes Changes of the rest; ok is false when there is none.
func (q *queue) finish(r *round) (c Changes, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	busy := r.busy
	for p, m := range r.back {
		if m.awaited() {
			busy = append(busy, p)
		}
		if newer := q.marks[p]; newer != nil {
			// Something happened while it was looked at; that event is to be honoured at once.
			newer.first = m.first
			newer.ops |= m.ops
			newer.sent = m.sent
			continue
		}
		q.put(p, m)
	}
	for p, due := range r.held {
		q.cover(p, due)
	}
	switch {
	case r.all != "":
		q.dropGone(func(string) bool { return true })
		c = Changes{All: true, Reason: r.all, Busy: busy}
	case len(r.subtrees) > 0 || len(r.ready) > 0:
		c.Subtrees = outermost(r.subtrees)
		within := func(p string) bool { return below(c.Subtrees, p) }
		q.dropGone(within)
		c.Paths = slices.DeleteFunc(r.ready, within)
		c.Busy = slices.DeleteFunc(busy, func(p string) bool { return !within(p) })
	default:
		return c, false
	}
	slices.Sort(c.Paths)
	slices.Sort(c.Busy)
	return c, true
}

// dropGone forgets paths that wait to be reported as gone where all that is there is about to be reported.
func (q *queue) dropGone(covered func(string) bool) {
	for p, m := range q.marks {
		if m.gone && covered(p) {
			delete(q.marks, p)
		}
	}
}

// next waits for a round that yields something. look judges the round's marks.
func (q *queue) next(ctx context.Context, closed <-chan struct{}, look func(time.Time, *round)) (Changes, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return Changes{}, err
		}
		now := time.Now()
		r, wait := q.take(now)
		if r != nil {
			look(now, r)
			if c, ok := q.finish(r); ok {
				return c, nil
			}
			continue
		}
		var alarm <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			alarm = timer.C
		}
		select {
		case <-ctx.Done():
		case <-closed:
			return Changes{}, ErrClosed
		case <-q.wake:
		case <-alarm:
		}
	}
}

func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "."
	}
	return path[:i]
}

// outermost drops each path that lies within another, and sorts the rest.
func outermost(paths []string) []string {
	set := make(map[string]bool, len(paths))
	for _, p := range paths {
		set[p] = true
	}
	var out []string
	for p := range set {
		if !covered(set, parent(p)) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

func covered(set map[string]bool, path string) bool {
	for ; path != "."; path = parent(path) {
		if set[path] {
			return true
		}
	}
	return false
}

// below tells whether path is at or below one of the sorted trees, none of which lies within another.
func below(trees []string, path string) bool {
	for p := path; p != "."; p = parent(p) {
		if _, ok := slices.BinarySearch(trees, p); ok {
			return true
		}
	}
	return false
}

// shorten covers the same ground with at most limit subtrees: the deepest give way to their parents, level by level.
func shorten(paths []string, limit int) []string {
	depth := 0
	for _, p := range paths {
		depth = max(depth, strings.Count(p, "/"))
	}
	paths = outermost(paths)
	for ; len(paths) > limit; depth-- {
		if depth == 0 {
			return []string{"."}
		}
		for i, p := range paths {
			for strings.Count(p, "/") >= depth {
				p = parent(p)
			}
			paths[i] = p
		}
		paths = outermost(paths)
	}
	return paths
}
