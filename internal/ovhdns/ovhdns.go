// Package ovhdns reads and replaces the address records of one name in a zone
// hosted by OVH, publishes the change, and says whether it was confirmed.
//
// It speaks the OVH API v1 (/domain/zone/…, signed with an application and a
// consumer key) through the official client, and asks the zone's name servers
// themselves (RFC 1035) whether they serve what was written.
//
// A replacement is a reconciliation, never a script: read, compare, write the
// difference, read again, refresh. Whatever an earlier attempt left behind, the
// next one starts from what the zone holds, so that a crash or a lost reply at
// any step is made good by doing it again. Record ids are never kept: OVH
// renumbers them at will.
package ovhdns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// dynHostTTL is the TTL, in seconds, that OVH serves for DynHost records, and
// by which it recognises an address record as one.
const dynHostTTL = 60

// minTTL is the smallest TTL, in seconds, that OVH accepts beside 0.
const minTTL = 60

// Record is one address record.
type Record struct {
	Type   string `json:"type"`   // "A" or "AAAA"
	Target string `json:"target"` // the address
	TTL    int64  `json:"ttl"`    // seconds; 0 is the zone's default
	// DynHost says that OVH keeps the record in its DynHost collection. It
	// makes no difference to what is served, and none to Equal.
	DynHost bool `json:"dynhost,omitempty"`
}

// NewRecord returns the A or AAAA record that leads to addr.
func NewRecord(addr netip.Addr, ttl int64) Record {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return Record{Type: "A", Target: addr.String(), TTL: ttl}
	}
	return Record{Type: "AAAA", Target: addr.String(), TTL: ttl}
}

// Addr is the target as an address; the zero Addr if it is none.
func (r Record) Addr() netip.Addr {
	addr, err := netip.ParseAddr(strings.TrimSpace(r.Target))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// String is the record as a zone file would show it, without its name.
func (r Record) String() string {
	ttl := "default"
	if r.TTL != 0 {
		ttl = fmt.Sprint(r.TTL)
	}
	s := fmt.Sprintf("%s %s ttl %s", r.Type, r.Target, ttl)
	if r.DynHost {
		s += " (DynHost)"
	}
	return s
}

// same reports whether both records lead to the same address, whatever their TTL.
func (r Record) same(o Record) bool { return r.canonical(0) == o.canonical(0) }

// canonical is a comparable form of r: the address spelt in the one way,
// without the DynHost mark, and with the given TTL.
func (r Record) canonical(ttl int64) Record {
	c := Record{Type: strings.ToUpper(r.Type), Target: strings.TrimSpace(r.Target), TTL: ttl}
	if addr := r.Addr(); addr.IsValid() {
		c.Target = addr.String()
	}
	return c
}

// Set is the address records of one name. As in the DNS itself (RFC 2181 §5)
// it is a set: order and duplicates carry no meaning.
type Set []Record

// Equal reports whether both sets hold the same addresses with the same TTLs.
// Addresses are compared as addresses, not as text.
func (s Set) Equal(o Set) bool {
	return slices.Equal(s.canonical(true), o.canonical(true))
}

// SameTargets reports whether both sets hold the same addresses.
func (s Set) SameTargets(o Set) bool {
	return slices.Equal(s.canonical(false), o.canonical(false))
}

// String lists the records, addresses in order: "A 192.0.2.1 ttl 60, AAAA …".
func (s Set) String() string {
	if len(s) == 0 {
		return "no address records"
	}
	sorted := slices.SortedFunc(slices.Values(s), compareRecords)
	text := make([]string, len(sorted))
	for i, r := range sorted {
		text[i] = r.String()
	}
	return strings.Join(text, ", ")
}

// canonical is the set in one order, each record once.
func (s Set) canonical(withTTL bool) []Record {
	c := make([]Record, len(s))
	for i, r := range s {
		var ttl int64
		if withTTL {
			ttl = r.TTL
		}
		c[i] = r.canonical(ttl)
	}
	slices.SortFunc(c, compareRecords)
	return slices.Compact(c)
}

func compareRecords(a, b Record) int {
	if c := strings.Compare(a.Type, b.Type); c != 0 {
		return c
	}
	if x, y := a.Addr(), b.Addr(); x.IsValid() && y.IsValid() {
		if c := x.Compare(y); c != 0 {
			return c
		}
	} else if c := strings.Compare(a.Target, b.Target); c != 0 {
		return c
	}
	return int(min(1, max(-1, a.TTL-b.TTL)))
}

// writable is s as it may be written: each address once (the first wins),
// every record of a kind and TTL that OVH takes.
func (s Set) writable() (Set, error) {
	var out Set
	for _, r := range s {
		addr := r.Addr()
		switch {
		case !addr.IsValid() || addr.Zone() != "":
			return nil, fmt.Errorf("%s record: %q is not an address", r.Type, r.Target)
		case r.Type == "A" && !addr.Is4(), r.Type == "AAAA" && (!addr.Is6() || addr.Is4In6()), r.Type != "A" && r.Type != "AAAA":
			return nil, fmt.Errorf("%s record: %q is no address of that kind", r.Type, r.Target)
		case r.TTL != 0 && r.TTL < minTTL:
			return nil, fmt.Errorf("%s record: ttl %d: OVH takes 0 (the zone's default) or %d and more", r.Type, r.TTL, minTTL)
		}
		if !slices.ContainsFunc(out, r.same) {
			out = append(out, r.canonical(r.TTL))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no records wanted: a name is never emptied")
	}
	return out, nil
}

// split returns the zone and the part of name before it ("" at the apex), both
// in lower case and without trailing dots.
func split(zone, name string) (z, sub string, err error) {
	z = strings.ToLower(strings.TrimSuffix(zone, "."))
	n := strings.ToLower(strings.TrimSuffix(name, "."))
	if z == "" || strings.ContainsFunc(z+n, notInNames) || strings.Contains(z, "*") {
		return "", "", fmt.Errorf("zone %q, name %q: not DNS names", zone, name)
	}
	if n == z {
		return z, "", nil
	}
	sub, ok := strings.CutSuffix(n, "."+z)
	if !ok || sub == "" {
		return "", "", fmt.Errorf("name %q is not in zone %q", name, zone)
	}
	return z, sub, nil
}

// notInNames is what would mean something else in a URL, or needs punycode.
func notInNames(r rune) bool {
	return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.*", r))
}
