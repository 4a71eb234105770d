package syncagent

import (
	"cmp"
	"context"
	"runtime/debug"
	"time"

	"releve/internal/notify"
	"releve/internal/watch"
)

const (
	// beatEvery is how often an engine with nothing to do shows that it would.
	beatEvery = 30 * time.Second
	// beatWithin is how long a turn of an engine may take for the agent to count as alive. What is pushed counts as it
	// goes; this is for reading folders.
	beatWithin = 5 * time.Minute
)

// lives has the engine take part in what the dead-man's switch vouches for: that each folder is followed, on each
// backup. An engine that waits for a connection or for its source does not beat.
func (e *engine) lives(d *notify.Deadman) {
	name := e.folder.Name + " on " + e.link.backup.Name
	d.Watch(name, beatWithin)
	e.beat = func() { d.Beat(name) }
}

// next waits for changes, and beats meanwhile.
func (e *engine) next(ctx context.Context, watcher *watch.Watcher) (watch.Changes, error) {
	for {
		e.beat()
		turn, cancel := context.WithTimeout(ctx, cmp.Or(e.pace.beat, beatEvery))
		changes, err := watcher.Next(turn)
		idle := turn.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !idle {
			return changes, err
		}
		e.relax()
	}
}

// relax gives back the memory that the last comparison of everything took, twice that of what is known: nothing has
// happened for a while, and it is not needed before the next one.
func (e *engine) relax() {
	if e.relaxed.Equal(e.full) {
		return
	}
	e.relaxed = e.full
	e.known.Rest()
	debug.FreeOSMemory()
}

// holdStill waits until something may be pushed again, or the session or ctx has ended, and beats meanwhile: to push
// nothing is the decision.
func (e *engine) holdStill(ctx context.Context, s *session) {
	for {
		e.beat()
		turn, cancel := context.WithTimeout(ctx, cmp.Or(e.pace.beat, beatEvery))
		e.link.awaitFree(turn, s)
		idle := turn.Err() != nil && ctx.Err() == nil
		cancel()
		if !idle {
			return
		}
	}
}
