package ovhdns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// udpTries is how often a name server is asked over UDP before TCP.
const udpTries = 2

// maxTTL is the longest that there is (RFC 2181 §8).
const maxTTL = 1<<31 - 1

// askTimeout bounds one question to one name server.
const askTimeout = 2 * time.Second

// Published asks each of the name servers (HOST or HOST:PORT) itself, without
// recursion, for the A and AAAA records of name. The map has an entry for each
// server: nil where it serves exactly the addresses of want. TTLs are not
// compared: a server may level those of one set (RFC 2181 §5.2).
func Published(ctx context.Context, servers []string, name string, want Set) map[string]error {
	return PublishedWithin(ctx, servers, name, want, maxTTL)
}

// PublishedWithin is [Published] where the TTLs count: a server must not let
// resolvers keep any of the addresses for longer than ttl seconds.
func PublishedWithin(ctx context.Context, servers []string, name string, want Set, ttl int64) map[string]error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, server := range servers {
		wg.Go(func() { errs[i] = serves(ctx, server, name, want, ttl) })
	}
	wg.Wait()
	result := make(map[string]error, len(servers))
	for i, server := range servers {
		result[server] = errs[i]
	}
	return result
}

// WaitPublished asks until all name servers serve want, and returns how long
// that took. It asks every interval, and at the end of ctx names the servers
// that had not come round.
func WaitPublished(ctx context.Context, servers []string, name string, want Set, interval time.Duration) (time.Duration, error) {
	start := time.Now()
	if len(servers) == 0 {
		return 0, errors.New("wait for publication: no name servers")
	}
	var lagging error
	for {
		var late []error
		result := Published(ctx, servers, name, want)
		for _, server := range slices.Sorted(maps.Keys(result)) {
			if err := result[server]; err != nil {
				late = append(late, fmt.Errorf("%s: %w", server, err))
			}
		}
		if len(late) == 0 {
			return time.Since(start), nil
		}
		// A round cut short by the end of ctx says nothing of the servers.
		if lagging == nil || !ended(ctx) {
			lagging = errors.Join(late...)
		}
		if err := sleep(ctx, interval); err != nil {
			return time.Since(start), fmt.Errorf("%w publication of %s: %w", ErrUnconfirmed, name, lagging)
		}
	}
}

// ended reports whether ctx has ended. A socket that has its deadline may notice it first.
func ended(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(deadline)
}

func serves(ctx context.Context, server, name string, want Set, ttl int64) error {
	addrs, err := resolve(ctx, server)
	if err != nil {
		return err
	}
	var have Set
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := askAny(ctx, addrs, dns.Fqdn(name), qtype)
		if err != nil {
			return err
		}
		have = append(have, answer...)
	}
	if !have.SameTargets(want) {
		return fmt.Errorf("serves %s", have)
	}
	if slices.ContainsFunc(have, func(r Record) bool { return r.TTL > ttl }) {
		return fmt.Errorf("still serves %s", have)
	}
	return nil
}

// resolve returns the addresses of a name server, IPv4 first: at home it is
// the family that works.
func resolve(ctx context.Context, server string) ([]string, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), "53"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", strings.TrimSuffix(host, "."))
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = net.JoinHostPort(a.Unmap().String(), port)
	}
	return out, nil
}

// askAny returns the answer of the first address that gives one.
func askAny(ctx context.Context, addrs []string, name string, qtype uint16) (Set, error) {
	var errs []error
	for _, addr := range addrs {
		answer, err := ask(ctx, addr, name, qtype)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ask puts one question to one address: over UDP, and over TCP where the
// answer was cut or none came.
func ask(ctx context.Context, addr, name string, qtype uint16) (Set, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.RecursionDesired = false
	m.SetEdns0(1232, false) // the size that passes everywhere (DNS flag day 2020)

	var reply *dns.Msg
	var err error
	for range udpTries {
		if reply, _, err = (&dns.Client{Net: "udp", Timeout: askTimeout}).ExchangeContext(ctx, m, addr); err == nil || ctx.Err() != nil {
			break
		}
	}
	if (err != nil || reply.Truncated) && ctx.Err() == nil {
		reply, _, err = (&dns.Client{Net: "tcp", Timeout: askTimeout}).ExchangeContext(ctx, m, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", addr, dns.TypeToString[qtype], err)
	}
	return addresses(reply, name, qtype)
}

// addresses reads an authoritative answer. A name that does not exist has no
// addresses, which is an answer, not an error.
func addresses(reply *dns.Msg, name string, qtype uint16) (Set, error) {
	if len(reply.Question) != 1 || !strings.EqualFold(reply.Question[0].Name, name) || reply.Question[0].Qtype != qtype {
		return nil, errors.New("answers another question")
	}
	if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("answers %s", dns.RcodeToString[reply.Rcode])
	}
	if !reply.Authoritative {
		return nil, errors.New("is not authoritative")
	}
	var s Set
	for _, rr := range reply.Answer {
		h := rr.Header()
		if !strings.EqualFold(h.Name, name) || h.Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.CNAME:
			return nil, &CNAMEError{Name: strings.TrimSuffix(name, "."), Target: rr.Target}
		case *dns.A:
			if addr, ok := netip.AddrFromSlice(rr.A.To4()); ok && qtype == dns.TypeA {
				s = append(s, NewRecord(addr, int64(h.Ttl)))
			}
		case *dns.AAAA:
			if addr, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok && qtype == dns.TypeAAAA {
				s = append(s, Record{Type: "AAAA", Target: addr.String(), TTL: int64(h.Ttl)})
			}
		}
	}
	return s, nil
}
