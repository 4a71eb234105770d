package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"releve/internal/failover"
	"releve/internal/ovhdns"
)

// The state of the name of [dyndns].
const (
	dynUnknown  = "unknown"  // not looked at yet
	dynInSync   = "in_sync"  // it leads home, and the name servers say so
	dynUpdating = "updating" // a change is being written or published
	dynWaiting  = "waiting"  // home's address is not known, so that what stands there is kept
	dynForeign  = "foreign"  // it holds what nobody of us wrote
	dynFailing  = "failing"  // OVH cannot be told
)

const (
	// dynPatience is how long the name may be wrong, or not known to be right, before the owner is told.
	dynPatience = 15 * time.Minute
	// dynMaxPause bounds the pause before OVH is asked again, however often that failed.
	dynMaxPause = time.Minute

	// A line that changes its address more often than dynRate, after dynBurst changes, is followed more slowly: OVH
	// is asked to publish the whole zone each time.
	dynRate  = 5 * time.Minute
	dynBurst = 4
)

// dyndns keeps one name of a zone on the home address, whoever serves the sites. It has a task and a client of its
// own: nothing that OVH does to it keeps a site waiting.
type dyndns struct {
	cfg     DynDNS
	log     *slog.Logger
	now     func() time.Time
	store   store
	home    func() homeView
	line    func() bool // false while our own line is known to be down
	zone    zone
	alarms  *alarms
	delays  *delays
	pace    time.Duration // between looks while all is well
	limiter *rate.Limiter
	hurry   chan struct{}

	// Of the task alone.
	memory   dynMemory
	resume   bool             // an earlier process may have left something half done
	tried    failover.Records // the last that was to be written
	stubborn failover.Records // what OVH makes of it
	since    time.Time        // since when the name is not known to be right; zero while it is
	pause    time.Duration    // until the next look
	backoff  time.Duration    // after a failure

	mu    sync.Mutex
	view  dynView
	force bool // the owner overrides the guard, once
}

// dynView is what others may know: a moment of it.
type dynView struct {
	State     string
	Why       string
	Records   failover.Records
	Want      failover.Records
	Homes     []netip.Addr // that were known then
	ReadAt    time.Time
	Published time.Time // when the name servers were last seen to serve them
	Changed   time.Time // when something was last written
	Updates   int       // since the start
}

func newDynDNS(cfg DynDNS, st store, now func() time.Time) *dyndns {
	d := &dyndns{
		cfg: cfg, store: st, now: now, hurry: make(chan struct{}, 1), view: dynView{State: dynUnknown},
		limiter: rate.NewLimiter(rate.Every(dynRate), dynBurst), since: now(),
	}
	d.memory = loadDynMemory(st, cfg.Name)
	d.resume = d.memory.Unsettled
	return d
}

// loadDynMemory reads what is remembered of the name. Another name's memory says nothing about this one.
func loadDynMemory(st store, name string) dynMemory {
	var m dynMemory
	loadJSON(st.dynDNSPath(), &m)
	if m.Name != name {
		return dynMemory{Name: name}
	}
	return m
}

func (d *dyndns) get() dynView {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view
}

func (d *dyndns) set(f func(*dynView)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.view)
}

// run looks now and then, and whenever home's address may have changed, until ctx ends.
func (d *dyndns) run(ctx context.Context) error {
	for {
		d.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.judge()
		if !wait(ctx, d.pause, d.hurry) {
			return nil
		}
	}
}

var (
	// errHeld says that a change waits its turn.
	errHeld = errors.New("the address changes too often")
	// errMoved says that what was to be written is not any more what should be.
	errMoved = errors.New("the home address or the zone changed meanwhile")
)

// look does what is to be done now, and sets the pause until the next time.
func (d *dyndns) look(ctx context.Context) {
	err := d.follow(ctx)
	var foreign *failover.ForeignError
	var alias *ovhdns.CNAMEError
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		d.pause, d.backoff = d.pace, 0
		return
	case errors.As(err, &foreign), errors.As(err, &alias):
		d.say(dynForeign, err)
		d.pause = d.pace
		return
	case errors.Is(err, errHeld):
		d.say(dynUpdating, err)
		d.pause = min(d.pace, dynMaxPause)
		return
	case errors.Is(err, errMoved):
		d.say(dynUpdating, err)
		d.pause = firstPause
		return
	}
	d.say(dynFailing, err)
	d.backoff = max(firstPause, min(2*d.backoff, dynMaxPause))
	d.pause = d.backoff
}

// say makes the state known, and logs it once.
func (d *dyndns) say(state string, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	was := d.get()
	d.set(func(v *dynView) { v.State, v.Why = state, why })
	if was.State == state && was.Why == why {
		return
	}
	switch state {
	case dynForeign, dynFailing:
		d.log.Warn("name not kept at home", "state", state, "error", err)
	default:
		d.log.Info("name at home", "state", state, "why", why)
	}
}

// follow compares the name with home's address and, if they differ, makes them equal.
func (d *dyndns) follow(ctx context.Context) error {
	home := d.home()
	if err := d.learn(home); err != nil {
		return err
	}
	set, err := d.zone.Read(ctx, d.cfg.Zone, d.cfg.Name)
	if err != nil {
		return err
	}
	have := fromSet(set)
	want, foreign := dynPlan(d.cfg, have, home, d.memory.Homes)
	d.set(func(v *dynView) { v.Records, v.Want, v.Homes, v.ReadAt = have, want, d.memory.Homes, d.now() })
	force := d.forced()
	switch {
	case len(foreign) > 0 && !force:
		return &failover.ForeignError{Have: have}
	case len(want) == 0:
		d.say(dynWaiting, errors.New("home's address is not known yet"))
		return nil
	case (alike(want, have) || d.stubborn != nil && alike(have, d.stubborn)) && !d.memory.Unsettled:
	default:
		if err := d.write(ctx, want, force); err != nil {
			if force {
				d.mu.Lock()
				d.force = true // it holds until it is done
				d.mu.Unlock()
			}
			return err
		}
	}
	return d.await(ctx, want, home)
}

// alike reports whether both hold the same records, in whichever of OVH's collections.
func alike(a, b failover.Records) bool { return len(a) == len(b) && toSet(a).Equal(toSet(b)) }

// learn remembers home's addresses: what leads there is ours from now on.
func (d *dyndns) learn(home homeView) error {
	news := false
	for _, known := range []knownAddress{home.IPv4, home.IPv6} {
		if known.Agreed && known.Address.IsValid() {
			news = d.memory.know(known.Address) || news
		}
	}
	if !news {
		return nil
	}
	return d.remember()
}

func (d *dyndns) remember() error {
	if err := saveJSON(d.store.dynDNSPath(), d.memory); err != nil {
		return fmt.Errorf("%w: %w", errUnsaved, err)
	}
	return nil
}

// write makes want what the name holds. The intent is on disk before the first call that writes.
func (d *dyndns) write(ctx context.Context, want failover.Records, force bool) error {
	if !want.Equal(d.tried) {
		if !d.limiter.Allow() {
			return fmt.Errorf("%w: after %d changes, one in %s", errHeld, dynBurst, short(dynRate))
		}
		d.tried = want
	}
	d.say(dynUpdating, nil)
	began := d.now()
	allow := func(set ovhdns.Set) error {
		have := fromSet(set)
		again, foreign := dynPlan(d.cfg, have, d.home(), d.memory.Homes)
		switch {
		case len(foreign) > 0 && !force:
			return &failover.ForeignError{Have: have}
		case !alike(again, want):
			return fmt.Errorf("%w: %s", errMoved, again)
		}
		d.memory.Unsettled = true
		if err := d.remember(); err != nil {
			return err
		}
		if err := d.store.keepCopy(d.cfg.Name, d.now(), have, want); err != nil {
			d.log.Error("no copy of the records is kept", "error", err)
		}
		return nil
	}
	replace := d.zone.Replace
	if d.resume {
		replace = d.zone.Resume
	}
	out, err := replace(ctx, d.cfg.Zone, d.cfg.Name, toSet(want), allow)
	if err != nil {
		return err
	}
	d.resume, d.memory.Unsettled = false, false
	if err := d.remember(); err != nil {
		return err
	}
	d.stubborn = nil
	if out.Warning != "" {
		d.stubborn = fromSet(out.After)
	}
	d.log.Info("name written", "records", want.String(), "found", out.Before.String(), "writes", len(out.Writes), "refreshed", out.Refreshed, "took", d.now().Sub(began).Round(time.Millisecond))
	d.set(func(v *dynView) {
		v.Records, v.ReadAt = fromSet(out.After), d.now()
		if len(out.Writes) > 0 {
			v.Changed, v.Published = d.now(), time.Time{}
			v.Updates++
		}
	})
	return nil
}

// await asks the zone's name servers until all serve want, unless home moves meanwhile. What they have not come to
// serve after a while is refreshed once more. Once they did, one question will do.
func (d *dyndns) await(ctx context.Context, want failover.Records, home homeView) error {
	began := d.now()
	before := d.get()
	var last error
	for d.now().Sub(began) < publishAgain {
		var servers []string
		servers, last = d.nameServers(ctx)
		if last == nil {
			last = late(ovhdns.Published(ctx, servers, d.cfg.Name, toSet(want)))
		}
		if last == nil {
			if before.Published.IsZero() && !before.Changed.IsZero() {
				d.delays.add(d.cfg.Zone, d.now().Sub(before.Changed))
			}
			d.set(func(v *dynView) { v.Published = d.now() })
			d.settled(home)
			return nil
		}
		if !before.Published.IsZero() {
			return fmt.Errorf("not served any more: %w", last)
		}
		d.say(dynUpdating, fmt.Errorf("not published yet: %w", last))
		if !wait(ctx, publishPoll, nil) {
			return context.Cause(ctx)
		}
		if !d.home().same(home) {
			hurry(d.hurry)
			return nil
		}
	}
	d.memory.Unsettled, d.resume = true, true
	return fmt.Errorf("not published after %s: %w", short(publishAgain), last)
}

// settled says that the name holds what it can. It is right only if home's address is known.
func (d *dyndns) settled(home homeView) {
	for _, f := range []struct {
		follows bool
		known   knownAddress
	}{{d.cfg.IPv4, home.IPv4}, {d.cfg.IPv6, home.IPv6}} {
		if f.follows && !f.known.Agreed {
			d.say(dynWaiting, errors.New("home's address is not agreed on, so that what stands there is kept: "+f.known.Why))
			return
		}
	}
	d.say(dynInSync, nil)
}

func (d *dyndns) nameServers(ctx context.Context) ([]string, error) {
	if len(d.cfg.NameServers) > 0 {
		return d.cfg.NameServers, nil
	}
	return d.zone.NameServers(ctx, d.cfg.Zone)
}

const alarmDynDNS = "dyndns"

// judge tells the owner when the name has been wrong for too long, or cannot be mended without him.
func (d *dyndns) judge() {
	v := d.get()
	if v.State == dynInSync {
		d.since = time.Time{}
		d.alarms.clear(alarmDynDNS)
		return
	}
	if d.since.IsZero() {
		d.since = d.now()
	}
	if v.State != dynForeign && (d.now().Sub(d.since) < dynPatience || !d.line()) {
		return
	}
	d.alarms.raise(alarmDynDNS, d.message(v))
}

// homeChanged has the name looked at if the address is another one, or is agreed on again.
func (d *dyndns) homeChanged(before, after homeView) {
	if !before.same(after) {
		hurry(d.hurry)
	}
}

// order has the name looked at now.
func (d *dyndns) order(force bool) {
	d.mu.Lock()
	d.force = d.force || force
	d.mu.Unlock()
	hurry(d.hurry)
}

// forced reports, once, whether the owner overrides the guard.
func (d *dyndns) forced() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	force := d.force
	d.force = false
	return force
}
