package failover_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"releve/internal/failover"
)

// The owner fails back as soon as prod answers again. That is the end of the outage: all is well from then on, and
// the old failures, of either kind, make no new outage.
func TestFailbackByHandEndsTheOutage(t *testing.T) {
	w := newSite(t)
	w.policy.Strikes, w.policy.Forgive = 8, 3
	w.rounds(8, failover.Down)
	w.rounds(1, failover.Up)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	w.want(failover.Normal, failover.Prod, failover.EventFailedBack)
	w.rounds(1, failover.Up)
	w.want(failover.Normal, failover.Prod)
	w.rounds(4, failover.Down)
	w.want(failover.Failing, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

// Forced back to a prod that is down, the outage goes on.
func TestFailbackByHandToADeadProd(t *testing.T) {
	w := newSite(t)
	w.rounds(5, failover.Down)
	if err := w.order(failover.Order{Kind: failover.OrderFailback, Force: true}); err != nil {
		t.Fatal(err)
	}
	w.rounds(1, failover.Down)
	w.want(failover.Failing, failover.Prod, failover.EventFailedOver, failover.EventFailedBack)
	w.rounds(1, failover.Up)
	w.want(failover.Failing, failover.Prod)
}

func TestPauseIsBounded(t *testing.T) {
	w := newSite(t)
	err := w.order(failover.Order{Kind: failover.OrderPause, Until: w.now.Add(failover.MaxPause + time.Second)})
	var refusal *failover.Refusal
	if !errors.As(err, &refusal) || refusal.Forcible || !strings.Contains(err.Error(), "35 days is the longest pause") || !strings.Contains(err.Error(), "35d or less") {
		t.Fatalf("%v", err)
	}
	if w.state.Paused() {
		t.Fatal("paused all the same")
	}
	if err := w.order(failover.Order{Kind: failover.OrderPause, Until: w.now.Add(failover.MaxPause)}); err != nil || !w.state.PausedUntil.Equal(w.now.Add(failover.MaxPause)) {
		t.Fatalf("%v, until %v", err, w.state.PausedUntil)
	}
}
