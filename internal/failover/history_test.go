package failover_test

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"releve/internal/failover"
)

// A few hundred histories unless -rapid.checks says otherwise; 10000 is the
// long mode.
func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "300")
	_ = flag.Set("rapid.steps", "120")
	os.Exit(m.Run())
}

var (
	prod4  = netip.MustParseAddr("203.0.113.10")
	prod6  = netip.MustParseAddr("2001:db8::10")
	homes  = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")}
	home6  = netip.MustParseAddr("2001:db8:ffff::1")
	aliens = []netip.Addr{netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("192.0.2.67")}
	start  = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
)

// history is a random world around the decision core: a zone that is written
// in several steps by a worker that can die between any two of them, a prod
// and a standby that come and go, an operator, and a stranger who edits the
// zone. It keeps its own books and judges the core by them alone.
type history struct {
	policy failover.Policy
	state  failover.State
	now    time.Time

	verdict failover.Verdict
	ready   failover.Readiness
	home    []netip.Addr
	todo    []failover.Action

	zone     failover.Records
	original failover.Records // what prod's records were before anything happened
	lowered  failover.Records // and what they are once they were prepared; nil if that was never ordered
	edited   bool             // a stranger was here, or the operator forced: exactness is off until reset
	used     []netip.Addr     // home addresses ever

	downs     int // consecutive rounds down; unknown ones do not count
	autos     []time.Time
	lastOver  time.Time // last switch to the standby
	readySeen time.Time // the standby was last ready
	told      map[string]int
	keys      map[string]bool
	opinion   failover.Opinion
	agreed    bool // others have seen prod down since it was last up for good
	decided   bool // a switch to the standby has, likewise
	ups       int  // consecutive rounds up
	downSince time.Time
	lastRound time.Time
	quick     bool // replays and restarts are another test's business
}

func newHistory(t *rapid.T) *history {
	h := &history{now: start, verdict: failover.Unknown, told: map[string]int{}, keys: map[string]bool{}, state: failover.New()}
	h.policy = failover.Policy{
		Failures: rapid.IntRange(1, 5).Draw(t, "failures"), Successes: rapid.IntRange(1, 6).Draw(t, "successes"),
		Prod: []netip.Addr{prod4}, TTL: 60,
		Auto: rapid.Bool().Draw(t, "auto"), Stay: rapid.SampledFrom([]time.Duration{0, time.Minute, 10 * time.Minute}).Draw(t, "stay"),
		MaxPerDay: rapid.IntRange(0, 4).Draw(t, "max"),
		Fresh:     15 * time.Second, Gap: 2 * time.Minute, StandbyGrace: time.Minute,
	}
	if rapid.Bool().Draw(t, "strikes") {
		h.policy.Strikes = h.policy.Failures + rapid.IntRange(0, 4).Draw(t, "more")
		h.policy.Forgive = rapid.IntRange(1, 6).Draw(t, "forgive")
	}
	h.policy.Outside = rapid.SampledFrom([]failover.Outside{failover.OutsideOff, failover.OutsideOff, failover.OutsidePrefer, failover.OutsideRequire}).Draw(t, "outside")
	h.policy.OutsideWait = 20 * time.Second
	h.zone = failover.Records{{Addr: prod4, TTL: int64(rapid.SampledFrom([]int{0, 60, 90}).Draw(t, "ttl"))}}
	if rapid.Bool().Draw(t, "v6") {
		h.policy.Prod = append(h.policy.Prod, prod6)
		h.zone = append(h.zone, failover.Record{Addr: prod6, TTL: 3600})
	}
	if rapid.Bool().Draw(t, "duplicate") {
		h.zone = append(h.zone, h.zone[0])
	}
	h.original = slices.Clone(h.zone)
	h.setHome(homes[:1])
	h.setReady(true)
	return h
}

func (h *history) setHome(addrs []netip.Addr) {
	h.home = addrs
	h.used = append(h.used, addrs...)
}

func (h *history) setReady(ok bool) {
	h.ready = failover.Readiness{Time: h.now, Checks: []failover.Check{{Name: "answer", OK: ok, Why: "timeout"}}}
	if ok {
		h.readySeen = h.now
	}
}

func (h *history) observation() failover.Observation {
	return failover.Observation{Time: h.now, Standby: h.ready, Home: h.home, Outside: h.opinion}
}

// see shows the core one observation, and at once checks what holds for every
// single step: a replay changes nothing, a restart changes nothing, and the
// old state is left alone.
func (h *history) see(t *rapid.T, o failover.Observation) {
	if h.quick {
		h.state, h.todo = failover.Next(h.state, o, h.policy)
		h.deliver(t)
		h.invariants(t)
		return
	}
	before := encode(t, h.state)
	next, todo := failover.Next(h.state, o, h.policy)
	if !bytes.Equal(before, encode(t, h.state)) {
		t.Fatalf("Next modified the state it was given")
	}
	after := encode(t, next)
	if again, _ := failover.Next(next, o, h.policy); !bytes.Equal(after, encode(t, again)) {
		t.Fatalf("seeing it twice is not seeing it once:\n%s\n%s", after, encode(t, again))
	}
	restarted, todo2 := failover.Next(decode(t, before), o, h.policy)
	if !bytes.Equal(after, encode(t, restarted)) || len(todo) != len(todo2) {
		t.Fatalf("a restart changed the decision:\n%s\n%s", after, encode(t, restarted))
	}
	h.state, h.todo = next, todo
	h.deliver(t)
	h.invariants(t)
}

// deliver plays the messenger: it keeps each notice, acknowledges some later.
func (h *history) deliver(t *rapid.T) {
	for _, a := range h.todo {
		tell, ok := a.(failover.Tell)
		if !ok || h.keys[tell.Notice.Key] {
			continue
		}
		h.keys[tell.Notice.Key] = true
		if e := tell.Notice.Event; e == failover.EventFailedOver || e == failover.EventFailedBack {
			id := string(e) + "/" + itoa(tell.Notice.Switch.Term)
			if h.told[id]++; h.told[id] > 1 && !h.edited {
				t.Fatalf("told twice: %s", id)
			}
		}
	}
}

// forgetAttempt: prod is back or the operator spoke, so that a switch which has
// written nothing is over, and the next one is another.
func (h *history) forgetAttempt() { delete(h.told, "failed_over/"+itoa(h.state.Term+1)) }

func (h *history) invariants(t *rapid.T) {
	s := h.state
	h.heed(t)
	if writes := h.write(); (s.Phase == failover.Normal || s.Phase == failover.Failing) && writes != nil && !s.Prepares() {
		t.Fatalf("phase %s with a write to %s", s.Phase, writes.To)
	}
	if s.Phase == failover.Normal && s.Serving != failover.Prod {
		t.Fatalf("normal, but %s serves", s.Serving)
	}
	if s.Phase == failover.Normal && !h.edited && !h.exactlyBack() {
		t.Fatalf("normal, but the zone holds %s and not %s (prepared: %s)", h.zone, h.original, h.lowered)
	}
	if s.Prepares() && s.Goal != failover.Prod {
		t.Fatalf("prepares while the standby is to serve")
	}
}

// exactlyBack reports whether prod's records are what they were. A preparation that a switch cut short may have reached
// some of them.
func (h *history) exactlyBack() bool {
	if h.lowered == nil {
		return h.zone.Equal(h.original)
	}
	for _, r := range h.zone {
		if !slices.Contains(h.original, r) && !slices.Contains(h.lowered, r) {
			return false
		}
	}
	return len(h.zone) == len(h.original) && slices.Equal(h.zone.Addrs(), h.original.Addrs())
}

func (h *history) write() *failover.Intent {
	for _, a := range h.todo {
		if w, ok := a.(failover.Write); ok {
			return &w.Intent
		}
	}
	return nil
}

// round is one probe round.
func (h *history) round(t *rapid.T) {
	gap := 5 * time.Second
	h.now = h.now.Add(gap)
	if rapid.IntRange(0, 4).Draw(t, "turn") == 0 {
		h.verdict = rapid.SampledFrom([]failover.Verdict{failover.Up, failover.Down, failover.Down, failover.Unknown}).Draw(t, "verdict")
	}
	h.probe(t)
}

func (h *history) probe(t *rapid.T) {
	if h.now.Sub(h.lastRound) > h.policy.Gap {
		h.ups, h.downs = 0, 0
	}
	switch h.verdict {
	case failover.Down:
		if h.downs++; h.downs == 1 {
			h.downSince = h.now
		}
		h.ups = 0
	case failover.Up:
		h.downs = 0
		if h.ups++; h.ups >= max(h.policy.Successes, h.policy.Forgive) {
			h.agreed, h.decided = false, false
		}
		h.forgetAttempt()
	}
	h.lastRound = h.now
	o := h.observation()
	o.Probed, o.Verdict = true, h.verdict
	h.see(t, o)
	if slices.Contains(h.todo, failover.Action(failover.Ask{})) {
		h.setReady(h.ready.Ready())
		h.see(t, h.observation())
	}
}

// work is what the writer does with the standing order: read, ask, write in
// steps, report. It may die after each step.
func (h *history) work(t *rapid.T, dies bool) {
	in := h.write()
	if in == nil {
		return
	}
	have := slices.Clone(h.zone)
	next, err := failover.Admit(h.state, h.observation(), h.policy, in.Seq, have)
	first := err == nil && !h.state.Intent.Admitted && !in.Follow
	h.state = next
	if !h.quick {
		h.state = decode(t, encode(t, next))
	}
	if err != nil {
		foreign := new(failover.ForeignError)
		if !errors.Is(err, failover.ErrNotNow) && !errors.As(err, &foreign) {
			t.Fatalf("admit: %v", err)
		}
		h.see(t, h.observation())
		return
	}
	h.judge(t, *in, first, have)
	if dies && rapid.Bool().Draw(t, "before") {
		h.see(t, h.observation())
		return
	}
	steps := diff(have, in.Want)
	n := len(steps)
	if dies {
		n = rapid.IntRange(0, n).Draw(t, "steps")
	}
	for _, step := range steps[:n] {
		h.zone = step
	}
	o := h.observation()
	if !dies {
		o.Progress = &failover.Progress{Seq: in.Seq, Accepted: true, Published: rapid.Bool().Draw(t, "published")}
	}
	h.see(t, o)
}

// judge holds an admitted write against the promises.
func (h *history) judge(t *rapid.T, in failover.Intent, first bool, have failover.Records) {
	for _, r := range have {
		if !in.Force && !slices.Contains(h.used, r.Addr) && !slices.Contains(h.policy.Prod, r.Addr) {
			t.Fatalf("overwrites foreign records %s", have)
		}
	}
	if in.Force {
		h.edited = true
	}
	if !first {
		return
	}
	auto := in.Trigger == failover.Automatic
	if auto && in.To == failover.Standby {
		switch {
		case h.verdict != failover.Down:
			t.Fatalf("switches while the verdict is %s", h.verdict)
		case h.policy.Outside == failover.OutsideRequire && !h.agreed:
			t.Fatalf("switches without the opinion that is required")
		case h.policy.Strikes == 0 && h.downs < h.policy.Failures:
			t.Fatalf("switches after %d failures of %d", h.downs, h.policy.Failures)
		}
	}
	if !in.Force && in.To == failover.Standby && (!h.ready.Ready() || h.now.Sub(h.ready.Time) > h.policy.Fresh) {
		t.Fatalf("switches toward a standby that is not ready: %+v", h.ready)
	}
	if auto && in.To == failover.Prod {
		if !h.policy.Auto {
			t.Fatalf("fails back unasked in manual mode")
		}
		if d := h.now.Sub(h.lastOver); d < h.policy.Stay && h.now.Sub(h.readySeen) < h.policy.StandbyGrace {
			t.Fatalf("fails back after %s, before %s", d, h.policy.Stay)
		}
	}
	if auto {
		h.autos = append(h.autos, h.now)
		n := 0
		for _, at := range h.autos {
			if h.now.Sub(at) < 24*time.Hour {
				n++
			}
		}
		if h.policy.MaxPerDay > 0 && n > h.policy.MaxPerDay {
			t.Fatalf("%d automatic switches in a day of at most %d", n, h.policy.MaxPerDay)
		}
	}
	if in.To == failover.Standby {
		h.lastOver = in.Decided
	}
}

func (h *history) order(t *rapid.T) {
	c := failover.Order{
		Kind:  rapid.SampledFrom([]failover.OrderKind{failover.OrderFailover, failover.OrderFailback, failover.OrderPause, failover.OrderResume, failover.OrderPrepare}).Draw(t, "order"),
		Force: rapid.IntRange(0, 5).Draw(t, "force") == 0, Until: h.now.Add(10 * time.Minute), ZoneTTL: 3600,
	}
	next, err := failover.Obey(h.state, h.observation(), h.policy, c)
	if err != nil {
		var refusal *failover.Refusal
		if !errors.As(err, &refusal) || !bytes.Equal(encode(t, next), encode(t, h.state)) {
			t.Fatalf("order %v: %v", c, err)
		}
		if c.Force && refusal.Forcible {
			t.Fatalf("refused although forced: %v", err)
		}
		return
	}
	if c.Kind == failover.OrderFailback && !c.Force && h.verdict == failover.Down &&
		next.Intent != nil && next.Intent.To == failover.Prod && h.state.Intent == nil {
		t.Fatalf("fails back to a dead prod")
	}
	switch c.Kind {
	case failover.OrderPrepare:
		if next.Prepares() && !h.state.Prepares() {
			h.lowered = next.Intent.Want
		}
		h.state = next
		h.see(t, h.observation())
		return
	case failover.OrderPause:
	default:
		h.autos = nil
	}
	h.forgetAttempt()
	// A fail-back that was announced as failing, and has written nothing, is over as well once the operator spoke.
	delete(h.told, "failed_back/"+itoa(h.state.Term+1))
	h.state = next
	h.see(t, h.observation())
}

func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(map[string]func(*rapid.T){
			"round":  h.round,
			"round2": h.round, "round3": h.round, "round4": h.round,
			"work":  func(t *rapid.T) { h.work(t, false) },
			"work2": func(t *rapid.T) { h.work(t, false) },
			"dies":  func(t *rapid.T) { h.work(t, true) },
			"api down": func(t *rapid.T) {
				if in := h.write(); in != nil {
					o := h.observation()
					o.Progress = &failover.Progress{Seq: in.Seq, Err: "503"}
					h.see(t, o)
				}
			},
			"published": func(t *rapid.T) {
				if in := h.write(); in != nil && h.zone.Equal(in.Want) {
					o := h.observation()
					o.Progress = &failover.Progress{Seq: in.Seq, Accepted: true, Published: true}
					h.see(t, o)
				}
			},
			"others":  h.others,
			"others2": h.others,
			"standby": func(t *rapid.T) {
				h.setReady(rapid.IntRange(0, 2).Draw(t, "ready") > 0)
				h.see(t, h.observation())
			},
			"standby unseen": func(t *rapid.T) { h.setReady(rapid.Bool().Draw(t, "ready")) },
			"home": func(t *rapid.T) {
				addrs := []netip.Addr{rapid.SampledFrom(homes).Draw(t, "home")}
				if rapid.IntRange(0, 3).Draw(t, "home6") == 0 {
					addrs = append(addrs, home6)
				}
				h.setHome(addrs)
				h.see(t, h.observation())
			},
			"read zone": func(t *rapid.T) {
				o := h.observation()
				zone := slices.Clone(h.zone)
				o.Zone = &zone
				h.see(t, o)
			},
			"told": func(t *rapid.T) {
				o := h.observation()
				for _, n := range h.state.Notices {
					o.Told = append(o.Told, n.Key)
				}
				h.see(t, o)
			},
			"stranger": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "comes") > 0 {
					return
				}
				h.zone = append(slices.Clone(h.zone), failover.Record{Addr: rapid.SampledFrom(aliens).Draw(t, "alien"), TTL: 60})
				h.edited = true
			},
			"stranger leaves": func(*rapid.T) {
				h.zone = slices.DeleteFunc(slices.Clone(h.zone), func(r failover.Record) bool { return slices.Contains(aliens, r.Addr) })
			},
			"operator": h.order,
			"hours":    func(t *rapid.T) { h.now = h.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour) },
		})
		h.checkLiveness(t)
	})
}

// TestFlapping lets prod come and go, for a day or so, with a writer that
// works: the histories in which the limit of the day counts.
func TestFlapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		h.quick = true
		h.policy.Auto = true
		h.policy.MaxPerDay = rapid.IntRange(1, 5).Draw(t, "max")
		h.policy.Stay = time.Minute
		for range rapid.IntRange(5, 25).Draw(t, "bursts") {
			h.verdict = rapid.SampledFrom([]failover.Verdict{failover.Up, failover.Down}).Draw(t, "verdict")
			for range 20 {
				h.now = h.now.Add(5 * time.Second)
				h.setReady(true)
				h.ask(failover.Down)
				h.probe(t)
				h.work(t, false)
			}
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 180).Draw(t, "minutes")) * time.Minute)
		}
		h.checkLiveness(t)
	})
}

// checkLiveness: whatever happened before, when prod stays down, the standby
// is ready, the zone is ours and the operator wants nothing else, the standby
// has the name after as many rounds as it takes to be sure, and one more.
func (h *history) checkLiveness(t *rapid.T) {
	h.now = h.now.Add(25 * time.Hour) // past any hold, pause and count
	h.verdict = failover.Down
	h.zone = slices.DeleteFunc(slices.Clone(h.zone), func(r failover.Record) bool { return slices.Contains(aliens, r.Addr) })
	o := h.observation()
	zone := slices.Clone(h.zone)
	o.Zone = &zone
	h.see(t, o)
	if h.state.Forced == failover.Prod || h.state.Alarms[failover.EventForeignRecords] {
		return
	}
	for range h.policy.Failures + 1 {
		h.now = h.now.Add(5 * time.Second)
		h.setReady(true)
		h.ask(failover.Down)
		h.probe(t)
		if in := h.write(); in != nil && in.To == failover.Prod && in.Trigger == failover.ByHand {
			return // the operator's word stands until prod is up again
		}
		for range 2 {
			h.work(t, false)
		}
	}
	if h.state.Serving != failover.Standby {
		t.Fatalf("prod is dead, the standby is ready, and it does not serve:\n%s", encode(t, h.state))
	}
	for _, r := range h.zone {
		if !slices.Contains(h.home, r.Addr) {
			t.Fatalf("the standby serves at %v and the zone holds %s", h.home, h.zone)
		}
	}
}
