// Package dnsworld is an authoritative DNS server (RFC 1034, 1035) for tests
// and the demo. It serves the zones a function gives it, over UDP and TCP, as
// a name server of a DNS host does: with the AA bit, proper negative answers
// and no recursion. It also plays the echo services from which a host learns
// its own public address, and it can fall silent.
package dnsworld

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Record is one record of a zone.
type Record struct {
	Name   string // below the origin, "" at the apex, "*" for a wildcard
	Type   string // "A", "TXT", …
	TTL    uint32 // seconds
	Target string // as in a zone file
}

// Zone is what a name server serves.
type Zone struct {
	Origin      string
	Serial      uint32
	TTL         uint32 // of the SOA, the NS and negative answers, in seconds
	NameServers []string
	Records     []Record
}

// Query is a question that was asked.
type Query struct {
	Client    netip.AddrPort
	Transport string // "udp" or "tcp"
	Name      string
	Type      string
	Recursion bool // the client asked for it
}

// Server is one name server. Its methods are safe for concurrent use.
type Server struct {
	zones func() []Zone

	mu      sync.Mutex
	echo    map[string]netip.Addr
	silent  bool
	lame    bool
	maxUDP  int
	queries []Query
	servers []*dns.Server
	running sync.WaitGroup
}

// New returns a server of the zones that zones returns at each question.
// zones may be nil.
func New(zones func() []Zone) *Server {
	if zones == nil {
		zones = func() []Zone { return nil }
	}
	return &Server{zones: zones, echo: map[string]netip.Addr{}}
}

// Listen serves on address (HOST:PORT, port 0 for any), UDP and TCP on the
// same port, until Close. It may be called several times, for several
// addresses. It returns the address.
func (s *Server) Listen(ctx context.Context, address string) (string, error) {
	var lc net.ListenConfig
	var errs []error
	// A port that is free for TCP may be taken for UDP.
	for range 20 {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return "", fmt.Errorf("listen on %s: %w", address, err)
		}
		bound := l.Addr().String()
		pc, err := lc.ListenPacket(ctx, "udp", bound)
		if err != nil {
			errs = append(errs, err)
			l.Close()
			continue
		}
		s.serve(&dns.Server{Listener: l, Handler: s.handler("tcp")})
		s.serve(&dns.Server{PacketConn: pc, Handler: s.handler("udp")})
		return bound, nil
	}
	return "", fmt.Errorf("listen on %s: %w", address, errors.Join(errs...))
}

func (s *Server) serve(d *dns.Server) {
	ready := make(chan struct{})
	d.NotifyStartedFunc = func() { close(ready) }
	s.mu.Lock()
	s.servers = append(s.servers, d)
	s.mu.Unlock()
	s.running.Go(func() { _ = d.ActivateAndServe() })
	<-ready // so that Close finds it running
}

// Close stops serving and returns when everything has ended.
func (s *Server) Close() {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	s.mu.Unlock()
	for _, d := range servers {
		_ = d.Shutdown()
	}
	s.running.Wait()
}

// Echo makes name answer A, AAAA and TXT questions, in any class, with addr,
// as whoami services do; the zero Addr means the address that asks.
func (s *Server) Echo(name string, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo[dns.CanonicalName(name)] = addr
}

// Silence makes the server swallow questions, or answer them again.
func (s *Server) Silence(on bool) { s.flag(&s.silent, on) }

// Lame takes the AA bit off the answers, as a server that lost its zone.
func (s *Server) Lame(on bool) { s.flag(&s.lame, on) }

func (s *Server) flag(f *bool, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*f = on
}

// LimitUDP cuts answers over UDP at that many bytes; 0 is what the client can take.
func (s *Server) LimitUDP(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxUDP = bytes
}

// Queries returns what was asked so far.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

func (s *Server) handler(transport string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, req *dns.Msg) {
		client, _ := netip.ParseAddrPort(w.RemoteAddr().String())
		client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		s.mu.Lock()
		silent, lame, limit := s.silent, s.lame, s.maxUDP
		if len(req.Question) == 1 {
			q := req.Question[0]
			s.queries = append(s.queries, Query{Client: client, Transport: transport, Name: q.Name, Type: dns.TypeToString[q.Qtype], Recursion: req.RecursionDesired})
		}
		s.mu.Unlock()
		if silent {
			return
		}
		reply := s.answer(req, client.Addr())
		if lame {
			reply.Authoritative = false
		}
		if transport == "udp" {
			size := dns.MinMsgSize
			if opt := req.IsEdns0(); opt != nil {
				size = max(size, int(opt.UDPSize()))
			}
			if limit > 0 {
				size = limit
			}
			cut(reply, size)
		}
		_ = w.WriteMsg(reply)
	}
}

// cut truncates reply to size, below the 512 bytes that the library insists on too.
func cut(reply *dns.Msg, size int) {
	if size < dns.MinMsgSize && reply.Len() > size {
		reply.Answer, reply.Ns, reply.Truncated = nil, nil, true
		return
	}
	reply.Truncate(size)
}

func (s *Server) answer(req *dns.Msg, client netip.Addr) *dns.Msg {
	reply := new(dns.Msg)
	reply.SetReply(req)
	if req.IsEdns0() != nil {
		reply.SetEdns0(1232, false)
	}
	if req.Opcode != dns.OpcodeQuery || len(req.Question) != 1 {
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	}
	q := req.Question[0]
	name := dns.CanonicalName(q.Name)
	s.mu.Lock()
	addr, isEcho := s.echo[name]
	s.mu.Unlock()
	if isEcho {
		if !addr.IsValid() {
			addr = client
		}
		reply.Authoritative = true
		reply.Answer = echoed(q, addr)
		return reply
	}
	if z, ok := s.zoneOf(name); ok && q.Qclass == dns.ClassINET {
		z.answer(reply, name, q.Qtype)
		return reply
	}
	reply.Rcode = dns.RcodeRefused
	return reply
}

func echoed(q dns.Question, addr netip.Addr) []dns.RR {
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass}
	switch {
	case q.Qtype == dns.TypeA && addr.Is4():
		return []dns.RR{&dns.A{Hdr: h, A: addr.AsSlice()}}
	case q.Qtype == dns.TypeAAAA && addr.Is6():
		return []dns.RR{&dns.AAAA{Hdr: h, AAAA: addr.AsSlice()}}
	case q.Qtype == dns.TypeTXT:
		return []dns.RR{&dns.TXT{Hdr: h, Txt: []string{addr.String()}}}
	}
	return nil
}

// zoneOf returns the closest zone above name.
func (s *Server) zoneOf(name string) (best Zone, ok bool) {
	for _, z := range s.zones() {
		if dns.IsSubDomain(dns.Fqdn(z.Origin), name) && (!ok || len(z.Origin) > len(best.Origin)) {
			best, ok = z, true
		}
	}
	return best, ok
}

// answer fills reply from the zone (RFC 1034 §4.3.2, without delegations).
func (z Zone) answer(reply *dns.Msg, name string, qtype uint16) {
	reply.Authoritative = true
	rrs := z.rrs()
	for range 8 { // a chain of CNAMEs, loops included
		at := owned(rrs, name)
		var alias *dns.CNAME
		for _, rr := range at {
			if c, ok := rr.(*dns.CNAME); ok {
				alias = c
			}
			if rr.Header().Rrtype == qtype || qtype == dns.TypeANY {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		if alias == nil || qtype == dns.TypeCNAME || qtype == dns.TypeANY {
			if len(at) == 0 && !exists(rrs, name) {
				reply.Rcode = dns.RcodeNameError
			}
			break
		}
		reply.Answer = append(reply.Answer, alias)
		name = dns.CanonicalName(alias.Target)
		if !dns.IsSubDomain(dns.Fqdn(z.Origin), name) {
			return // someone else's name: the resolver goes on
		}
	}
	if len(reply.Answer) == 0 || reply.Rcode == dns.RcodeNameError {
		reply.Ns = append(reply.Ns, z.soa())
	}
}

// owned returns the records of name, or those of the wildcard that covers it.
func owned(rrs []dns.RR, name string) []dns.RR {
	var at []dns.RR
	for _, rr := range rrs {
		if dns.CanonicalName(rr.Header().Name) == name {
			at = append(at, rr)
		}
	}
	if len(at) > 0 || exists(rrs, name) {
		return at
	}
	_, parent, _ := strings.Cut(name, ".")
	for _, rr := range rrs {
		if dns.CanonicalName(rr.Header().Name) == "*."+parent {
			c := dns.Copy(rr)
			c.Header().Name = name
			at = append(at, c)
		}
	}
	return at
}

// exists reports whether name or anything below it has records.
func exists(rrs []dns.RR, name string) bool {
	for _, rr := range rrs {
		if dns.IsSubDomain(name, dns.CanonicalName(rr.Header().Name)) {
			return true
		}
	}
	return false
}

func (z Zone) soa() dns.RR {
	origin := dns.Fqdn(z.Origin)
	ns := "ns1." + origin
	if names := z.nsNames(); len(names) > 0 {
		ns = names[0]
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: origin, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.TTL},
		Ns:  ns, Mbox: "tech." + origin, Serial: z.Serial,
		Refresh: 86400, Retry: 3600, Expire: 3600000, Minttl: 60,
	}
}

// nsNames is the name servers as names; the tests' servers are addresses with ports.
func (z Zone) nsNames() []string {
	names := make([]string, len(z.NameServers))
	for i, ns := range z.NameServers {
		names[i] = dns.Fqdn(ns)
		if _, err := netip.ParseAddrPort(ns); err == nil {
			names[i] = fmt.Sprintf("ns%d.%s", i+1, dns.Fqdn(z.Origin))
		}
	}
	return names
}

func (z Zone) rrs() []dns.RR {
	origin := dns.Fqdn(z.Origin)
	rrs := []dns.RR{z.soa()}
	for _, ns := range z.nsNames() {
		rrs = append(rrs, &dns.NS{Hdr: dns.RR_Header{Name: origin, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: z.TTL}, Ns: ns})
	}
	for _, r := range z.Records {
		owner := origin
		if r.Name != "" {
			owner = r.Name + "." + origin
		}
		target := r.Target
		if r.Type == "TXT" && !strings.HasPrefix(target, `"`) {
			target = `"` + target + `"`
		}
		// What cannot be parsed is not served, as at a real host.
		if rr, err := dns.NewRR(fmt.Sprintf("$ORIGIN %s\n%s %d IN %s %s", origin, owner, r.TTL, r.Type, target)); err == nil && rr != nil {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}
