package watchdog

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/ovhdns"
)

// slowZone gives its answer when it is let to: a reading that began before a write can end after it.
type slowZone struct {
	zone  // nil: nothing else is asked
	asked chan struct{}
	let   chan struct{}
	have  ovhdns.Set
}

func (z slowZone) Read(context.Context, string, string) (ovhdns.Set, error) {
	close(z.asked)
	<-z.let
	return z.have, nil
}

func (z slowZone) DefaultTTL(context.Context, string) (int64, error) { return 3600, nil }

// TestReadingFromBeforeAWrite: what was read before a write says nothing about the zone after it.
func TestReadingFromBeforeAWrite(t *testing.T) {
	prod, home := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("198.51.100.1")
	for _, c := range []struct {
		written bool
		alarm   bool
	}{{false, true}, {true, false}} {
		z := slowZone{asked: make(chan struct{}), let: make(chan struct{}), have: ovhdns.Set{ovhdns.NewRecord(prod, 60)}}
		st := store{t.TempDir()}
		var told []string
		tell := func(m notify.Message) error { told = append(told, m.Event); return nil }
		log := slog.New(slog.DiscardHandler)
		state := failover.New()
		state.Goal, state.Serving, state.Term, state.ZoneSeen = failover.Standby, failover.Standby, 1, true
		state.Want, state.Homes = failover.Records{{Addr: home, TTL: 60}}, []netip.Addr{home}
		s := &site{
			cfg:    Site{Name: "www.example.net", Zone: "example.net"},
			policy: failover.Policy{Prod: []netip.Addr{prod}, TTL: 60}, state: state,
			log: log, now: now, store: st, home: newHome(Home{IPv4: HomeAddress{Fixed: home}}, st, now), reader: z,
			tell: tell, alarms: newAlarms(st, now, tell, log), metrics: newSiteMetrics(),
			inbox: make(chan func(*failover.Observation)), orders: make(chan order, 1), asked: make(chan struct{}, 1), reread: make(chan struct{}, 1),
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.loop(ctx) })
		read := make(chan struct{})
		wg.Go(func() { defer close(read); s.readOnce(ctx) })
		<-z.asked
		if c.written {
			s.epoch.Add(1)
		}
		close(z.let)
		<-read
		if err := s.call(ctx, func(failover.Observation) {}); err != nil {
			t.Fatal(err)
		}
		cancel()
		wg.Wait()
		if got := len(told) > 0; got != c.alarm {
			t.Errorf("written meanwhile: %v; told %v", c.written, told)
		}
	}
}
