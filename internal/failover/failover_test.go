package failover_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/internal/failover"
)

// site is a small world for stories: a round every five seconds, and a writer
// that succeeds at once unless told otherwise.
type site struct {
	t       *testing.T
	policy  failover.Policy
	state   failover.State
	now     time.Time
	zone    failover.Records
	ready   bool
	home    []netip.Addr
	apiDown bool
	outside failover.Opinion
	events  []failover.Event
	why     map[failover.Event]string
	keys    []string
}

func newSite(t *testing.T) *site {
	return &site{
		t: t, now: start, ready: true, home: homes[:1], state: failover.New(), why: map[failover.Event]string{},
		zone: failover.Records{{Addr: prod4, TTL: 300}, {Addr: prod6, TTL: 0}},
		policy: failover.Policy{
			Failures: 5, Successes: 12, Prod: []netip.Addr{prod4, prod6}, TTL: 60, Stay: 10 * time.Minute, MaxPerDay: 4,
			Fresh: 15 * time.Second, Gap: 2 * time.Minute, StandbyGrace: time.Minute,
		},
	}
}

func (w *site) observation() failover.Observation {
	return failover.Observation{
		Time: w.now, Home: w.home, Outside: w.outside,
		Standby: failover.Readiness{Time: w.now, Checks: []failover.Check{{Name: "answer", OK: w.ready, Why: "connection refused"}}},
	}
}

func (w *site) see(o failover.Observation) {
	var todo []failover.Action
	w.state, todo = failover.Next(w.state, o, w.policy)
	for _, a := range todo {
		switch a := a.(type) {
		case failover.Tell:
			if !slices.Contains(w.keys, a.Notice.Key) {
				w.keys = append(w.keys, a.Notice.Key)
				w.events = append(w.events, a.Notice.Event)
				w.why[a.Notice.Event] = a.Notice.Why
			}
		case failover.Write:
			w.write(a.Intent)
		}
	}
}

func (w *site) write(in failover.Intent) {
	o := w.observation()
	if w.apiDown {
		if w.state.Intent.Err == "" {
			o.Progress = &failover.Progress{Seq: in.Seq, Err: "503"}
			w.see(o)
		}
		return
	}
	next, err := failover.Admit(w.state, w.observation(), w.policy, in.Seq, w.zone)
	if w.state = next; err != nil {
		w.see(o)
		return
	}
	w.zone = in.Want
	o.Progress = &failover.Progress{Seq: in.Seq, Accepted: true, Published: true}
	w.see(o)
}

// rounds plays n probe rounds with the same verdict.
func (w *site) rounds(n int, v failover.Verdict) {
	for range n {
		w.now = w.now.Add(5 * time.Second)
		o := w.observation()
		o.Probed, o.Verdict = true, v
		w.see(o)
	}
}

func (w *site) read() {
	o := w.observation()
	zone := slices.Clone(w.zone)
	o.Zone = &zone
	w.see(o)
}

func (w *site) order(c failover.Order) error {
	next, err := failover.Obey(w.state, w.observation(), w.policy, c)
	w.state = next
	w.see(w.observation())
	return err
}

func (w *site) want(phase failover.Phase, serving failover.Who, events ...failover.Event) {
	w.t.Helper()
	if w.state.Phase != phase || w.state.Serving != serving {
		w.t.Fatalf("phase %s, %s serves; want %s, %s", w.state.Phase, w.state.Serving, phase, serving)
	}
	if !slices.Equal(w.events, events) {
		w.t.Fatalf("told %v; want %v", w.events, events)
	}
	w.events = nil
}

func TestManual(t *testing.T) {
	w := newSite(t)
	before := w.zone
	w.read()
	w.rounds(3, failover.Up)
	w.rounds(4, failover.Down)
	w.want(failover.Failing, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	if got := w.zone.String(); got != "A 198.51.100.1 ttl 60" {
		t.Fatalf("the zone holds %s", got)
	}
	w.rounds(100, failover.Up)
	w.want(failover.FailedOver, failover.Standby, failover.EventProdBack)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	w.want(failover.Normal, failover.Prod, failover.EventFailedBack)
	if !w.zone.Equal(before) {
		t.Fatalf("the zone holds %s; want %s", w.zone, before)
	}
}

func TestAutomaticFailback(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.rounds(5, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	w.rounds(119, failover.Up)
	w.want(failover.FailedOver, failover.Standby)
	w.rounds(1, failover.Up)
	w.want(failover.Normal, failover.Prod, failover.EventFailedBack)
}

func TestUnknownIsNotDown(t *testing.T) {
	w := newSite(t)
	w.rounds(4, failover.Down)
	w.rounds(1000, failover.Unknown)
	w.want(failover.Failing, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

func TestStandbyDead(t *testing.T) {
	w := newSite(t)
	w.ready = false
	w.rounds(500, failover.Down)
	w.want(failover.Failing, failover.Prod, failover.EventCannotSwitch, failover.EventStandbyDown)
	if why := w.why[failover.EventCannotSwitch]; why != "answer: connection refused" {
		t.Fatalf("why: %s", why)
	}
	w.ready = true
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventStandbyUp, failover.EventFailedOver)
}

// One look at a standby that hiccups costs a round, and wakes nobody.
func TestStandbyHiccup(t *testing.T) {
	w := newSite(t)
	w.rounds(4, failover.Down)
	w.ready = false
	w.rounds(1, failover.Down)
	w.want(failover.Failing, failover.Prod)
	w.ready = true
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

func TestBothDownLeavesTheNameWhereItIs(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.rounds(5, failover.Down)
	w.ready = false
	w.rounds(500, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver, failover.EventStandbyDown)
	// A dead standby is not worth the minimum stay.
	w.rounds(12, failover.Up)
	w.want(failover.Normal, failover.Prod, failover.EventFailedBack)
}

func TestApiDownForHours(t *testing.T) {
	w := newSite(t)
	w.apiDown = true
	w.rounds(5000, failover.Down)
	w.want(failover.Switching, failover.Prod, failover.EventFailedOver)
	w.apiDown = false
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventPublished)
}

func TestProdBackBeforeAnythingWasWritten(t *testing.T) {
	w := newSite(t)
	w.apiDown = true
	w.rounds(100, failover.Down)
	w.want(failover.Switching, failover.Prod, failover.EventFailedOver)
	w.apiDown = false
	w.rounds(1, failover.Up)
	w.want(failover.Failing, failover.Prod)
	w.rounds(11, failover.Up)
	w.want(failover.Normal, failover.Prod, failover.EventProdBack)
}

func TestForeignRecords(t *testing.T) {
	w := newSite(t)
	w.read()
	before := w.zone
	w.zone = append(slices.Clone(w.zone), failover.Record{Addr: aliens[0], TTL: 60})
	w.rounds(10, failover.Down) // not read again yet: the write finds it
	w.want(failover.Failing, failover.Prod, failover.EventForeignRecords, failover.EventCannotSwitch)
	err := w.order(failover.Order{Kind: failover.OrderFailover})
	var refusal *failover.Refusal
	if !errors.As(err, &refusal) || !refusal.Forcible || !strings.Contains(err.Error(), "A 192.0.2.66 ttl 60") {
		t.Fatalf("%v", err)
	}
	if err := w.order(failover.Order{Kind: failover.OrderFailover, Force: true}); err != nil {
		t.Fatal(err)
	}
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	w.rounds(12, failover.Up)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	if !w.zone.Equal(before) {
		t.Fatalf("the zone holds %s; want %s", w.zone, before)
	}
}

func TestForeignRecordsGone(t *testing.T) {
	w := newSite(t)
	mine := w.zone
	w.zone = failover.Records{{Addr: aliens[0], TTL: 60}}
	w.read()
	w.rounds(10, failover.Down)
	w.want(failover.Failing, failover.Prod, failover.EventForeignRecords, failover.EventCannotSwitch)
	w.zone = mine
	w.read()
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

// A stranger puts prod's records back while the standby serves: the watchdog
// neither fights nor follows.
func TestForeignHandWhileSwitched(t *testing.T) {
	w := newSite(t)
	mine := w.zone
	w.rounds(5, failover.Down)
	w.events = nil
	w.zone = mine
	w.home = homes[1:2]
	w.rounds(50, failover.Down)
	w.read()
	w.want(failover.FailedOver, failover.Standby, failover.EventForeignRecords)
	if !w.zone.Equal(mine) {
		t.Fatalf("overwritten: %s", w.zone)
	}
}

func TestFlappingDayEndsInAHold(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.policy.Stay = time.Minute
	switches, held := 0, 0
	serving := w.state.Serving
	for w.now.Before(start.Add(24*time.Hour - 10*time.Minute)) {
		w.rounds(6, failover.Down)
		w.rounds(20, failover.Up)
		if w.state.Serving != serving {
			serving = w.state.Serving
			switches++
		}
		w.rounds(20, failover.Up)
		if w.state.Serving != serving {
			serving = w.state.Serving
			switches++
		}
	}
	for _, e := range w.events {
		if e == failover.EventHeld {
			held++
		}
	}
	if switches > 4 || held != 1 || w.state.Phase != failover.Held || serving != failover.Standby {
		t.Fatalf("%d switches, %d alarms, %s, %s serves", switches, held, w.state.Phase, serving)
	}
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	if w.state.Phase != failover.Normal {
		t.Fatalf("after the owner has looked: %s", w.state.Phase)
	}
}

func TestOrders(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.policy.Stay = 0
	w.rounds(20, failover.Up)
	if err := w.order(failover.Order{Kind: failover.OrderFailover}); err != nil {
		t.Fatal(err)
	}
	w.rounds(500, failover.Up)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver) // also in auto
	if got := w.state.Operator(); got != "standby" {
		t.Fatalf("forced: %q", got)
	}
	w.rounds(5, failover.Down)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err == nil || err.Error() != "prod is down" {
		t.Fatalf("%v", err)
	}
	if err := w.order(failover.Order{Kind: failover.OrderFailback, Force: true}); err != nil {
		t.Fatal(err)
	}
	w.rounds(500, failover.Down)
	w.want(failover.Failing, failover.Prod, failover.EventFailedBack) // not undone by the next round
	w.rounds(12, failover.Up)
	w.rounds(5, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

func TestRefusedTowardADeadStandby(t *testing.T) {
	w := newSite(t)
	w.ready = false
	if err := w.order(failover.Order{Kind: failover.OrderFailover}); err == nil || err.Error() != "the standby is not ready: answer: connection refused" {
		t.Fatalf("%v", err)
	}
	if err := w.order(failover.Order{Kind: failover.OrderFailover, Force: true}); err != nil {
		t.Fatal(err)
	}
	if w.state.Serving != failover.Standby {
		t.Fatal("not forced")
	}
}

func TestPauseEndsByItself(t *testing.T) {
	w := newSite(t)
	if err := w.order(failover.Order{Kind: failover.OrderPause, Until: w.now.Add(30 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	w.rounds(359, failover.Down)
	w.want(failover.Failing, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

func TestFollowsHome(t *testing.T) {
	w := newSite(t)
	w.rounds(5, failover.Down)
	w.home = []netip.Addr{homes[1], home6}
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
	if got := w.zone.String(); got != "A 198.51.100.2 ttl 60, AAAA 2001:db8:ffff::1 ttl 60" {
		t.Fatalf("the zone holds %s", got)
	}
	w.home = nil // no agreement: stay with what was
	w.rounds(10, failover.Down)
	if len(w.zone) != 2 || w.state.Term != 1 {
		t.Fatalf("the zone holds %s, term %d", w.zone, w.state.Term)
	}
}

// Interleaved failures count as well, as gdnsd counts them.
func TestStrikes(t *testing.T) {
	w := newSite(t)
	w.policy.Strikes, w.policy.Forgive = 10, 3
	for range 9 {
		w.rounds(1, failover.Down)
		w.rounds(2, failover.Up)
	}
	w.want(failover.Normal, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)

	w = newSite(t)
	w.policy.Strikes, w.policy.Forgive = 10, 3
	for range 50 {
		w.rounds(1, failover.Down)
		w.rounds(3, failover.Up)
	}
	w.want(failover.Normal, failover.Prod)
}

func TestSilenceLosesPatience(t *testing.T) {
	w := newSite(t)
	w.rounds(4, failover.Down)
	w.now = w.now.Add(time.Hour) // asleep
	w.rounds(4, failover.Down)
	w.want(failover.Failing, failover.Prod)
	w.rounds(1, failover.Down)
	w.want(failover.FailedOver, failover.Standby, failover.EventFailedOver)
}

func TestClockSetBack(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.now = w.now.AddDate(10, 0, 0)
	w.rounds(5, failover.Down)
	w.now = start
	w.rounds(130, failover.Up)
	w.want(failover.Normal, failover.Prod, failover.EventFailedOver, failover.EventFailedBack)
}

// With its memory lost and the standby in the zone, the watchdog takes it for
// somebody's wish.
func TestLostMemory(t *testing.T) {
	w := newSite(t)
	w.policy.Auto = true
	w.zone = failover.Records{{Addr: homes[0], TTL: 60}}
	w.read()
	w.rounds(500, failover.Up)
	w.want(failover.FailedOver, failover.Standby)
	if err := w.order(failover.Order{Kind: failover.OrderFailback}); err != nil {
		t.Fatal(err)
	}
	if got := w.zone.String(); got != "A 203.0.113.10 ttl 60, AAAA 2001:db8::10 ttl 60" {
		t.Fatalf("the zone holds %s", got)
	}
}

// Before home's address is known, nobody can say that records are foreign.
func TestLostMemoryAndHomeUnknown(t *testing.T) {
	w := newSite(t)
	w.zone = failover.Records{{Addr: homes[0], TTL: 60}}
	w.home = nil
	w.read()
	w.want(failover.Normal, failover.Prod)
	w.home = homes[:1]
	w.read()
	w.want(failover.FailedOver, failover.Standby)
}

func TestPartial(t *testing.T) {
	w := newSite(t)
	for range 6 {
		w.now = w.now.Add(5 * time.Second)
		o := w.observation()
		o.Probed, o.Verdict, o.Partial = true, failover.Up, "2001:db8::10: timeout"
		w.see(o)
	}
	w.want(failover.Normal, failover.Prod, failover.EventProdPartial)
}

func TestDecode(t *testing.T) {
	good := string(encode(t, failover.New()))
	for name, text := range map[string]string{
		"empty":           "",
		"torn":            good[:len(good)/2],
		"not ours":        `{"version":1,"colour":"red"}`,
		"contradiction":   strings.Replace(good, `"goal": "prod"`, `"goal": "nobody"`, 1),
		"unknown verdict": strings.Replace(good, `"verdict": "unknown"`, `"verdict": "perhaps"`, 1),
	} {
		if _, err := failover.Decode([]byte(text)); err == nil || errors.Is(err, failover.ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := failover.Decode([]byte(`{"version":2}`)); !errors.Is(err, failover.ErrVersion) {
		t.Errorf("version: %v", err)
	}
}
