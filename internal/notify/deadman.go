package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"releve/internal/strictconf"
)

// DeadmanConfig is [deadman]: a service elsewhere that raises an alarm when it is not heard from (healthchecks.io,
// Uptime Kuma's push monitors and others).
type DeadmanConfig struct {
	URL      strictconf.Secret   `toml:"url"` // who knows it can keep up the appearance of life
	Interval strictconf.Duration `toml:"interval"`
}

// SetDefaults is called by strictconf.
func (c *DeadmanConfig) SetDefaults() { c.Interval = strictconf.Duration(time.Minute) }

const (
	// pingTimeout bounds one ping.
	pingTimeout = 10 * time.Second
	// pingRetry is the least time between two pings when the first one failed.
	pingRetry = 10 * time.Second
)

// Deadman pings a URL for as long as every part of the program goes on with its work, and at no other time: a ping is
// caused by the end of a round ([Deadman.Beat]), never by the clock alone. Its methods may be called on nil, which is a
// program without one, and are safe for concurrent use.
type Deadman struct {
	url      string
	interval time.Duration
	client   *http.Client
	redact   func(error) error
	woken    chan struct{}

	mu    sync.Mutex
	parts map[string]part
	state DeadmanState
}

// part is one loop of the program.
type part struct {
	fresh time.Duration // after which a round without a next one proves nothing
	beat  time.Time     // the end of the last round
}

// DeadmanState is what became of the pings.
type DeadmanState struct {
	LastPing  time.Time // that succeeded
	Err       string    // why the last one failed; empty = it did not
	Succeeded int
	Failed    int
}

// NewDeadman makes the dead-man's switch of a configuration, nil for none.
func NewDeadman(c *DeadmanConfig) *Deadman {
	if c == nil {
		return nil
	}
	secrets := Config{URL: c.URL}.secrets()
	return &Deadman{
		url: c.URL.Reveal(), interval: c.Interval.D(), client: newClient(), woken: make(chan struct{}, 1), parts: map[string]part{},
		redact: func(err error) error { return withoutSecrets(err, secrets) },
	}
}

// Watch adds a loop that has to go on with its work for pings to be sent: its rounds must not end further apart than
// fresh. It is called before anything runs.
func (d *Deadman) Watch(name string, fresh time.Duration) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parts[name] = part{fresh: fresh}
}

// Beat says that a loop has completed a round. It never blocks.
func (d *Deadman) Beat(name string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.parts[name]
	p.beat = time.Now()
	d.parts[name] = p
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// State is what became of the pings so far.
func (d *Deadman) State() DeadmanState {
	if d == nil {
		return DeadmanState{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Run pings until ctx ends, and returns nil.
func (d *Deadman) Run(ctx context.Context) error {
	if d == nil {
		<-ctx.Done()
		return nil
	}
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.woken:
		}
		now := time.Now()
		if now.Before(next) || !d.alive(now) {
			continue
		}
		next = now.Add(d.interval)
		err := d.ping(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			next = now.Add(min(d.interval, pingRetry))
		}
		d.note(err)
	}
}

// alive reports whether every loop has completed a round lately.
func (d *Deadman) alive(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.parts {
		if p.beat.IsZero() || now.Sub(p.beat) > p.fresh {
			return false
		}
	}
	return true
}

func (d *Deadman) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pingTimeout, errors.New("no answer in time"))
	defer cancel()
	if err := do(ctx, d.client, request{method: http.MethodGet, url: d.url}); err != nil {
		return d.redact(fmt.Errorf("ping: %w", err))
	}
	return nil
}

func (d *Deadman) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.state.Err = err.Error()
		d.state.Failed++
		return
	}
	d.state.Err, d.state.LastPing = "", time.Now().Round(0)
	d.state.Succeeded++
}
