package watchdog

import (
	"net/netip"
	"slices"

	"releve/internal/failover"
)

// dynMemory is what a restart must find again about the name of [dyndns].
type dynMemory struct {
	Name string `json:"name"` // whose memory this is
	// Homes are the addresses that home has or had while we looked, newest last: records that lead there are ours to
	// change.
	Homes []netip.Addr `json:"homes"`
	// Unsettled is set before a write and cleared when OVH has accepted to publish it.
	Unsettled bool `json:"unsettled"`
}

// homesKept is how many of home's addresses are remembered: a line that changes daily has had its name led elsewhere
// for a month before an old record is nobody's.
const homesKept = 32

// know remembers an address of home, and reports whether that is news.
func (m *dynMemory) know(a netip.Addr) bool {
	if i := slices.Index(m.Homes, a); i >= 0 {
		if i == len(m.Homes)-1 {
			return false
		}
		m.Homes = slices.Delete(slices.Clone(m.Homes), i, i+1)
	}
	m.Homes = append(slices.Clone(m.Homes), a)
	m.Homes = m.Homes[max(0, len(m.Homes)-homesKept):]
	return true
}

// dynPlan is what the name should hold, given what it holds: pure.
//
// A family that the name follows is brought to home's address where that is agreed on now, and kept as it is where it
// is not. A record of such a family that leads to no address of home, present or remembered, is foreign: somebody
// else's, and nothing is written; by force it is overwritten, but never removed for nothing. Records of the other family are none of our business, unless they are a remnant of
// ours, from when the name followed that family too.
func dynPlan(c DynDNS, have failover.Records, home homeView, homes []netip.Addr) (want, foreign failover.Records) {
	for _, f := range []struct {
		follows bool
		known   knownAddress
		is      func(netip.Addr) bool
	}{{c.IPv4, home.IPv4, netip.Addr.Is4}, {c.IPv6, home.IPv6, netip.Addr.Is6}} {
		agreed := f.follows && f.known.Agreed && f.known.Address.IsValid()
		if agreed {
			want = append(want, failover.Record{Addr: f.known.Address, TTL: c.TTL})
		}
		for _, r := range have {
			ours := slices.Contains(homes, r.Addr) || r.Addr == f.known.Address
			if !f.is(r.Addr) {
				continue
			}
			if f.follows && !ours {
				foreign = append(foreign, r)
			}
			if f.follows && !agreed || !f.follows && !ours {
				want = append(want, r)
			}
		}
	}
	return want, foreign
}
