// Package publicip finds our own public addresses, by agreement of independent sources: echoes over HTTP and DNS,
// and the home router itself, asked over NAT-PMP (RFC 6886) or UPnP's WANIPConnection:1.
//
// An address goes into a DNS zone that the world reads. So one source never decides, whatever it says; an address
// that cannot be reached from outside is refused; and "we do not know" is an answer that callers must live with.
package publicip

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Family is an address family; its value is the IP version.
type Family int

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func (f Family) has(a netip.Addr) bool {
	return a.IsValid() && a.Is4() == (f == IPv4)
}

// network returns base ("tcp", "udp") forced to the family: an echo must see the address we ask about.
func (f Family) network(base string) string {
	if f == IPv6 {
		return base + "6"
	}
	return base + "4"
}

// sourceTimeout bounds one source. A source that needs longer is as good as silent.
const sourceTimeout = 3 * time.Second

// Answer is what one source said. Exactly one of Address and Err is set.
type Answer struct {
	Source   string // as configured
	Operator string
	Address  netip.Addr
	Err      error
	Took     time.Duration
}

// Result is the outcome of one round of questions.
type Result struct {
	Address netip.Addr // valid only when Agreed
	Agreed  bool
	Why     string // one sentence for a human, in either case
	Answers []Answer
}

// Discover asks all sources at once for our address of family f and returns when all have answered, within 3 s at
// most. Sources that cannot tell this family are left out. Safe for concurrent use.
func Discover(ctx context.Context, f Family, sources []Source) Result {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()

	var asked []Source
	for _, s := range sources {
		if s.tells(f) {
			asked = append(asked, s)
		}
	}
	answers := make([]Answer, len(asked))
	var wg sync.WaitGroup
	for i, s := range asked {
		wg.Go(func() {
			begin := time.Now()
			address, err := s.ask(ctx, f)
			answers[i] = Answer{Source: s.String(), Operator: s.Operator(), Took: time.Since(begin)}
			if err != nil {
				answers[i].Err = err
				return
			}
			if address = address.Unmap(); !f.has(address) {
				answers[i].Err = errors.New("the answer is not an " + f.String() + " address: " + address.String())
				return
			}
			answers[i].Address = address
		})
	}
	wg.Wait()

	r := Result{Answers: answers}
	r.Address, r.Agreed, r.Why = agree(answers)
	return r
}
