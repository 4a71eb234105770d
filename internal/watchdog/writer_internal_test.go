package watchdog

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

// TestOutageOfHours: OVH is gone for three hours, by the bubble's clock, in each of its ways of being gone. The switch is
// tried for as long as that lasts, calmly and never half a minute apart, the owner hears of it once, and when OVH is back
// it is made within half a minute.
func TestOutageOfHours(t *testing.T) {
	for name, fault := range map[string]ovhworld.Fault{
		"503":           {Status: 503, Body: "<html>503 Backend unavailable</html>"},
		"nobody there":  {Cut: true},
		"never answers": {Hang: time.Hour},
		"too many":      {Status: 429},
		"no refresh":    {Method: "POST", Path: "*/refresh", Status: 500},
		"no rights":     {Method: "PUT", Path: "*", Status: 403, Body: `{"errorCode":"NOT_GRANTED_CALL","message":"This call has not been granted"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { outageOfHours(t, fault) })
		})
	}
}

func outageOfHours(t *testing.T, fault ovhworld.Fault) {
	prod, home := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("5.39.80.7")
	w := ovhworld.New(ovhworld.Options{})
	w.AddApplication("app", "secret")
	w.AddCredential("app", "consumer", time.Time{}, ovhworld.AllRules()...)
	w.AddZone("example.net", 3600, []string{"ns1.example.net"}, ovhworld.Record{SubDomain: "www", Type: "A", Target: prod.String(), TTL: 60})
	client, err := ovhdns.New(ovhdns.Config{
		Endpoint: ovhworld.Endpoint, DialContext: w.DialContext, ApplicationKey: "app", ApplicationSecret: "secret", ConsumerKey: "consumer",
	})
	if err != nil {
		t.Fatal(err)
	}
	fault.Times = -1
	mend := []func(){w.Fail(fault)}
	if fault.Path == "" {
		clock := fault
		clock.Method, clock.Path = "GET", "/auth/time"
		mend = append(mend, w.Fail(clock))
	}
	var mu sync.Mutex
	var calls []time.Time
	w.OnCall(func() {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, time.Now())
	})

	st := store{t.TempDir()}
	var told []string
	tell := func(m notify.Message) error { told = append(told, m.Event); return nil }
	log := slog.New(slog.DiscardHandler)
	s := &site{
		cfg:    Site{Name: "www.example.net", Zone: "example.net", TTL: 60, NameServers: []string{"127.0.0.1:1"}, Probe: Probe{Interval: 5 * time.Second}},
		policy: failover.Policy{Prod: []netip.Addr{prod}, TTL: 60, Failures: 5}, state: failover.New(),
		log: log, now: now, store: st, home: newHome(Home{IPv4: HomeAddress{Fixed: home}}, st, now), reader: client, zone: client,
		tell: tell, alarms: newAlarms(st, now, tell, log), delays: newDelays(st), metrics: newSiteMetrics(),
		inbox: make(chan func(*failover.Observation)), orders: make(chan order, 1), asked: make(chan struct{}, 1), reread: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = s.loop(ctx) })
	tasks.Go(func() { _ = s.write(ctx) })
	if err := s.obey(ctx, failover.Order{Kind: failover.OrderFailover, Force: true}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	const outage = 3 * time.Hour
	time.Sleep(outage)
	if s.get().State.Serving == failover.Standby {
		t.Error("it was told that the standby serves, and nobody could know")
	}
	mu.Lock()
	n, last, slowest := len(calls), began, time.Duration(0)
	for _, at := range append(calls, time.Now()) {
		slowest, last = max(slowest, at.Sub(last)), at
	}
	mu.Unlock()
	if slowest > 30*time.Second {
		t.Errorf("nothing was tried for %s", slowest)
	}
	if perMinute := float64(n) / outage.Minutes(); perMinute > 60 {
		t.Errorf("%.0f calls a minute", perMinute)
	}
	for _, m := range mend {
		m()
	}
	time.Sleep(30 * time.Second)
	synctest.Wait()
	if got := s.get().State.Serving; got != failover.Standby || !slices.ContainsFunc(w.Records("example.net"), func(r ovhworld.Record) bool { return r.Target == home.String() }) {
		t.Errorf("half a minute after OVH is back %s serves, and the zone holds %v", got, w.Records("example.net"))
	}
	if n := len(told); n > 2 || !slices.Contains(told, string(failover.EventFailedOver)) {
		t.Errorf("told %q", told)
	}
	cancel()
	tasks.Wait()
	w.Close()
	client.Close()
	synctest.Wait()
}
