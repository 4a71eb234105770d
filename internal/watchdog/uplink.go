package watchdog

import (
	"context"
	"sync"
	"time"

	"releve/internal/probe"
)

// uplinkTimeout bounds a question to the references. With the built-in ones it passes only where a majority is silent.
const uplinkTimeout = 2 * time.Second

// uplink asks whether our own line works, on behalf of all sites.
type uplink struct {
	refs     []probe.Reference
	now      func() time.Time
	interval time.Duration                                    // between looks while all is well
	back     func(ctx context.Context, from, until time.Time) // the line is back

	asking sync.Mutex // one question at a time; who comes second shares the answer
	mu     sync.Mutex
	last   probe.UplinkResult
	at     time.Time
	since  time.Time // since when it is down; zero while it is up
}

// state is what was last found, and when; the zero time if nothing was yet.
func (u *uplink) state() (probe.UplinkResult, time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last, u.at
}

// ask asks the references now. An answer that was asked for after the call began is shared, and a good one that is not
// older than age.
func (u *uplink) ask(ctx context.Context, timeout, age time.Duration) probe.UplinkResult {
	called := u.now()
	u.asking.Lock()
	defer u.asking.Unlock()
	if last, at := u.state(); at.After(called) || last.OK && at.After(called.Add(-age)) {
		return last
	}
	began := u.now()
	r := probe.Uplink(ctx, u.refs, timeout)
	if ctx.Err() != nil {
		return r
	}
	u.mu.Lock()
	u.last, u.at = r, began
	down := u.since
	switch {
	case r.OK:
		u.since = time.Time{}
	case u.since.IsZero():
		u.since = began
	}
	u.mu.Unlock()
	if r.OK && !down.IsZero() {
		u.back(ctx, down, began)
	}
	return r
}

// run looks now and then, so that the owner need not wait for an outage to learn that the references are no good.
func (u *uplink) run(ctx context.Context) error {
	for {
		u.ask(ctx, uplinkTimeout, 0)
		if !wait(ctx, u.interval, nil) {
			return nil
		}
	}
}
