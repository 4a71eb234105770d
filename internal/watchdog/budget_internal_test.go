package watchdog

import (
	"testing"
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
)

// TestPromise: with the default configuration, from prod's death to an accepted refresh, 45 seconds at most.
func TestPromise(t *testing.T) {
	var site siteTable
	site.SetDefaults()
	p := Probe{
		Target: probe.Target{Timeout: time.Duration(defaultTimeout)}, Interval: site.Probe.Interval.D(), Failures: site.Probe.Failures,
	}
	b := computeBudget(Site{Probe: p}, time.Minute, 0)
	if b.ours() > 45*time.Second {
		t.Errorf("ours: %s", b.ours())
	}
	if b.total() > promise || b.advice() != "" {
		t.Errorf("in all: %s", b)
	}
}

// TestHomeIsFollowedInAMinute: while the standby serves, home's address is asked for every pace, for three seconds at
// most, and written in the time that OVH is given; test/e2e measures it.
func TestHomeIsFollowedInAMinute(t *testing.T) {
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, time.Minute, time.Hour} {
		if took := pace(interval) + 3*time.Second + apiBudget; took > time.Minute {
			t.Errorf("with a probe every %s: %s", interval, took)
		}
	}
}

func TestBudget(t *testing.T) {
	p := Probe{Target: probe.Target{Timeout: 2 * time.Second}, Interval: 5 * time.Second, Failures: 5}
	for _, c := range []struct {
		ttl, measured time.Duration
		says, advice  string
	}{
		{time.Minute, 0, "3m34s: detection 27s + decision 2s + API 15s + publication 1m50s (usual with OVH) + TTL 1m; 5m14s at OVH's slowest", ""},
		{time.Minute, 4 * time.Second, "1m48s: detection 27s + decision 2s + API 15s + publication 4s (as measured) + TTL 1m; 5m14s at OVH's slowest", ""},
		{
			time.Hour, 0, "1h2m34s: detection 27s + decision 2s + API 15s + publication 1m50s (usual with OVH) + TTL 1h; 1h4m14s at OVH's slowest",
			"resolvers may keep prod's records for 1h: watchdog prepare www.example.net makes that 1m",
		},
		{time.Minute, 4 * time.Minute, "5m44s: detection 27s + decision 2s + API 15s + publication 4m (as measured) + TTL 1m; 5m44s at OVH's slowest", "OVH is slow to publish, which is not in our hands"},
	} {
		b := computeBudget(Site{Name: "www.example.net", TTL: 60, Probe: p}, c.ttl, c.measured)
		if b.String() != c.says || b.advice() != c.advice {
			t.Errorf("%s\n%s\nwant\n%s\n%s", b, b.advice(), c.says, c.advice)
		}
	}
}

// Others are asked beside the detection: preferred, with the default settings, they cost nothing.
func TestBudgetWithOpinion(t *testing.T) {
	var site siteTable
	site.SetDefaults()
	opinion := Opinion{Mode: failover.OutsidePrefer, Outside: probe.Outside{Timeout: site.Opinion.Timeout.D()}}
	p := Probe{Target: probe.Target{Timeout: 2 * time.Second}, Interval: 5 * time.Second, Failures: 5}
	if b := computeBudget(Site{Probe: p, Opinion: opinion}, time.Minute, 0); b.Decision != uplinkTimeout || b.ours() > 45*time.Second {
		t.Errorf("%s", b)
	}
	quick := Probe{Target: probe.Target{Timeout: time.Second}, Interval: time.Second, Failures: 3}
	// Dead at 0, failures at 2, 3 and 4, asked after the second, and waited for until 18.
	if b := computeBudget(Site{Probe: quick, Opinion: opinion}, time.Minute, 0); b.Detection != 4*time.Second || b.Decision != 14*time.Second {
		t.Errorf("%s", b)
	}
	once := Probe{Target: probe.Target{Timeout: time.Second}, Interval: time.Second, Failures: 1}
	if b := computeBudget(Site{Probe: once, Opinion: opinion}, time.Minute, 0); b.Detection != 2*time.Second || b.Decision != 15*time.Second {
		t.Errorf("%s", b)
	}
}

func TestPoliteness(t *testing.T) {
	p := politeness{first: 30 * time.Second, most: 5 * time.Minute}
	start := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	now, asked := start, 0
	for now.Before(start.Add(time.Hour)) {
		if !now.Before(p.next) {
			asked++
			p.asked(now, 0)
		}
		now = now.Add(time.Second)
	}
	if asked > 16 {
		t.Errorf("asked %d times in an hour", asked)
	}
	p.asked(now, 20*time.Minute)
	if !p.next.Equal(now.Add(20 * time.Minute)) {
		t.Errorf("asked to be left alone for 20 minutes: %s", p.next.Sub(now))
	}
	now = p.next.Add(time.Hour)
	if p.asked(now, 0); p.next.Sub(now) != 30*time.Second {
		t.Errorf("after an hour: %s", p.next.Sub(now))
	}
}

func TestLongestTTL(t *testing.T) {
	r := failover.Records{{TTL: 60}, {TTL: 0}}
	if got := longestTTL(r, 300); got != 5*time.Minute {
		t.Errorf("with the zone's default: %s", got)
	}
	if got := longestTTL(r, 0); got != time.Hour {
		t.Errorf("without: %s", got)
	}
}
