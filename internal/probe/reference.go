package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Reference is a point of the internet that answers whenever our own uplink works. It comes from ParseReference.
type Reference struct {
	// Roots are the certificate authorities for an https reference; nil means the system's.
	Roots *x509.CertPool

	text    string
	scheme  string   // "https", "tcp", "dns"
	url     *url.URL // https only
	address string   // HOST:PORT
	literal netip.Addr
}

// String is the reference as it was written.
func (r Reference) String() string { return r.text }

// ParseReference reads one of three forms: "https://HOST[:PORT][/PATH]" is well when the TLS handshake succeeds and
// anything in HTTP comes back, "HOST:PORT" when a TCP connection comes about, "dns:SERVER[:PORT]" when the server
// knows the name servers of the root. An IPv6 address with a port stands in brackets.
func ParseReference(s string) (Reference, error) {
	r := Reference{text: s}
	switch {
	case s == "":
		return r, errors.New("empty reference")
	case strings.HasPrefix(s, "http://"):
		return r, fmt.Errorf("reference %q: plain http proves little, a captive portal answers it too: use https", s)
	case strings.HasPrefix(s, "https://"):
		u, err := url.Parse(s)
		if err != nil {
			return r, fmt.Errorf("reference %q: not a URL", s)
		}
		if err := (Target{URL: u}).Validate(); err != nil {
			return r, fmt.Errorf("reference %q: %w", s, err)
		}
		r.scheme, r.url = "https", u
		r.address = net.JoinHostPort(u.Hostname(), portOf(u))
	case strings.HasPrefix(s, "dns:"):
		address, err := dialAddress(&url.URL{Host: "unused:53"}, strings.TrimPrefix(s, "dns:"))
		if err != nil || s == "dns:" {
			return r, fmt.Errorf("reference %q: want dns:SERVER or dns:SERVER:PORT, an IPv6 address with a port in brackets", s)
		}
		r.scheme, r.address = "dns", address
	default:
		address, err := dialAddress(&url.URL{Scheme: "https", Host: "unused"}, s)
		if err != nil || !hasPort(s) {
			return r, fmt.Errorf("reference %q: want https://HOST, HOST:PORT or dns:SERVER, an IPv6 address with a port in brackets", s)
		}
		r.scheme, r.address = "tcp", address
	}
	host, _, _ := net.SplitHostPort(r.address)
	if ip, err := netip.ParseAddr(host); err == nil {
		r.literal = ip.Unmap()
	}
	return r, nil
}

// DefaultReferences are five per family, all of different operators, none at OVH, over three different protocols.
// All are literal addresses: a dead resolver is not a dead uplink. Two outages at once leave a majority.
func DefaultReferences() []string {
	return []string{
		"https://1.1.1.1/",   // Cloudflare: its certificate carries the address
		"https://8.8.8.8/",   // Google, likewise
		"9.9.9.9:443",        // Quad9
		"dns:208.67.222.222", // Cisco OpenDNS
		"dns:74.82.42.42",    // Hurricane Electric

		"https://[2606:4700:4700::1111]/",
		"https://[2001:4860:4860::8888]/",
		"[2620:fe::fe]:443",
		"dns:2620:119:35::35",
		"dns:2001:470:20::2",
	}
}

// over reports whether the reference can be asked over a family: a literal address over its own, a name over both.
func (r Reference) over(v6 bool) bool {
	return !r.literal.IsValid() || r.literal.Is4() != v6
}

// errNoAddress: the name has no address in the family asked for, which says nothing of the uplink.
var errNoAddress = errors.New("the name has no address of this family")

// ask asks the reference over one family.
func (r Reference) ask(ctx context.Context, v6 bool, timeout time.Duration) error {
	suffix := "4"
	if v6 {
		suffix = "6"
	}
	var err error
	switch r.scheme {
	case "https":
		got := Check(ctx, Target{URL: r.url, Network: "tcp" + suffix, Timeout: timeout, Roots: r.Roots})
		switch {
		case got.Status != 0:
		case got.noAddress:
			err = errNoAddress
		default:
			err = errors.New(got.Detail)
		}
		return err
	case "dns":
		err = askDNS(ctx, "udp"+suffix, r.address)
	default:
		err = askTCP(ctx, "tcp"+suffix, r.address)
	}
	if isNoAddress(err) {
		return errNoAddress
	}
	if err != nil {
		e := explainer{address: r.address, timeout: timeout}
		return errors.New(e.explain(phaseConnect, err).detail)
	}
	return nil
}

// isNoAddress tells "has none" from "could not be resolved".
func isNoAddress(err error) bool {
	if addr, ok := errors.AsType[*net.AddrError](err); ok {
		return strings.HasPrefix(addr.Err, "no suitable address")
	}
	resolve, ok := errors.AsType[*net.DNSError](err)
	return ok && resolve.IsNotFound
}

func askTCP(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// askDNS asks for the name servers of the root, which every resolver knows. The answer must hold some: a home box
// that intercepts port 53 answers SERVFAIL when its line is down.
func askDNS(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The client below knows deadlines, not cancellation.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	query := new(dns.Msg)
	query.SetQuestion(".", dns.TypeNS)
	query.SetEdns0(1232, false) // the full answer is longer than 512 bytes
	// Datagrams get lost: ask again once, half-way.
	wait := 2 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	client := &dns.Client{Timeout: wait / 2}
	answer, _, err := client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	if err != nil && ctx.Err() == nil {
		answer, _, err = client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("DNS answer %s", dns.RcodeToString[answer.Rcode])
	}
	for _, rr := range append(answer.Answer, answer.Ns...) {
		if rr.Header().Rrtype == dns.TypeNS {
			return nil
		}
	}
	return errors.New("DNS answer without the name servers of the root")
}
