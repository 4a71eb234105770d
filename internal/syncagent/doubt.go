package syncagent

import (
	"cmp"
	"slices"
	"time"
)

// A connection that ends does not end what the server had received: its process works that off, however late, and TCP may
// deliver more of it once a line is up again. Its renames and deletions can follow the listing of the next session, which
// then knows nothing of them. So after such an end the replica is listed again, twice: when an ordinary server has long
// worked off what it had, and when TCP, which tries again every two minutes at the least, has delivered what it still held.

// doubt begins a session: if the last one ended with requests under way, the replica is not believed for long.
func (e *engine) doubt(now time.Time) {
	e.doubts = slices.DeleteFunc(e.doubts, func(at time.Time) bool { return !now.Before(at) })
	if !e.cutOff {
		return
	}
	e.cutOff, e.doubts = false, nil
	for _, after := range e.pace.doubt {
		if after > 0 {
			e.doubts = append(e.doubts, now.Add(after))
		}
	}
}

// relistAt is when the replica has to be listed anew, whatever the events say. Large files that were on their way by then
// are waited for, or one that takes longer than the pause would never arrive; their arrival wakes the engine.
func (e *engine) relistAt(now time.Time) time.Time {
	at := e.full.Add(cmp.Or(e.pace.full, fullEvery))
	if len(e.doubts) > 0 && e.doubts[0].Before(at) {
		at = e.doubts[0]
	}
	if !now.Before(at) && e.carrier.carriesSince(at) {
		return now.Add(fullEvery)
	}
	return at
}
