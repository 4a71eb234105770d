package failover_test

import (
	"fmt"
	"slices"
	"testing"

	"releve/internal/failover"
)

// die plays a writer that is admitted, gets as far as n calls and is gone; the
// state comes back from the disk, and the zone is read.
func (w *site) die(n int) (done bool) {
	w.t.Helper()
	in := *w.state.Intent
	next, err := failover.Admit(w.state, w.observation(), w.policy, in.Seq, w.zone)
	if err != nil {
		w.t.Fatalf("admit: %v", err)
	}
	w.state = decode(w.t, encode(w.t, next))
	steps := diff(w.zone, in.Want)
	if done = n >= len(steps); done {
		n = len(steps)
	}
	if n > 0 {
		w.zone = steps[n-1]
	}
	o := w.observation()
	zone := slices.Clone(w.zone)
	o.Zone = &zone
	w.state, _ = failover.Next(w.state, o, w.policy)
	return done
}

// TestDiesAtEachStep kills the writer after each call, there and back, twice
// over. The end is always the same.
func TestDiesAtEachStep(t *testing.T) {
	for n := range 4 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newSite(t)
			w.zone = append(w.zone, failover.Record{Addr: prod4, TTL: 300})
			w.home = append(slices.Clone(homes[:1]), home6)
			before := w.zone
			w.read()
			for range 2 {
				w.apiDown = true
				w.rounds(5, failover.Down)
				w.die(n)
				w.want(failover.Switching, failover.Prod)
				w.apiDown = false
				w.rounds(1, failover.Down)
				w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
				if got := w.zone.String(); got != "A 198.51.100.1 ttl 60, AAAA 2001:db8:ffff::1 ttl 60" {
					t.Fatalf("the zone holds %s", got)
				}
				w.rounds(12, failover.Up)
				w.apiDown = true
				if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
					t.Fatal(err)
				}
				w.die(n)
				w.want(failover.Returning, failover.Standby, failover.EventProdBack)
				w.apiDown = false
				w.rounds(1, failover.Up)
				w.want(failover.Normal, failover.Prod, failover.EventFailedBack)
				if !w.zone.Equal(before) {
					t.Fatalf("the zone holds %s; want %s", w.zone, before)
				}
			}
		})
	}
}

// A fail-back is interrupted half way, prod dies again, a new switch is decided
// and given up because the standby died: the fail-back is what remains.
func TestGivenUpHalfWay(t *testing.T) {
	w := newSite(t)
	before := w.zone
	w.read()
	w.rounds(5, failover.Down)
	w.rounds(12, failover.Up)
	w.apiDown = true
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	w.die(1)
	w.rounds(5, failover.Down)
	w.want(failover.Switching, failover.Standby, failover.EventFailedOver, failover.EventProdBack)
	w.ready = false
	w.rounds(1, failover.Down)
	w.want(failover.Returning, failover.Standby)
	w.apiDown = false
	w.rounds(1, failover.Down)
	if w.state.Serving != failover.Prod || !w.zone.Equal(before) {
		t.Fatalf("%s serves, the zone holds %s", w.state.Serving, w.zone)
	}
}
