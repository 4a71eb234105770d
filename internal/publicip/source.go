package publicip

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"
)

// routerOperator is the operator of all sources that ask the home router: they share one opinion.
const routerOperator = "router"

// Source is one place that can tell our address. It comes from ParseSource.
type Source struct {
	// Roots are the certificate authorities for an https source; nil means the system's.
	Roots *x509.CertPool

	text string
	kind kind
	host string // to be asked, without the port; empty for the default gateway
	port string
	url  *url.URL // http
	name string   // dns: fully qualified
	// dns: what to ask for; TypeNone stands for A or AAAA, by family.
	rrtype, class uint16
}

type kind int

const (
	kindHTTP kind = iota
	kindDNS
	kindNATPMP
	kindUPnP
	kindFritz
)

// String is the source as it was written.
func (s Source) String() string { return s.text }

// Operator names who answers: the registered domain of the host asked ("opendns.com"), its address where it is given
// by address, or "router". Two sources of one operator are one opinion.
func (s Source) Operator() string {
	switch s.kind {
	case kindNATPMP, kindUPnP, kindFritz:
		return routerOperator
	}
	host := strings.ToLower(strings.TrimSuffix(s.host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return domain
	}
	return host // a single label, or a public suffix itself
}

// tells reports whether the source can tell an address of the family: routers know the IPv4 address alone, and a
// server given by address is reached over its own family.
func (s Source) tells(f Family) bool {
	switch s.kind {
	case kindNATPMP, kindUPnP, kindFritz:
		return f == IPv4
	}
	if s.kind == kindDNS && (s.rrtype == dns.TypeA && f == IPv6 || s.rrtype == dns.TypeAAAA && f == IPv4) {
		return false
	}
	if ip, err := netip.ParseAddr(s.host); err == nil {
		return f.has(ip.Unmap())
	}
	return true
}

func (s Source) ask(ctx context.Context, f Family) (netip.Addr, error) {
	switch s.kind {
	case kindHTTP:
		return s.askHTTP(ctx, f)
	case kindDNS:
		return s.askDNS(ctx, f)
	case kindNATPMP:
		return s.askNATPMP(ctx)
	case kindUPnP:
		return s.askUPnP(ctx)
	default:
		return s.askFritz(ctx)
	}
}

// ParseSource reads one of: "https://…" or "http://…" (the body is the address as plain text),
// "dns:NAME@SERVER[:PORT][/TYPE[/CLASS]]" (TYPE is A, AAAA or TXT, by default the family's; CLASS is IN or CH),
// "natpmp:[GATEWAY[:PORT]]", "upnp:[GATEWAY[:PORT]]" (the default gateway when left out) and
// "fritzbox:[HOST[:PORT]]" (fritz.box when left out). An IPv6 address with a port stands in brackets.
func ParseSource(text string) (Source, error) {
	s := Source{text: text}
	scheme, rest, found := strings.Cut(text, ":")
	if !found {
		return s, fmt.Errorf("source %q: want https://HOST, dns:NAME@SERVER, natpmp:, upnp: or fritzbox: as its kind", text)
	}
	var err error
	switch scheme {
	case "http", "https":
		s.kind = kindHTTP
		u, parseErr := url.Parse(text)
		if parseErr != nil || u.Hostname() == "" {
			return s, fmt.Errorf("source %q: not a URL with a host", text)
		}
		s.url, s.host = u, u.Hostname()
	case "dns":
		s.kind = kindDNS
		err = s.parseDNS(rest)
	case "natpmp":
		s.kind = kindNATPMP
		s.host, s.port, err = hostPort(rest, "5351")
		if err == nil && s.host != "" {
			if _, notIP := netip.ParseAddr(s.host); notIP != nil {
				err = errors.New("the gateway must be an address")
			}
		}
	case "upnp":
		s.kind = kindUPnP
		s.host, s.port, err = hostPort(rest, "1900")
		if err == nil && s.host != "" {
			if _, notIP := netip.ParseAddr(s.host); notIP != nil {
				err = errors.New("the gateway must be an address")
			}
		}
	case "fritzbox":
		s.kind = kindFritz
		s.host, s.port, err = hostPort(rest, "49000")
		if s.host == "" {
			s.host = "fritz.box"
		}
	default:
		err = errors.New("want https://HOST, dns:NAME@SERVER, natpmp:, upnp: or fritzbox: as its kind")
	}
	if err == nil && s.Operator() == "" {
		err = errors.New("not a host")
	}
	if err != nil {
		return s, fmt.Errorf("source %q: %w", text, err)
	}
	return s, nil
}

func (s *Source) parseDNS(rest string) error {
	name, server, found := strings.Cut(rest, "@")
	if _, valid := dns.IsDomainName(name); !found || name == "" || !valid {
		return errors.New("want dns:NAME@SERVER")
	}
	s.name = dns.Fqdn(name)
	server, types, _ := strings.Cut(server, "/")
	rrtype, class, _ := strings.Cut(types, "/")
	switch strings.ToUpper(rrtype) {
	case "":
		s.rrtype = dns.TypeNone
	case "A":
		s.rrtype = dns.TypeA
	case "AAAA":
		s.rrtype = dns.TypeAAAA
	case "TXT":
		s.rrtype = dns.TypeTXT
	default:
		return fmt.Errorf("type %q is none of A, AAAA, TXT", rrtype)
	}
	switch strings.ToUpper(class) {
	case "", "IN":
		s.class = dns.ClassINET
	case "CH":
		s.class = dns.ClassCHAOS
	default:
		return fmt.Errorf("class %q is neither IN nor CH", class)
	}
	var err error
	if s.host, s.port, err = hostPort(server, "53"); err == nil && s.host == "" {
		err = errors.New("want dns:NAME@SERVER")
	}
	return err
}

// hostPort reads "", "HOST", "HOST:PORT", "IPV6" or "[IPV6]:PORT".
func hostPort(text, defaultPort string) (host, port string, err error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if _, err := netip.ParseAddr(bare); err == nil {
		return bare, defaultPort, nil
	}
	if !strings.Contains(text, ":") {
		if strings.ContainsAny(text, " /[]@") {
			return "", "", fmt.Errorf("%q is not a host", text)
		}
		return text, defaultPort, nil
	}
	host, port, err = net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", "", fmt.Errorf("%q is neither HOST nor HOST:PORT (an IPv6 address with a port stands in brackets)", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q is not a port", port)
	}
	return host, port, nil
}

// DefaultSources are the built-in ones: the router where there is one that talks, and echoes of different operators
// over DNS and HTTP. All DNS servers are given by address, so that a dead resolver leaves a majority.
func DefaultSources(f Family) []string {
	if f == IPv6 {
		return []string{
			"dns:myip.opendns.com@2620:119:35::35",
			"dns:whoami.cloudflare@2606:4700:4700::1111/TXT/CH",
			"dns:o-o.myaddr.l.google.com@2001:4860:4802:32::a/TXT", // ns1.google.com: resolvers see themselves
			"https://api6.ipify.org/",
			"https://v6.ident.me/",
		}
	}
	return []string{
		"natpmp:",
		"upnp:",
		"dns:myip.opendns.com@208.67.222.222",
		"dns:whoami.cloudflare@1.1.1.1/TXT/CH",
		"dns:o-o.myaddr.l.google.com@216.239.32.10/TXT", // ns1.google.com
		"https://api.ipify.org/",
		"https://checkip.amazonaws.com/",
	}
}
