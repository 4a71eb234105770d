package failover

import (
	"net/netip"
	"strings"
)

// Verdict is what a probe round says about prod.
type Verdict string

const (
	Unknown Verdict = "unknown" // we could not tell, mostly because our own uplink is gone
	Up      Verdict = "up"
	Down    Verdict = "down"
)

// Probe is the answer of one of prod's addresses.
type Probe struct {
	Address netip.Addr
	OK      bool
	Why     string // why not
}

// Reach says over which families this machine reaches the world at all.
type Reach struct{ IPv4, IPv6 bool }

// Judge turns the answers of one round into its verdict. Prod is down when
// every IPv4 address failed, or, where it has none, every IPv6 address; a
// family that cannot be reached from here says nothing. partial names the
// addresses that failed while that was not enough to be down.
func Judge(probes []Probe, reach Reach) (v Verdict, partial string) {
	deciding := func(a netip.Addr) bool { return a.Unmap().Is4() }
	if !containsFunc(probes, deciding) {
		deciding = func(netip.Addr) bool { return true }
	}
	var failing []string
	v = Down
	known := false
	for _, p := range probes {
		reachable := reach.IPv6
		if p.Address.Unmap().Is4() {
			reachable = reach.IPv4
		}
		switch {
		case p.OK && deciding(p.Address):
			v, known = Up, true
		case p.OK:
		case reachable:
			known = known || deciding(p.Address)
			failing = append(failing, p.Address.String()+": "+p.Why)
		case deciding(p.Address) && v == Down:
			v = Unknown
		}
	}
	if !known {
		return Unknown, ""
	}
	if v != Up {
		return v, ""
	}
	return Up, strings.Join(failing, "; ")
}

func containsFunc(probes []Probe, f func(netip.Addr) bool) bool {
	for _, p := range probes {
		if f(p.Address) {
			return true
		}
	}
	return false
}

// failed joins what did not pass; "" if all did.
func failed(checks []Check) string {
	var why []string
	for _, c := range checks {
		if !c.OK {
			why = append(why, c.Name+": "+c.Why)
		}
	}
	return strings.Join(why, "; ")
}
