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

func TestLongestTTL(t *testing.T) {
	r := failover.Records{{TTL: 60}, {TTL: 0}}
	if got := longestTTL(r, 300); got != 5*time.Minute {
		t.Errorf("with the zone's default: %s", got)
	}
	if got := longestTTL(r, 0); got != time.Hour {
		t.Errorf("without: %s", got)
	}
}
