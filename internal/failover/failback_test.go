package failover_test

import (
	"errors"
	"slices"
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

func TestReturnChecksHoldTheFailbackUp(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.rounds(5, failover.Down)
	for range 200 {
		w.now = w.now.Add(5 * time.Second)
		o := w.observation()
		o.Probed, o.Verdict = true, failover.Up
		o.Return = []failover.Check{{Name: "webroot", Why: "prod's tree is older"}}
		w.see(o)
	}
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver, failover.EventProdBack)
	o := w.observation()
	o.Return = []failover.Check{{Name: "webroot", Why: "prod's tree is older"}}
	if got := w.state.Awaited(o, w.policy); len(got) != 1 || got[0] != "webroot: prod's tree is older" {
		t.Fatalf("waits for %q", got)
	}
	w.rounds(1, failover.Up)
	w.want(failover.Normal, failover.Prod, failover.EventFailedBack)
	if got := w.state.Awaited(o, w.policy); got != nil {
		t.Fatalf("waits for %q", got)
	}
}

// What an automatic fail-back waits for, in the order in which it comes about.
func TestAwaited(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	awaits := func(want ...string) {
		t.Helper()
		if got := w.state.Awaited(w.observation(), w.policy); !slices.Equal(got, want) {
			t.Fatalf("waits for %q; want %q", got, want)
		}
	}
	awaits()
	w.rounds(5, failover.Down)
	awaits("prod's good answers, 0 of 12 so far", "the least stay, 10m0s more")
	w.rounds(11, failover.Up)
	awaits("prod's good answers, 11 of 12 so far", "the least stay, 9m5s more")
	w.rounds(1, failover.Up)
	awaits("the least stay, 9m0s more")
	if err := w.order(failover.Order{Kind: failover.OrderPause, Until: w.now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	awaits("the end of the pause", "the least stay, 9m0s more")
	if err := w.order(failover.Order{Kind: failover.OrderResume}); err != nil {
		t.Fatal(err)
	}
	w.rounds(108, failover.Up)
	w.want(failover.Normal, failover.Prod, failover.EventFailedOver, failover.EventFailedBack)
	if err := w.order(failover.Order{Kind: failover.OrderFailover}); err != nil {
		t.Fatal(err)
	}
	w.rounds(200, failover.Up)
	awaits("an order: it was failed over by hand")
}

// While the standby serves, prod's coming and going is told once.
func TestProdComesAndGoes(t *testing.T) {
	w := newSite(t)
	w.rounds(5, failover.Down)
	for range 20 {
		w.rounds(12, failover.Up)
		w.rounds(5, failover.Down)
	}
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver, failover.EventProdBack)
	w.rounds(12, failover.Up)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	w.rounds(5, failover.Down)
	w.rounds(12, failover.Up)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedBack, failover.EventFailedOver, failover.EventProdBack)
}
