package failover

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Record is one A or AAAA record of the name; the address says which.
type Record struct {
	Addr    netip.Addr `json:"addr"`
	TTL     int64      `json:"ttl"` // seconds; 0 = the zone's default
	DynHost bool       `json:"dynhost,omitempty"`
}

// Records are all A and AAAA records of the name. Order means nothing,
// duplicates do.
type Records []Record

func (r Records) sorted() Records {
	r = slices.Clone(r)
	slices.SortFunc(r, func(a, b Record) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.TTL, b.TTL))
	})
	return r
}

// Equal reports whether both hold the same records.
func (r Records) Equal(o Records) bool { return slices.Equal(r.sorted(), o.sorted()) }

// Addrs are the distinct addresses, sorted.
func (r Records) Addrs() []netip.Addr {
	var out []netip.Addr
	for _, rec := range r {
		out = append(out, rec.Addr)
	}
	return distinct(out)
}

func (r Records) String() string {
	if len(r) == 0 {
		return "no records"
	}
	var out []string
	for _, rec := range r.sorted() {
		kind := "A"
		if rec.Addr.Is6() {
			kind = "AAAA"
		}
		out = append(out, fmt.Sprintf("%s %s ttl %d", kind, rec.Addr, rec.TTL))
	}
	return strings.Join(out, ", ")
}

func distinct(addrs []netip.Addr) []netip.Addr {
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

func within(addrs []netip.Addr, sets ...[]netip.Addr) bool {
	for _, a := range addrs {
		if !slices.ContainsFunc(sets, func(set []netip.Addr) bool { return slices.Contains(set, a) }) {
			return false
		}
	}
	return true
}

type kind int

const (
	foreign   kind = iota // not ours
	ofProd                // exactly prod's addresses
	ofStandby             // some of home's addresses, present or remembered, and nothing else
	mixed                 // what an interrupted write of ours can leave behind
)

// classify says whose records these are.
func (s *State) classify(have Records, home []netip.Addr, p Policy) kind {
	addrs := have.Addrs()
	switch {
	case len(addrs) > 0 && slices.Equal(addrs, distinct(p.Prod)):
		return ofProd
	case len(addrs) > 0 && within(addrs, s.Homes, home):
		return ofStandby
	case s.Unsettled && within(addrs, s.Homes, home, p.Prod, s.Prod.Addrs()):
		return mixed
	}
	return foreign
}

// prodRecords are the records to return to: those that were there, or, where
// we never saw them or prod has moved since, prod's addresses with our TTL.
func (s *State) prodRecords(p Policy) Records {
	if slices.Equal(s.Prod.Addrs(), distinct(p.Prod)) {
		return s.Prod
	}
	return recordsOf(p.Prod, p.TTL)
}

func recordsOf(addrs []netip.Addr, ttl int64) Records {
	var out Records
	for _, a := range distinct(addrs) {
		out = append(out, Record{Addr: a, TTL: ttl})
	}
	return out
}

// remembered is how many home addresses are kept: months of a line that
// changes its address daily would not all be worth knowing.
const remembered = 32

func (s *State) remember(home []netip.Addr) {
	for _, a := range home {
		s.Homes = slices.DeleteFunc(s.Homes, func(b netip.Addr) bool { return a == b })
		s.Homes = append(s.Homes, a)
	}
	if n := len(s.Homes) - remembered; n > 0 {
		s.Homes = slices.Delete(s.Homes, 0, n)
	}
}
