package dnsworld_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"releve/test/dnsworld"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T) (*dnsworld.Server, string) {
	t.Helper()
	zone := dnsworld.Zone{
		Origin: "example.net", Serial: 7, TTL: 3600, NameServers: []string{"ns1.example.net", "127.0.0.1:53"},
		Records: []dnsworld.Record{
			{Name: "", Type: "A", TTL: 60, Target: "192.0.2.1"},
			{Name: "www", Type: "A", TTL: 60, Target: "192.0.2.1"},
			{Name: "www", Type: "A", TTL: 60, Target: "192.0.2.2"},
			{Name: "www", Type: "AAAA", TTL: 60, Target: "2001:db8::1"},
			{Name: "blog", Type: "CNAME", TTL: 60, Target: "www"},
			{Name: "a.b", Type: "TXT", TTL: 60, Target: "hello world"},
			{Name: "*.wild", Type: "A", TTL: 60, Target: "192.0.2.9"},
		},
	}
	s := dnsworld.New(func() []dnsworld.Zone { return []dnsworld.Zone{zone} })
	t.Cleanup(s.Close)
	addr, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return s, addr
}

func ask(t *testing.T, network, addr, name string, qtype, class uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Question[0].Qclass = class
	m.RecursionDesired = false
	reply, _, err := (&dns.Client{Net: network}).Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %s %s: %v", network, name, dns.TypeToString[qtype], err)
	}
	return reply
}

func TestAnswers(t *testing.T) {
	_, addr := serve(t)
	tests := []struct {
		name  string
		qtype uint16
		rcode int
		want  []string // data of the answers
		soa   bool     // in the authority section
	}{
		{"example.net.", dns.TypeA, dns.RcodeSuccess, []string{"192.0.2.1"}, false},
		{"WWW.example.NET.", dns.TypeA, dns.RcodeSuccess, []string{"192.0.2.1", "192.0.2.2"}, false},
		{"www.example.net.", dns.TypeAAAA, dns.RcodeSuccess, []string{"2001:db8::1"}, false},
		{"www.example.net.", dns.TypeMX, dns.RcodeSuccess, nil, true},
		{"blog.example.net.", dns.TypeAAAA, dns.RcodeSuccess, []string{"www.example.net.", "2001:db8::1"}, false},
		{"a.b.example.net.", dns.TypeTXT, dns.RcodeSuccess, []string{`"hello world"`}, false},
		{"b.example.net.", dns.TypeTXT, dns.RcodeSuccess, nil, true},
		{"x.wild.example.net.", dns.TypeA, dns.RcodeSuccess, []string{"192.0.2.9"}, false},
		{"nothing.example.net.", dns.TypeA, dns.RcodeNameError, nil, true},
		{"example.net.", dns.TypeNS, dns.RcodeSuccess, []string{"ns1.example.net.", "ns2.example.net."}, false},
		{"example.net.", dns.TypeSOA, dns.RcodeSuccess, []string{"ns1.example.net. tech.example.net. 7 86400 3600 3600000 60"}, false},
		{"example.org.", dns.TypeA, dns.RcodeRefused, nil, false},
	}
	for _, tc := range tests {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(fmt.Sprint(network, " ", tc.name, dns.TypeToString[tc.qtype]), func(t *testing.T) {
				r := ask(t, network, addr, tc.name, tc.qtype, dns.ClassINET)
				if r.Rcode != tc.rcode || r.Authoritative != (tc.rcode != dns.RcodeRefused) || r.RecursionAvailable {
					t.Errorf("header %v", r.MsgHdr)
				}
				var got []string
				for _, rr := range r.Answer {
					got = append(got, rr.String()[len(rr.Header().String()):])
				}
				if fmt.Sprint(got) != fmt.Sprint(tc.want) {
					t.Errorf("answers %q, want %q", got, tc.want)
				}
				if soa := len(r.Ns) == 1 && r.Ns[0].Header().Rrtype == dns.TypeSOA; soa != tc.soa {
					t.Errorf("authority %v", r.Ns)
				}
			})
		}
	}
}

func TestEcho(t *testing.T) {
	s, addr := serve(t)
	s.Echo("myip.test", netip.MustParseAddr("203.0.113.7"))
	s.Echo("whoami.test.", netip.Addr{})
	for _, tc := range []struct {
		name  string
		qtype uint16
		class uint16
		want  string
	}{
		{"myip.test.", dns.TypeA, dns.ClassINET, "203.0.113.7"},
		{"myip.test.", dns.TypeTXT, dns.ClassINET, `"203.0.113.7"`},
		{"myip.test.", dns.TypeTXT, dns.ClassCHAOS, `"203.0.113.7"`},
		{"whoami.test.", dns.TypeA, dns.ClassINET, "127.0.0.1"},
	} {
		r := ask(t, "udp", addr, tc.name, tc.qtype, tc.class)
		if len(r.Answer) != 1 || r.Answer[0].String()[len(r.Answer[0].Header().String()):] != tc.want {
			t.Errorf("%s %s: %v", tc.name, dns.TypeToString[tc.qtype], r.Answer)
		}
	}
	if r := ask(t, "udp", addr, "myip.test.", dns.TypeAAAA, dns.ClassINET); len(r.Answer) != 0 || r.Rcode != dns.RcodeSuccess {
		t.Errorf("AAAA of an IPv4 echo: %v", r)
	}
}

func TestTruncation(t *testing.T) {
	s, addr := serve(t)
	s.LimitUDP(40)
	if r := ask(t, "udp", addr, "www.example.net.", dns.TypeA, dns.ClassINET); !r.Truncated || len(r.Answer) != 0 {
		t.Errorf("udp: %v", r)
	}
	if r := ask(t, "tcp", addr, "www.example.net.", dns.TypeA, dns.ClassINET); r.Truncated || len(r.Answer) != 2 {
		t.Errorf("tcp: %v", r)
	}
}
