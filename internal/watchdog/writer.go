package watchdog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/ovhdns"
)

// zone is what the watchdog needs of [ovhdns.Client].
type zone interface {
	Read(ctx context.Context, zone, name string) (ovhdns.Set, error)
	Replace(ctx context.Context, zone, name string, want ovhdns.Set, allow func(have ovhdns.Set) error) (ovhdns.Outcome, error)
	Resume(ctx context.Context, zone, name string, want ovhdns.Set, allow func(have ovhdns.Set) error) (ovhdns.Outcome, error)
	NameServers(ctx context.Context, zone string) ([]string, error)
	DefaultTTL(ctx context.Context, zone string) (int64, error)
	Rights(ctx context.Context, zone string) (ovhdns.Rights, error)
	Hints(ctx context.Context, zone, name string) ([]string, error)
	Close()
}

const (
	firstPause = time.Second      // before a write is tried again
	maxPause   = 20 * time.Second // however often it failed

	publishPoll  = time.Second     // between questions to the name servers
	publishAgain = 5 * time.Minute // after so long without publication the zone is refreshed once more
)

// errUnsaved stops a write whose intent is not on disk.
var errUnsaved = errors.New("the state cannot be written to disk")

// order is what the writer should be at; without a sequence number, nothing.
type order struct {
	intent    failover.Intent
	unsettled bool // an earlier write may have left something half done
}

// write carries out what the loop orders, one intent at a time, until ctx ends.
func (s *site) write(ctx context.Context) error {
	var current failover.Intent
	stop := func() {}         // ends the write under way, and waits for it
	defer func() { stop() }() // whichever it is by then
	inherited := true         // what is half done at the first order was begun by another process
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-s.orders:
			resume := inherited && o.unsettled
			inherited = false
			if o.intent.Seq == current.Seq {
				continue
			}
			stop()
			current, stop = o.intent, func() {}
			if current.Seq != 0 {
				stop = s.start(ctx, current, resume)
			}
		}
	}
}

// start begins a write in a goroutine of its own. stop ends it and returns when it has.
func (s *site) start(ctx context.Context, in failover.Intent, resume bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.carryOut(ctx, in, resume)
	}()
	return func() { cancel(); <-done }
}

// carryOut makes the zone hold what in wants, for as long as it takes or is wanted, and sees it published.
func (s *site) carryOut(ctx context.Context, in failover.Intent, resume bool) {
	pause, said := firstPause, ""
	var accepted time.Time // what was written by us here, for the first time
	for ctx.Err() == nil {
		wrote, err := s.replace(ctx, in, resume)
		if err == nil {
			if wrote && accepted.IsZero() {
				accepted = s.now()
			}
			if s.awaitPublication(ctx, in, accepted) {
				return
			}
			resume = true // the refresh may not have been heard
			continue
		}
		if ctx.Err() != nil {
			return
		}
		resume = resume || errors.Is(err, ovhdns.ErrUnconfirmed)
		s.noteRefusal(err)
		if said != err.Error() && !errors.Is(err, failover.ErrNotNow) {
			said = err.Error() // once: an outage of OVH lasts for hours
			s.log.Warn("zone not written yet, trying again until it is", "to", string(in.To), "error", err)
		}
		s.send(ctx, func(o *failover.Observation) { o.Progress = &failover.Progress{Seq: in.Seq, Err: err.Error()} })
		if !wait(ctx, pause, nil) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// replace makes the zone hold what in wants, once, and reports whether that took a write.
func (s *site) replace(ctx context.Context, in failover.Intent, resume bool) (wrote bool, err error) {
	admitted := false
	admit := func(have ovhdns.Set) error {
		admitted = true
		return s.admit(ctx, in.Seq, have)
	}
	replace := s.zone.Replace
	if resume {
		replace = s.zone.Resume
	}
	out, err := replace(ctx, s.cfg.Zone, s.cfg.Name, toSet(in.Want), admit)
	if err == nil && !admitted {
		// There was nothing to write, so nobody was asked; but who serves changes all the same.
		err = s.admit(ctx, in.Seq, out.After)
	}
	if err != nil {
		return false, err
	}
	s.alarms.clear(alarmCredential)
	s.alarms.clear(alarmRights + s.cfg.Zone)
	s.log.Info("zone written", "to", string(in.To), "records", in.Want.String(), "found", out.Before.String(), "writes", len(out.Writes), "refreshed", out.Refreshed)
	s.send(ctx, func(o *failover.Observation) { o.Progress = &failover.Progress{Seq: in.Seq, Accepted: true} })
	return len(out.Writes) > 0, nil
}

// admit asks the loop whether the write may go on, and returns once the answer is on disk.
func (s *site) admit(ctx context.Context, seq int, have ovhdns.Set) error {
	var answer error
	err := s.call(ctx, func(o failover.Observation) {
		var next failover.State
		next, answer = failover.Admit(s.state, o, s.policy, seq, fromSet(have))
		s.become(next)
		s.epoch.Add(1)
		s.set(func(v *siteView) { v.Records, v.ReadAt, v.ReadErr = fromSet(have), o.Time, nil })
		if answer == nil && s.unsaved != nil {
			answer = fmt.Errorf("%w: %w", errUnsaved, s.unsaved)
		}
		if answer == nil {
			if err := s.store.keepCopy(s.cfg.Name, o.Time, fromSet(have), next.Intent.Want); err != nil {
				s.log.Error("no copy of the records is kept", "error", err) // beside the one in the state
			}
		}
	})
	if err != nil {
		return err
	}
	return answer
}

// awaitPublication asks the zone's name servers until all serve what was written. It gives up after a while, so that
// the zone can be refreshed again. accepted is since when OVH has the change to publish, zero if there was none.
func (s *site) awaitPublication(ctx context.Context, in failover.Intent, accepted time.Time) bool {
	deadline := s.now().Add(publishAgain)
	var servers []string
	for s.now().Before(deadline) {
		var err error
		if len(servers) == 0 {
			servers, err = s.nameServers(ctx)
		}
		if err == nil {
			err = late(s.published(ctx, servers, in))
		}
		if err == nil {
			s.epoch.Add(1)
			if !accepted.IsZero() {
				s.delays.add(s.cfg.Zone, s.now().Sub(accepted))
			}
			s.set(func(v *siteView) { v.Records, v.ReadAt = in.Want, s.now() })
			hurry(s.reread)
			return s.send(ctx, func(o *failover.Observation) {
				o.Progress = &failover.Progress{Seq: in.Seq, Accepted: true, Published: true}
			})
		}
		s.send(ctx, func(o *failover.Observation) {
			o.Progress = &failover.Progress{Seq: in.Seq, Accepted: true, Err: "not published yet: " + err.Error()}
		})
		if !wait(ctx, min(publishPoll, s.cfg.Probe.Interval), nil) {
			return true
		}
	}
	return false
}

// published asks the name servers for what in wants. Where nothing but the TTLs was to change, they must have.
func (s *site) published(ctx context.Context, servers []string, in failover.Intent) map[string]error {
	if in.Follow && in.To == failover.Prod {
		ttl := longestTTL(in.Want, s.get().ZoneTTL)
		return ovhdns.PublishedWithin(ctx, servers, s.cfg.Name, toSet(in.Want), int64(ttl.Seconds()))
	}
	return ovhdns.Published(ctx, servers, s.cfg.Name, toSet(in.Want))
}

// nameServers are those to be asked: the configured ones, or what the zone names.
func (s *site) nameServers(ctx context.Context) ([]string, error) {
	if len(s.cfg.NameServers) > 0 {
		return s.cfg.NameServers, nil
	}
	return s.zone.NameServers(ctx, s.cfg.Zone)
}

// late joins what the name servers that do not serve the records said; nil if all do.
func late(result map[string]error) error {
	var out []string
	for _, server := range slices.Sorted(maps.Keys(result)) {
		if err := result[server]; err != nil {
			out = append(out, server+": "+err.Error())
		}
	}
	switch {
	case len(result) == 0:
		return errors.New("the zone has no name servers")
	case len(out) == 0:
		return nil
	}
	return errors.New(strings.Join(out, "; "))
}

func toSet(r failover.Records) ovhdns.Set {
	var out ovhdns.Set
	for _, rec := range r {
		n := ovhdns.NewRecord(rec.Addr, rec.TTL)
		n.DynHost = rec.DynHost
		out = append(out, n)
	}
	return out
}

func fromSet(s ovhdns.Set) failover.Records {
	var out failover.Records
	for _, rec := range s {
		out = append(out, failover.Record{Addr: rec.Addr(), TTL: rec.TTL, DynHost: rec.DynHost})
	}
	return out
}
