package watchdog

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/probe"
	"releve/internal/strictconf"
)

// loopBench is a site whose loop runs by itself, and a service that is pinged.
type loopBench struct {
	*testing.T
	site *site
	came chan struct{}
	told []notify.Message
	mu   sync.Mutex
}

func newLoopBench(t *testing.T) *loopBench {
	b := &loopBench{T: t, came: make(chan struct{}, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { b.came <- struct{}{} }))
	t.Cleanup(server.Close)
	d := notify.NewDeadman(&notify.DeadmanConfig{URL: strictconf.NewSecret(server.URL), Interval: strictconf.Duration(time.Microsecond)})
	d.Watch("www.example.net", time.Hour)
	prod, home := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("198.51.100.1")
	st := store{t.TempDir()}
	log := slog.New(slog.DiscardHandler)
	tell := func(m notify.Message) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, m)
		return nil
	}
	b.site = &site{
		cfg:    Site{Name: "www.example.net", Zone: "example.net", Probe: Probe{Prod: []netip.Addr{prod}, Interval: 10 * time.Millisecond}},
		target: probe.Target{URL: &url.URL{Scheme: "http", Host: "www.example.net:1"}, Timeout: 10 * time.Millisecond}, uplink: &uplink{now: now},
		policy: failover.Policy{Prod: []netip.Addr{prod}, TTL: 60, Failures: 5, Successes: 2}, state: failover.New(),
		log: log, now: now, store: st, home: newHome(Home{IPv4: HomeAddress{Fixed: home}}, st, now), deadman: d,
		tell: tell, alarms: newAlarms(st, now, tell, log), metrics: newSiteMetrics(),
		inbox: make(chan func(*failover.Observation)), orders: make(chan order, 1), asked: make(chan struct{}, 1), reread: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = d.Run(ctx) })
	all.Go(func() { _ = b.site.loop(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return b
}

func (b *loopBench) round(v failover.Verdict) {
	b.site.send(b.Context(), func(o *failover.Observation) { o.Probed, o.Verdict = true, v })
}

func (b *loopBench) pinged(why string) {
	b.Helper()
	select {
	case <-b.came:
	case <-time.After(10 * time.Second):
		b.Fatalf("no ping after %s", why)
	}
}

func (b *loopBench) silent(why string) {
	b.Helper()
	select {
	case <-b.came:
		b.Errorf("a ping after %s", why)
	case <-time.After(100 * time.Millisecond):
	}
}

// calm lets what is still under way come.
func (b *loopBench) calm() {
	for {
		select {
		case <-b.came:
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

// TestPingsAreTheDecisionsOwn: one comes at the end of a decided round, and of nothing else.
func TestPingsAreTheDecisionsOwn(t *testing.T) {
	b := newLoopBench(t)
	b.silent("the start")
	for _, v := range []failover.Verdict{failover.Up, failover.Down, failover.Unknown, failover.Up} {
		b.round(v)
		b.pinged("a round that is " + string(v))
	}
	b.site.homeChanged(t.Context())
	if err := b.site.call(t.Context(), func(failover.Observation) {}); err != nil {
		t.Fatal(err)
	}
	b.silent("news that is no round")

	release := make(chan struct{})
	hung := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { _ = b.site.call(t.Context(), func(failover.Observation) { close(hung); <-release }) })
	<-hung
	looking, stop := context.WithCancel(t.Context())
	others.Go(func() { _ = b.site.rounds(looking) }) // what looks at prod goes on
	b.silent("a round that the loop does not take, for it hangs")
	close(release)
	b.pinged("the loop goes on")
	stop()
	others.Wait()
	b.calm()

	if err := os.RemoveAll(b.site.store.dir); err != nil { // as good as full
		t.Fatal(err)
	}
	b.round(failover.Down)
	b.silent("a decision that could not be kept: nothing would be switched")
	if err := os.Mkdir(b.site.store.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.round(failover.Down)
	b.pinged("the disk has room again")
}

// TestLastingConditions: what was told is remembered for as long as it is so, and the switch in the words of the day.
func TestLastingConditions(t *testing.T) {
	b := newLoopBench(t)
	lasting := func() (out []string) {
		if err := b.site.call(t.Context(), func(failover.Observation) { b.site.forget() }); err != nil {
			t.Fatal(err)
		}
		for _, m := range b.site.alarms.Lasting() {
			out = append(out, m.Event+": "+m.Subject)
		}
		return out
	}
	zone := func(addr string) {
		b.site.send(t.Context(), func(o *failover.Observation) {
			o.Zone = &failover.Records{{Addr: netip.MustParseAddr(addr), TTL: 60}}
		})
	}
	zone("127.0.0.1")
	if got := lasting(); len(got) > 0 {
		t.Errorf("%q", got)
	}
	zone("192.0.2.66")
	if got := lasting(); !slices.Equal(got, []string{"foreign_records: www.example.net: the zone holds records that we did not put there"}) {
		t.Errorf("%q", got)
	}
	again := newAlarms(b.site.store, now, b.site.tell, b.site.log) // what a restart finds
	if len(again.Lasting()) != 1 || again.Lasting()[0].About != "www.example.net" {
		t.Errorf("after a restart: %+v", again.Lasting())
	}
	zone("127.0.0.1")
	if got := lasting(); len(got) > 0 {
		t.Errorf("it is over: %q", got)
	}

	set := func(f func(*failover.State)) {
		if err := b.site.call(t.Context(), func(failover.Observation) { f(&b.site.state) }); err != nil {
			t.Fatal(err)
		}
	}
	set(func(s *failover.State) {
		s.Goal, s.Serving, s.Verdict = failover.Standby, failover.Standby, failover.Down
		n := failover.Notice{Event: failover.EventFailedOver, Key: "failed_over-1", Time: now()}
		b.site.lasting(n, b.site.message(n))
	})
	if got := lasting(); !slices.Equal(got, []string{"failed_over: www.example.net: the standby serves"}) {
		t.Errorf("%q", got)
	}
	if m := b.site.alarms.Lasting()[0]; m.Text != "Prod does not answer. When it is good again, its data too: watchdog failback www.example.net" || m.Severity != notify.Critical {
		t.Errorf("%+v", m)
	}
	set(func(s *failover.State) { s.Verdict = failover.Up })
	lasting()
	if m := b.site.alarms.Lasting()[0]; m.Text != "Prod answers again. When it is good again, its data too: watchdog failback www.example.net" {
		t.Errorf("%+v", m)
	}
	set(func(s *failover.State) {
		n := failover.Notice{Event: failover.EventProdBack, Key: "prod_back-2", Time: now()}
		b.site.lasting(n, b.site.message(n)) // told, and over with that
		s.Goal, s.Serving = failover.Prod, failover.Prod
	})
	if got := lasting(); len(got) > 0 {
		t.Errorf("%q", got)
	}
}
