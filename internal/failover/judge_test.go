package failover_test

import (
	"net/netip"
	"testing"

	"releve/internal/failover"
)

func TestJudge(t *testing.T) {
	ok := func(a netip.Addr) failover.Probe { return failover.Probe{Address: a, OK: true} }
	bad := func(a netip.Addr) failover.Probe { return failover.Probe{Address: a, Why: "timeout"} }
	second := netip.MustParseAddr("203.0.113.11")
	both, four, six, none := failover.Reach{IPv4: true, IPv6: true}, failover.Reach{IPv4: true}, failover.Reach{IPv6: true}, failover.Reach{}
	for _, c := range []struct {
		name    string
		probes  []failover.Probe
		reach   failover.Reach
		verdict failover.Verdict
		partial string
	}{
		{"all answer", []failover.Probe{ok(prod4), ok(prod6)}, both, failover.Up, ""},
		{"all fail", []failover.Probe{bad(prod4), bad(prod6)}, both, failover.Down, ""},
		{"all fail, no uplink", []failover.Probe{bad(prod4), bad(prod6)}, none, failover.Unknown, ""},
		{"an answer needs no uplink", []failover.Probe{ok(prod4), bad(prod6)}, none, failover.Up, ""},
		{"one IPv4 of two", []failover.Probe{bad(prod4), ok(second)}, both, failover.Up, "203.0.113.10: timeout"},
		{"IPv6 alone", []failover.Probe{ok(prod4), bad(prod6)}, both, failover.Up, "2001:db8::10: timeout"},
		{"IPv6 alone, none here", []failover.Probe{ok(prod4), bad(prod6)}, four, failover.Up, ""},
		{"IPv4 alone", []failover.Probe{bad(prod4), ok(prod6)}, both, failover.Down, ""},
		{"IPv4 alone, none here", []failover.Probe{bad(prod4), ok(prod6)}, six, failover.Unknown, ""},
		{"IPv6 only", []failover.Probe{bad(prod6)}, both, failover.Down, ""},
		{"IPv6 only, none here", []failover.Probe{bad(prod6)}, four, failover.Unknown, ""},
		{"nothing asked", nil, both, failover.Unknown, ""},
	} {
		if v, partial := failover.Judge(c.probes, c.reach); v != c.verdict || partial != c.partial {
			t.Errorf("%s: %s %q; want %s %q", c.name, v, partial, c.verdict, c.partial)
		}
	}
}
