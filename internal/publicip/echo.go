package publicip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// bodyLimit bounds what is read of any answer over HTTP, in bytes: router descriptions are the longest.
const bodyLimit = 64 << 10

// httpClient returns a client for one question: family forced, no proxy, no redirect, nothing kept afterwards.
func httpClient(network string, s Source) *http.Client {
	dialer := net.Dialer{KeepAlive: -1}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
			TLSClientConfig:        &tls.Config{RootCAs: s.Roots},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		// A captive portal redirects; an echo has no reason to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch does one exchange and returns the body of a 200 answer, whole or not at all.
func fetch(client *http.Client, req *http.Request) ([]byte, error) {
	req.Header.Set("User-Agent", "releve")
	resp, err := client.Do(req)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return nil, wrapped.Err // without the URL, whose query may hold a token
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > bodyLimit {
		return nil, errors.New("answer longer than 64 KiB")
	}
	return body, nil
}

func (s Source) askHTTP(ctx context.Context, f Family) (netip.Addr, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return netip.Addr{}, err
	}
	body, err := fetch(httpClient(f.network("tcp"), s), req)
	if err != nil {
		return netip.Addr{}, err
	}
	return parseAddress(string(body))
}

// parseAddress takes an address with nothing but white space around it: digging one out of a page is how others
// came to publish the address of an advertisement.
func parseAddress(text string) (netip.Addr, error) {
	text = strings.TrimSpace(text)
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		if len(text) > 40 {
			text = text[:40] + "…"
		}
		return netip.Addr{}, fmt.Errorf("answer %q is not an address", text)
	}
	return a.Unmap(), nil
}

// askDNS asks a server that answers with the address it was asked from.
func (s Source) askDNS(ctx context.Context, f Family) (netip.Addr, error) {
	query := new(dns.Msg)
	rrtype := s.rrtype
	if rrtype == dns.TypeNone {
		rrtype = dns.TypeA
		if f == IPv6 {
			rrtype = dns.TypeAAAA
		}
	}
	query.SetQuestion(s.name, rrtype)
	query.Question[0].Qclass = s.class

	answer, err := exchange(ctx, f.network("udp"), net.JoinHostPort(s.host, s.port), query)
	if err != nil {
		return netip.Addr{}, err
	}
	if answer.Rcode != dns.RcodeSuccess {
		return netip.Addr{}, fmt.Errorf("DNS answer %s", dns.RcodeToString[answer.Rcode])
	}
	return addressIn(answer, f)
}

// addressIn returns the one address in an answer. TXT strings that are none (hints on the client's subnet) are
// passed over; two different addresses are a contradiction.
func addressIn(answer *dns.Msg, f Family) (netip.Addr, error) {
	var found netip.Addr
	for _, rr := range answer.Answer {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA)
		case *dns.TXT:
			a, _ = netip.ParseAddr(strings.Join(rr.Txt, ""))
		}
		if a = a.Unmap(); !f.has(a) {
			continue
		}
		if found.IsValid() && found != a {
			return netip.Addr{}, fmt.Errorf("two addresses in one answer: %s and %s", found, a)
		}
		found = a
	}
	if !found.IsValid() {
		return netip.Addr{}, fmt.Errorf("no %s address in the answer", f)
	}
	return found, nil
}

// exchange sends one query in a datagram, twice if need be: datagrams get lost.
func exchange(ctx context.Context, network, address string, query *dns.Msg) (*dns.Msg, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The client below knows deadlines, not cancellation.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	client := &dns.Client{Timeout: sourceTimeout / 3}
	var answer *dns.Msg
	for range 2 {
		if answer, _, err = client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn}); err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
		if !isTimeout(err) {
			break
		}
	}
	return nil, err
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// remaining is the time left until ctx's deadline, and d when it has none.
func remaining(ctx context.Context, d time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(d, time.Until(deadline))
	}
	return d
}
