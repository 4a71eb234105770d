package syncagent

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/internal/watch"
)

// The states of a folder, as the status names them.
const (
	stateSyncing = "syncing" // a comparison or a push is under way
	stateInSync  = "in_sync" // the replica equals the source as last looked at
	stateHeld    = "held"    // equal but for deletions that wait for approval
	stateWaiting = "waiting" // nothing can be pushed just now
)

// folderStatus is what the status tells of one folder on one backup.
type folderStatus struct {
	name, backup string
	state        string
	since        time.Time // of the state
	pending      int
	held         []plan.Delete
	heldWhy      string
	heldAt       time.Time // when held last changed
	inSyncSince  time.Time // zero while it is not
	asOf         time.Time // every change until then is on the replica; zero while that is not known
	lastPush     time.Time
	compared     time.Time // while nothing may be pushed: when that was last compared which pending counts; zero = not yet
	problems     []string  // what could not be pushed, as sentences
	tried        bool      // all that is missing on the replica cannot be read, or never rests, at the source
	unread       []string  // what could not be read
	unwatched    []string  // what the watcher complains about
	lineages     []string  // certificates that are being renewed
	target       []string  // what is wrong with the target directory itself
	notices      []string  // what is worth knowing and no fault
	unkept       bool      // there is no room to keep what is replaced or deleted
	err          error     // why it is waiting
	skipped      int       // sockets, FIFOs, devices
	watches      int       // directories watched
	polled       int       // directories read from time to time instead
	totals       push.Stats

	todoEntries int
	todoBytes   int64
	began       time.Time
}

// progressCount is how far a push has come; workers count concurrently.
type progressCount struct {
	entries atomic.Int64
	bytes   atomic.Int64
}

func (e *engine) progress(entries int, bytes int64) {
	e.done.entries.Add(int64(entries))
	e.done.bytes.Add(bytes)
	e.beat()
}

// snapshot returns the folder's status at this instant.
func (e *engine) snapshot() folderStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	s.held = slices.Clone(s.held)
	s.problems = slices.Concat(s.problems, s.unread, s.lineages, s.unwatched, s.target)
	return s
}

func (e *engine) update(change func(*folderStatus)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.status.state
	change(&e.status)
	if e.status.state != before {
		e.status.since = time.Now()
	}
}

// set names the folder's state.
func (e *engine) set(state string) {
	e.update(func(s *folderStatus) {
		s.state, s.tried = state, false
		if state != stateInSync {
			s.inSyncSince = time.Time{}
		}
	})
}

// waiting says that nothing can be pushed, and why.
func (e *engine) waiting(err error) {
	e.update(func(s *folderStatus) {
		s.state, s.err, s.inSyncSince = stateWaiting, err, time.Time{}
	})
}

// start says what a push is about to do.
func (e *engine) start(p plan.Plan) {
	entries, bytes := p.Totals()
	e.done.entries.Store(0)
	e.done.bytes.Store(0)
	e.update(func(s *folderStatus) {
		s.state, s.tried = stateSyncing, false
		s.pending = entries + len(p.Deletes) + len(p.Moves)
		s.todoEntries, s.todoBytes, s.began = entries, bytes, time.Now()
	})
}

// report notes and logs what a push did.
func (e *engine) report(out push.Outcome, took time.Duration) {
	if out.Entries+out.Deleted+out.Moved > 0 {
		e.log.Info("pushed", "entries", out.Entries, "bytes", out.Bytes, "deleted", out.Deleted, "moved", out.Moved,
			"took", took.Round(time.Millisecond/10))
	}
	for _, f := range out.Failed {
		if old := e.failed[f.Path]; old == nil || old.Error() != f.Err.Error() { // once, not at each try
			e.log.Warn("could not push", "path", fmt.Sprintf("%q", f.Path), "err", f.Err)
		}
		e.failed[f.Path] = f.Err
	}
	e.update(func(s *folderStatus) {
		s.totals.Files += out.Files
		s.totals.Entries += out.Entries
		s.totals.Bytes += out.Bytes
		s.totals.Moved += out.Moved
		s.totals.Deleted += out.Deleted
		s.lastPush = time.Now()
	})
}

// tryAgain forgets which of the paths in scope failed: they are about to be tried again.
func (e *engine) tryAgain(scope plan.Scope) {
	if scope.All {
		clear(e.failed)
		return
	}
	for _, p := range scope.Paths {
		delete(e.failed, p)
	}
	for p := range e.failed {
		if slices.ContainsFunc(scope.Subtrees, func(sub string) bool { return tree.Within(p, sub) }) {
			delete(e.failed, p)
		}
	}
}

// complaints is what failed, as sentences, and whether all of it is the source's own doing: what cannot be read here
// will not be on the replica however long one waits.
func (e *engine) complaints() (sentences []string, source bool) {
	source = true
	for p, err := range e.failed {
		sentences = append(sentences, fmt.Sprintf("%q: %v", p, err))
		source = source && errors.Is(err, push.ErrSource)
	}
	slices.Sort(sentences)
	return sentences, source
}

// watched notes how well the source is watched.
func (e *engine) watched(w watch.Status) {
	e.update(func(s *folderStatus) { s.watches, s.polled, s.unwatched = w.Watches, w.Polled, w.Problems })
}

// notOurs notes why the target directory's own mode and times could not be set; nil says that they could. The replica
// lacks nothing for that: a target that root made for the SFTP user's group is an ordinary one.
func (e *engine) notOurs(err error) {
	var problem []string
	if err != nil {
		problem = []string{fmt.Sprintf("the target directory %s does not belong to the SFTP user and keeps its own mode and time (chown it on the backup): %v",
			e.folder.Target, err)}
	}
	e.update(func(s *folderStatus) { s.target = problem })
}

// hold shows the deletions that were not believed. A comparison of everything names them all; one of a few paths adds
// to them.
func (e *engine) hold(held []plan.Delete, why string, l view) {
	e.update(func(s *folderStatus) {
		before := s.held
		if l.scope.All {
			s.held = nil
		}
		s.held = slices.DeleteFunc(slices.Clone(s.held), func(d plan.Delete) bool {
			_, back := l.src[d.Path]
			return back
		})
		s.held = topmost(append(s.held, held...))
		if why != "" {
			s.heldWhy = why
		}
		if !slices.Equal(s.held, before) {
			s.heldAt = time.Now()
		}
	})
}

// topmost sorts deletions by path and leaves out what lies below another one: a folder that is deleted step by step
// is named once, when its own turn has come.
func topmost(held []plan.Delete) []plan.Delete {
	slices.SortFunc(held, func(a, b plan.Delete) int { return strings.Compare(a.Path, b.Path) })
	at := map[string]bool{}
	var tops []plan.Delete
	for _, d := range held {
		covered := at[d.Path]
		for dir := path.Dir(d.Path); dir != "." && !covered; dir = path.Dir(dir) {
			covered = at[dir]
		}
		if !covered {
			at[d.Path] = true
			tops = append(tops, d)
		}
	}
	return tops
}

// settled closes a round: it says whether the replica equals the source now.
func (e *engine) settled(l view) {
	unread := make([]string, 0, len(l.problems))
	for _, p := range l.problems {
		unread = append(unread, fmt.Sprintf("%q cannot be read: %v", p.Path, p.Err))
	}
	waiting := e.todo.pending() + e.carrier.pending()
	problems, source := e.complaints()
	tried := source && !e.todo.due(time.Now()) && e.carrier.pending() == 0
	e.update(func(s *folderStatus) {
		s.pending, s.err, s.problems = waiting, nil, problems
		s.tried = tried
		if l.scope.All || len(unread) > 0 {
			s.unread = unread
		}
		if l.scope.All {
			s.skipped = specials(l.src)
		}
		switch {
		case waiting > 0 || len(s.problems) > 0 || len(s.unread) > 0:
			s.state, s.inSyncSince = stateSyncing, time.Time{}
		case len(s.held) > 0:
			s.state, s.inSyncSince = stateHeld, time.Time{}
		default:
			if s.state != stateInSync {
				s.inSyncSince = time.Now()
			}
			s.state = stateInSync
		}
		if s.complete() {
			s.asOf = e.looked
		}
	})
	e.link.word.finished()
}

func specials(t tree.Tree) int {
	n := 0
	for _, e := range t {
		if e.Type == tree.Other {
			n++
		}
	}
	return n
}

// approve lets the held deletions through that are shown at this instant, and returns them.
func (e *engine) approve() []plan.Delete {
	e.mu.Lock()
	held := slices.Clone(e.status.held)
	e.approved = append(e.approved, held...)
	e.mu.Unlock()
	if len(held) > 0 {
		e.nudge()
	}
	return held
}

// nudge ends the present wait, or the next.
func (e *engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// takeApproved hands approvals to the guard; everything is then compared again.
func (e *engine) takeApproved() {
	e.mu.Lock()
	approved := e.approved
	e.approved = nil
	e.mu.Unlock()
	if len(approved) > 0 {
		e.guard.approve(approved)
		e.todo.everything()
	}
}
