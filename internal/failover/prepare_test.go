package failover_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"releve/internal/failover"
)

var prepare = failover.Order{Kind: failover.OrderPrepare, ZoneTTL: 3600}

const prepared = "A 203.0.113.10 ttl 60, AAAA 2001:db8::10 ttl 60"

// Prod's TTLs are lowered, nobody is told of a switch, and the lower ones are what a fail-back restores.
func TestPrepare(t *testing.T) {
	w := newSite(t)
	w.read()
	w.rounds(3, failover.Up)
	for range 2 { // the second has nothing to do
		if err := w.order(prepare); err != nil {
			t.Fatal(err)
		}
		w.read()
		w.want(failover.Normal, failover.Prod)
		if got := w.zone.String(); got != prepared || w.state.Term != 0 || w.state.Intent != nil {
			t.Fatalf("the zone holds %s, term %d, intent %v", got, w.state.Term, w.state.Intent)
		}
	}
	w.rounds(5, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	w.rounds(12, failover.Up)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	if got := w.zone.String(); got != prepared {
		t.Fatalf("back to %s", got)
	}
}

func TestPrepareLowersOnly(t *testing.T) {
	for _, c := range []struct {
		ttl, zoneTTL int64
		want         string
	}{
		{60, 3600, prepared},
		{60, 60, "A 203.0.113.10 ttl 60, AAAA 2001:db8::10 ttl 0"}, // the zone's own will do
		{300, 3600, "A 203.0.113.10 ttl 300, AAAA 2001:db8::10 ttl 300"},
		{600, 300, "A 203.0.113.10 ttl 300, AAAA 2001:db8::10 ttl 0"},
	} {
		w := newSite(t)
		w.policy.TTL = c.ttl
		w.read()
		if err := w.order(failover.Order{Kind: failover.OrderPrepare, ZoneTTL: c.zoneTTL}); err != nil {
			t.Fatal(err)
		}
		if got := w.zone.String(); got != c.want {
			t.Errorf("ttl %d, the zone's %d: %s; want %s", c.ttl, c.zoneTTL, got, c.want)
		}
	}
}

func TestPrepareRefused(t *testing.T) {
	for _, c := range []struct {
		why   string
		until func(w *site)
	}{
		{"the standby serves", func(w *site) { w.rounds(5, failover.Down); w.rounds(12, failover.Up) }},
		{"prod is down", func(w *site) { w.ready = false; w.rounds(1, failover.Down) }},
		{"being changed", func(w *site) { w.apiDown = true; w.rounds(5, failover.Down) }},
		{"neither prod's nor the standby's", func(w *site) {
			w.zone = append(w.zone, failover.Record{Addr: aliens[0], TTL: 60})
			w.read()
		}},
		{"leaves the TTL to the zone", func(w *site) { w.policy.TTL = 0 }},
	} {
		w := newSite(t)
		w.read()
		c.until(w)
		was := w.zone.String()
		w.apiDown = false
		next, err := failover.Obey(w.state, w.observation(), w.policy, prepare)
		if err == nil || !strings.Contains(err.Error(), c.why) || next.Prepares() || w.zone.String() != was {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	w := newSite(t)
	if err := w.order(prepare); err == nil || !strings.Contains(err.Error(), "not known yet") {
		t.Error(err)
	}
}

// The zone changes hands between the order and the first write.
func TestPrepareOverForeignRecords(t *testing.T) {
	for _, addr := range []netip.Addr{aliens[0], homes[0]} { // the standby's are not to be overwritten either
		w := newSite(t)
		w.read()
		w.zone = failover.Records{{Addr: addr, TTL: 3600}}
		if err := w.order(prepare); err != nil {
			t.Fatal(err)
		}
		w.want(failover.Normal, failover.Prod, failover.EventForeignRecords)
		if got := w.zone.String(); !strings.Contains(got, addr.String()) || w.state.Intent != nil {
			t.Fatalf("the zone holds %s, intent %v", got, w.state.Intent)
		}
	}
}

// The owner, who ordered it, sees that OVH does not answer; no message says that the home address changed.
func TestPrepareWaitsForOVH(t *testing.T) {
	w := newSite(t)
	w.read()
	w.apiDown = true
	if err := w.order(prepare); err != nil {
		t.Fatal(err)
	}
	w.rounds(20, failover.Up)
	w.want(failover.Normal, failover.Prod)
	w.apiDown = false
	w.rounds(1, failover.Up)
	if got := w.zone.String(); got != prepared {
		t.Fatalf("the zone holds %s", got)
	}
}

// A preparation is killed after each call, and prod dies before it is resumed: the switch goes first, and the fail-back
// leads to prod's addresses. Where prod stays up, it is finished.
func TestPrepareInterrupted(t *testing.T) {
	for n := range 3 {
		for _, dies := range []bool{true, false} {
			t.Run(fmt.Sprint(n, dies), func(t *testing.T) {
				w := newSite(t)
				w.read()
				w.apiDown = true
				if err := w.order(prepare); err != nil {
					t.Fatal(err)
				}
				w.die(n)
				w.want(failover.Normal, failover.Prod)
				w.apiDown = false
				if !dies {
					w.rounds(1, failover.Up)
					w.want(failover.Normal, failover.Prod)
					if got := w.zone.String(); got != prepared || w.state.Unsettled {
						t.Fatalf("the zone holds %s", got)
					}
					return
				}
				w.apiDown = true
				w.rounds(5, failover.Down)
				w.want(failover.Switching, failover.Prod)
				w.apiDown = false
				w.rounds(1, failover.Down)
				w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
				w.rounds(12, failover.Up)
				if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
					t.Fatal(err)
				}
				if addrs := w.zone.Addrs(); len(addrs) != 2 || addrs[0] != prod4 || addrs[1] != prod6 {
					t.Fatalf("the zone holds %s", w.zone)
				}
			})
		}
	}
}

// A preparation was begun, a switch decided in its place and given up: what was written in part becomes whole, and
// nobody is told of a fail-back.
func TestPrepareGivenUpHalfWay(t *testing.T) {
	w := newSite(t)
	before := w.zone
	w.read()
	w.apiDown = true
	if err := w.order(prepare); err != nil {
		t.Fatal(err)
	}
	w.die(1)
	w.rounds(5, failover.Down)
	w.want(failover.Switching, failover.Prod)
	w.rounds(12, failover.Up)
	w.want(failover.Normal, failover.Prod)
	w.apiDown = false
	w.rounds(1, failover.Up)
	w.want(failover.Normal, failover.Prod)
	if !w.zone.Equal(before) || w.state.Unsettled {
		t.Fatalf("the zone holds %s", w.zone)
	}
}
