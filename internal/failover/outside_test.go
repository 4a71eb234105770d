package failover_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"releve/internal/failover"
)

// asksOthers reports whether others are to be asked after one more round.
func (w *site) asksOthers(v failover.Verdict) bool {
	w.now = w.now.Add(5 * time.Second)
	o := w.observation()
	o.Probed, o.Verdict = true, v
	_, todo := failover.Next(w.state, o, w.policy)
	w.see(o)
	return slices.Contains(todo, failover.Action(failover.AskOutside{}))
}

// others answer v, to a question put just now.
func (w *site) others(v failover.Verdict, why string) {
	w.outside = failover.Opinion{Asked: w.now, Verdict: v, Why: why}
	w.see(w.observation())
}

func newOutside(t *testing.T, mode failover.Outside) *site {
	w := newSite(t)
	w.policy.Outside, w.policy.OutsideWait = mode, 20*time.Second
	return w
}

// The second failure in a row makes others be asked, once; nothing else does.
func TestOthersAreAsked(t *testing.T) {
	for _, mode := range []failover.Outside{failover.OutsidePrefer, failover.OutsideRequire} {
		w := newOutside(t, mode)
		for range 100 {
			for _, v := range []failover.Verdict{failover.Up, failover.Unknown, failover.Down, failover.Unknown} {
				if w.asksOthers(v) {
					t.Fatalf("asked after one failure: %+v", w.state)
				}
			}
		}
		w.rounds(12, failover.Up)
		w.rounds(1, failover.Down)
		for range 2 {
			if !w.asksOthers(failover.Down) {
				t.Fatal("not asked after two failures")
			}
		}
		w.others(failover.Down, "5 of 5 fail")
		if w.asksOthers(failover.Down) {
			t.Fatal("asked again")
		}
		w.rounds(1, failover.Down)
		w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
		if w.asksOthers(failover.Down) {
			t.Fatal("asked although the standby serves")
		}
	}
	for name, spoil := range map[string]func(*site){
		"off":    func(w *site) { w.policy.Outside = failover.OutsideOff },
		"paused": func(w *site) { w.state.PausedUntil = w.now.Add(time.Hour) },
		"forced": func(w *site) { w.state.Forced = failover.Prod },
		"held":   func(w *site) { w.state.HeldUntil = w.now.Add(time.Hour) },
	} {
		w := newOutside(t, failover.OutsideRequire)
		spoil(w)
		w.rounds(3, failover.Down)
		if w.asksOthers(failover.Down) {
			t.Errorf("asked although %s", name)
		}
	}
}

// Preferred, they are not waited for beyond their time, and required they are.
func TestNoAnswerFromOthers(t *testing.T) {
	for _, answer := range []string{"none", "unknown"} {
		w := newOutside(t, failover.OutsidePrefer)
		w.rounds(2, failover.Down)
		if answer == "unknown" {
			w.others(failover.Unknown, "the points could not tell")
		}
		w.rounds(2, failover.Down)
		w.want(failover.Failing, failover.Prod)
		w.rounds(1, failover.Down) // 20 s after the first
		w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)

		w = newOutside(t, failover.OutsideRequire)
		w.rounds(2, failover.Down)
		if answer == "unknown" {
			w.others(failover.Unknown, "the points could not tell")
		}
		w.rounds(100, failover.Down)
		w.want(failover.Failing, failover.Prod, failover.EventCannotSwitch)
		if why := w.state.Blocked(w.observation(), w.policy); !strings.HasPrefix(why, "the opinion from outside that is required has not come: the") || w.why[failover.EventCannotSwitch] != why {
			t.Errorf("%s: why: %q, told %q", answer, why, w.why[failover.EventCannotSwitch])
		}
		w.others(failover.Down, "5 of 5 fail")
		w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
		if why := w.state.Blocked(w.observation(), w.policy); why != "" {
			t.Errorf("blocked: %s", why)
		}
	}
	// A wait that is longer than the detection is waited for, no longer.
	w := newOutside(t, failover.OutsidePrefer)
	w.policy.OutsideWait = 40 * time.Second
	w.rounds(8, failover.Down)
	w.want(failover.Failing, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

// They reach prod, and we do not: no switch, in either mode, until they do not reach it either.
func TestOthersReachProd(t *testing.T) {
	for _, mode := range []failover.Outside{failover.OutsidePrefer, failover.OutsideRequire} {
		w := newOutside(t, mode)
		w.rounds(2, failover.Down)
		w.others(failover.Up, "5 of 5 reach it")
		w.rounds(500, failover.Down)
		w.want(failover.Failing, failover.Prod, failover.EventCannotSwitch)
		if why := w.why[failover.EventCannotSwitch]; !strings.Contains(why, "5 of 5 reach it") {
			t.Errorf("why: %s", why)
		}
		if !w.asksOthers(failover.Down) {
			t.Fatal("not asked again")
		}
		w.others(failover.Down, "5 of 5 fail")
		w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	}
}

// What they saw before this outage is not about it.
func TestOldOpinion(t *testing.T) {
	w := newOutside(t, failover.OutsideRequire)
	w.rounds(2, failover.Down)
	w.others(failover.Down, "5 of 5 fail")
	w.rounds(12, failover.Up)
	w.rounds(100, failover.Down)
	w.want(failover.Failing, failover.Prod, failover.EventCannotSwitch)
	w = newOutside(t, failover.OutsidePrefer)
	w.others(failover.Up, "5 of 5 reach it")
	w.rounds(5, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

// Nor is what they saw long ago in an outage in which prod has answered since.
func TestOldOpinionOfThisOutage(t *testing.T) {
	w := newOutside(t, failover.OutsideRequire)
	w.ready = false
	w.rounds(5, failover.Down)
	w.others(failover.Down, "5 of 5 fail")
	w.rounds(200, failover.Down)
	w.ready = true
	w.rounds(1, failover.Up)
	w.rounds(100, failover.Down)
	w.want(failover.Failing, failover.Prod, failover.EventCannotSwitch, failover.EventStandbyDown, failover.EventStandbyUp)
	if !w.asksOthers(failover.Down) {
		t.Fatal("not asked again")
	}
	w.others(failover.Down, "5 of 5 fail")
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

// Once decided with them, a switch that OVH does not take for hours needs them no more, nor does a restart.
func TestOpinionStandsForTheOutage(t *testing.T) {
	w := newOutside(t, failover.OutsideRequire)
	w.apiDown = true
	w.rounds(2, failover.Down)
	w.others(failover.Down, "5 of 5 fail")
	w.rounds(2000, failover.Down)
	w.want(failover.Switching, failover.Prod, failover.EventFailedOver)
	w.state = decode(t, encode(t, w.state))
	w.outside = failover.Opinion{}
	if w.asksOthers(failover.Down) {
		t.Error("asked again")
	}
	w.apiDown = false
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventPublished)
}
