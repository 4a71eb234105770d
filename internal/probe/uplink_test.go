package probe_test

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"releve/internal/probe"
	"releve/test/sites"
)

func references(t *testing.T, texts ...string) []probe.Reference {
	t.Helper()
	refs := make([]probe.Reference, len(texts))
	for i, s := range texts {
		ref, err := probe.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		refs[i] = ref
	}
	return refs
}

// nameServer answers every query by f on a free UDP port of host.
func nameServer(t *testing.T, host string, f func(w dns.ResponseWriter, q *dns.Msg)) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("no %s here: %v", host, err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(f), NotifyStartedFunc: func() { close(started) }}
	done := make(chan struct{})
	go func() { defer close(done); server.ActivateAndServe() }() //nolint:errcheck // ends by Shutdown
	<-started
	t.Cleanup(func() { server.Shutdown(); <-done }) //nolint:errcheck // it runs
	return conn.LocalAddr().String()
}

func rootServers(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Answer = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: "a.root-servers.net."}}
	w.WriteMsg(m) //nolint:errcheck // the client has gone
}

func refuse(w dns.ResponseWriter, q *dns.Msg) {
	w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)) //nolint:errcheck // the client has gone
}

func TestReferences(t *testing.T) {
	t.Parallel()
	s := startSite(t, sites.Config{Names: []string{"127.0.0.1"}})
	s.Answer(404, "no such page")
	wrong := startSite(t, sites.Config{Names: []string{"portal.example.net"}})
	stopped := startSite(t, sites.Config{})
	stopped.Stop()
	mute := startSite(t, sites.Config{Names: []string{"127.0.0.1"}})
	mute.SetFault(sites.Mute)
	silent := rawServer(t, func(c net.Conn) { readRequest(c) })

	lost := make(chan struct{}, 1)
	lost <- struct{}{}
	for _, c := range []struct {
		name, ref string
		ok        bool
		detail    string
	}{
		{"any HTTP answer will do", "https://" + s.Addr() + "/", true, ""},
		{"not the certificate of the reference", "https://" + wrong.Addr() + "/", false, "certificate"},
		{"TLS but no HTTP answer", "https://" + mute.Addr() + "/", false, "did not answer"},
		{"no TLS", "https://" + silent + "/", false, ""},
		{"a connection will do", silent, true, ""},
		{"refused", stopped.Addr(), false, stopped.Addr() + " refused the connection"},
		{"switched off", fullBacklog(t), false, "no connection to"},
		{"DNS", "dns:" + nameServer(t, "127.0.0.1", rootServers), true, ""},
		{"DNS, the first datagram lost", "dns:" + nameServer(t, "127.0.0.1", func(w dns.ResponseWriter, q *dns.Msg) {
			select {
			case <-lost:
			default:
				rootServers(w, q)
			}
		}), true, ""},
		{"a box that intercepts DNS, its line down", "dns:" + nameServer(t, "127.0.0.1", refuse), false, "SERVFAIL"},
		{"DNS without what was asked for", "dns:" + nameServer(t, "127.0.0.1", func(w dns.ResponseWriter, q *dns.Msg) {
			w.WriteMsg(new(dns.Msg).SetReply(q)) //nolint:errcheck // the client has gone
		}), false, "without the name servers"},
		{"DNS server silent", "dns:" + nameServer(t, "127.0.0.1", func(dns.ResponseWriter, *dns.Msg) {}), false, "within 400ms"},
		{"nobody at the DNS port", "dns:" + stopped.Addr(), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			refs := references(t, c.ref)
			refs[0].Roots = s.CA().Pool()
			if c.name == "TLS but no HTTP answer" {
				refs[0].Roots = mute.CA().Pool()
			}
			begin := time.Now()
			r := probe.Uplink(t.Context(), refs, 400*time.Millisecond)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("took %v", took)
			}
			if len(r.Details) != 1 || r.OK != c.ok || r.Details[0].OK != c.ok || r.Asked != 1 || !strings.Contains(r.Details[0].Detail, c.detail) {
				t.Errorf("%+v, want OK %v and %q", r, c.ok, c.detail)
			}
			if r.IPv6 != probe.Unknown {
				t.Errorf("IPv6 is %s, and nobody was asked", r.IPv6)
			}
		})
	}
}

// A home whose IPv6 is dead learns nothing over IPv6, and everything over IPv4.
func TestFamilies(t *testing.T) {
	t.Parallel()
	v4 := nameServer(t, "127.0.0.1", rootServers)
	v6 := nameServer(t, "::1", rootServers)
	dead6 := nameServer(t, "::1", func(dns.ResponseWriter, *dns.Msg) {})

	r := probe.Uplink(t.Context(), references(t, "dns:"+v4, "dns:"+dead6), 200*time.Millisecond)
	if !r.OK || r.IPv4 != probe.Up || r.IPv6 != probe.Down || r.Answered != 1 || r.Asked != 2 {
		t.Errorf("IPv6 dead: %+v", r)
	}
	r = probe.Uplink(t.Context(), references(t, "dns:"+v4, "dns:"+v6), time.Second)
	if !r.OK || r.IPv4 != probe.Up || r.IPv6 != probe.Up || r.Answered != 2 {
		t.Errorf("both well: %+v", r)
	}
	// A name is asked over both families. This one does not exist: that is not the uplink's fault, nor its merit.
	r = probe.Uplink(t.Context(), references(t, "no-such-host.invalid:443", "dns:"+v4), time.Second)
	if len(r.Details) != 3 || !r.OK {
		t.Errorf("a name: %+v", r)
	}
	if r := probe.Uplink(t.Context(), nil, time.Second); r.OK || r.IPv4 != probe.Unknown {
		t.Errorf("no reference: %+v", r)
	}
}

// Many slow references cost no more than one: they are asked at once.
func TestUplinkIsBounded(t *testing.T) {
	t.Parallel()
	var texts []string
	for range 10 {
		texts = append(texts, "dns:"+nameServer(t, "127.0.0.1", func(dns.ResponseWriter, *dns.Msg) {}))
	}
	texts = append(texts, "dns:"+nameServer(t, "127.0.0.1", rootServers))
	refs := references(t, texts...)
	begin := time.Now()
	if r := probe.Uplink(t.Context(), refs, 300*time.Millisecond); r.OK || r.IPv4 != probe.Down || r.Asked != 11 || r.Answered != 1 {
		t.Errorf("%+v", r)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin = time.Now()
	probe.Uplink(ctx, refs, 10*time.Second)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("cancelled, and took %v", took)
	}
}

// Properties of the count, asserted against the answers alone.
func TestMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		details := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) probe.ReferenceResult {
			skipped := rapid.Bool().Draw(t, "skipped")
			return probe.ReferenceResult{IPv6: rapid.Bool().Draw(t, "v6"), Skipped: skipped, OK: !skipped && rapid.Bool().Draw(t, "ok")}
		}), 0, 12).Draw(t, "answers")
		r := probe.Judge(slices.Clone(details))

		for _, v6 := range []bool{false, true} {
			state, well, ill := r.IPv4, 0, 0
			if v6 {
				state = r.IPv6
			}
			for _, d := range details {
				if d.IPv6 == v6 && !d.Skipped && d.OK {
					well++
				}
				if d.IPv6 == v6 && !d.Skipped && !d.OK {
					ill++
				}
			}
			if (state == probe.Up) != (well > ill) {
				t.Fatalf("%d well, %d ill, and the state is %s", well, ill, state)
			}
			if (state == probe.Unknown) != (well+ill == 0) {
				t.Fatalf("%d asked, and the state is %s", well+ill, state)
			}
		}
		if r.OK != (r.IPv4 == probe.Up || r.IPv6 == probe.Up) {
			t.Fatalf("OK is %v with %s and %s", r.OK, r.IPv4, r.IPv6)
		}
	})
}

func TestParseReference(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://www.example.net/":        "",
		"https://[2001:db8::1]:8443/path": "",
		"www.example.net:443":             "",
		"192.0.2.1:443":                   "",
		"[2001:db8::1]:443":               "",
		"dns:192.0.2.1":                   "",
		"dns:192.0.2.1:5353":              "",
		"dns:2001:db8::1":                 "",
		"dns:[2001:db8::1]:53":            "",
		"dns:ns1.example.net":             "",

		"":                       "empty reference",
		"http://www.example.net": "captive portal",
		"https://":               "without a host",
		"www.example.net":        `reference "www.example.net": want https://HOST, HOST:PORT or dns:SERVER`,
		"192.0.2.1":              "want https://HOST, HOST:PORT or dns:SERVER",
		"2001:db8::1":            "in brackets",
		"192.0.2.1:99999":        "want https://HOST",
		"dns:":                   "want dns:SERVER",
		"dns:192.0.2.1:0":        "want dns:SERVER",
		"dns:a b":                "want dns:SERVER",
		"ftp://192.0.2.1":        "want https://HOST",
		"https://a b/":           "not a URL",
	} {
		ref, err := probe.ParseReference(text)
		switch {
		case want == "" && (err != nil || ref.String() != text):
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// Two of five may be out at once, in each family; none needs a resolver.
func TestDefaultReferences(t *testing.T) {
	t.Parallel()
	count := map[bool]int{}
	for _, text := range probe.DefaultReferences() {
		if _, err := probe.ParseReference(text); err != nil {
			t.Error(err)
		}
		host := strings.TrimPrefix(text, "dns:")
		if u, err := url.Parse(text); err == nil && u.Scheme == "https" {
			host = u.Hostname()
		} else if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			t.Errorf("%s: not a literal address", text)
			continue
		}
		count[ip.Is6()]++
	}
	if count[false] != 5 || count[true] != 5 {
		t.Errorf("%d of IPv4, %d of IPv6", count[false], count[true])
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range append(probe.DefaultReferences(), "dns:ns1.example.net:53", "[::1", "dns:[", "https://%zz", "a:b:c", "dns::::") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := probe.ParseReference(s)
		if err != nil {
			if !strings.Contains(err.Error(), "reference") {
				t.Errorf("%q: error %q does not say what is wrong", s, err)
			}
			return
		}
		if ref.String() != s {
			t.Errorf("%q became %q", s, ref)
		}
	})
}
