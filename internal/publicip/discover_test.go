package publicip_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"releve/internal/publicip"
)

// echo serves body over HTTP.
func echo(t *testing.T, status int, body string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // the client has gone
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// nameServer answers every query by f on a free UDP port of host.
func nameServer(t *testing.T, host string, f dns.HandlerFunc) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("no %s here: %v", host, err)
	}
	started, done := make(chan struct{}), make(chan struct{})
	server := &dns.Server{PacketConn: conn, Handler: f, NotifyStartedFunc: func() { close(started) }}
	go func() { defer close(done); server.ActivateAndServe() }() //nolint:errcheck // ends by Shutdown
	<-started
	t.Cleanup(func() { server.Shutdown(); <-done }) //nolint:errcheck // it runs
	return conn.LocalAddr().String()
}

// records answers with records in master-file form, and checks the question.
func records(t *testing.T, question string, lines ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		got := fmt.Sprintf("%s %s %s", q.Question[0].Name, dns.ClassToString[q.Question[0].Qclass], dns.TypeToString[q.Question[0].Qtype])
		if got != question {
			t.Errorf("asked for %q, want %q", got, question)
		}
		m := new(dns.Msg).SetReply(q)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				t.Error(err)
				continue
			}
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m) //nolint:errcheck // the client has gone
	}
}

// udpServer answers every datagram by f; an empty answer is silence.
func udpServer(t *testing.T, f func(request []byte) []byte) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := f(buf[:n]); len(reply) > 0 {
				conn.WriteTo(reply, from) //nolint:errcheck // the client has gone
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

func natpmp(result byte, a, b, c, d byte) func([]byte) []byte {
	return func(request []byte) []byte {
		if len(request) != 2 || request[0] != 0 || request[1] != 0 {
			return nil
		}
		return []byte{0, 128, 0, result, 0, 0, 0, 1, a, b, c, d}
	}
}

const description = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3f</controlURL></service></serviceList>
<deviceList><device><deviceList><device><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL> %s </controlURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>`

// router speaks the HTTP half of UPnP; address is what it says its outside address is.
func router(t *testing.T, control, address string) (hostPort string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /root.xml", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, description, control) })
	mux.HandleFunc("POST /igdupnp/control/WANIPConn1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		const action = `urn:schemas-upnp-org:service:WANIPConnection:1#GetExternalIPAddress`
		if r.Header.Get("SOAPAction") != `"`+action+`"` || !strings.Contains(string(body), "<u:GetExternalIPAddress ") {
			t.Errorf("SOAP action %q, body %s", r.Header.Get("SOAPAction"), body)
		}
		fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:GetExternalIPAddressResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">
<NewExternalIPAddress>%s</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>`, address)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func ssdp(location string) func([]byte) []byte {
	return func(request []byte) []byte {
		if !strings.HasPrefix(string(request), "M-SEARCH * HTTP/1.1\r\n") || !strings.Contains(string(request), `MAN: "ssdp:discover"`) {
			return nil
		}
		return []byte("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: " + location + "\r\n\r\n")
	}
}

func one(t *testing.T, f publicip.Family, text string) publicip.Answer {
	t.Helper()
	s, err := publicip.ParseSource(text)
	if err != nil {
		t.Fatal(err)
	}
	r := publicip.Discover(t.Context(), f, []publicip.Source{s})
	if len(r.Answers) != 1 || r.Answers[0].Source != text || r.Agreed {
		t.Fatalf("%s: %+v", text, r)
	}
	return r.Answers[0]
}

func TestSources(t *testing.T) {
	t.Parallel()
	fritz := router(t, "/igdupnp/control/WANIPConn1", "5.6.7.8")
	offline := router(t, "/igdupnp/control/WANIPConn1", "")
	elsewhere := router(t, "http://192.0.2.1/steal", "5.6.7.8")
	lost := 2
	for _, c := range []struct {
		name   string
		family publicip.Family
		source string
		want   string // "" = an error
		err    string
	}{
		{"HTTP", 4, echo(t, 200, "5.6.7.8"), "5.6.7.8", ""},
		{"HTTP with a newline", 4, echo(t, 200, " 5.6.7.8\r\n"), "5.6.7.8", ""},
		{"HTTP, mapped", 4, echo(t, 200, "::ffff:5.6.7.8"), "5.6.7.8", ""},
		{"HTTP, other family", 4, echo(t, 200, "2a01:cb00::1"), "", "not an IPv4 address: 2a01:cb00::1"},
		{"HTTP, bot wall", 4, echo(t, 403, "5.6.7.8"), "", "status 403"},
		{"HTTP, captive portal", 4, echo(t, 200, "<html><h1>Welcome to Hotel 5.6.7.8 …</h1></html>"), "", `answer "<html><h1>`},
		{"HTTP, a megabyte", 4, echo(t, 200, strings.Repeat("5", 1<<20)), "", "longer than 64 KiB"},
		{"HTTP, empty", 4, echo(t, 200, ""), "", `answer "" is not an address`},

		{"DNS A", 4, "dns:myip.example.net@" + nameServer(t, "127.0.0.1", records(t, "myip.example.net. IN A", "myip.example.net. 0 A 5.6.7.8")), "5.6.7.8", ""},
		{"DNS TXT CH", 4, "dns:whoami.cloudflare@" + nameServer(t, "127.0.0.1", records(t, "whoami.cloudflare. CH TXT", `whoami.cloudflare. 0 CH TXT "5.6.7.8"`)) + "/TXT/CH", "5.6.7.8", ""},
		{"DNS TXT with a hint", 4, "dns:o.example.net@" + nameServer(t, "127.0.0.1", records(t, "o.example.net. IN TXT", `o.example.net. 0 TXT "5.6.7.8"`, `o.example.net. 0 TXT "edns0-client-subnet 81.2.0.0/16"`)) + "/TXT", "5.6.7.8", ""},
		{"DNS AAAA", 6, "dns:myip.example.net@" + nameServer(t, "::1", records(t, "myip.example.net. IN AAAA", "myip.example.net. 0 AAAA 2a01:cb00::1")), "2a01:cb00::1", ""},
		{"DNS, two addresses", 4, "dns:m.example.net@" + nameServer(t, "127.0.0.1", records(t, "m.example.net. IN A", "m.example.net. 0 A 5.6.7.8", "m.example.net. 0 A 5.6.7.9")), "", "two addresses in one answer"},
		{"DNS, none", 4, "dns:m.example.net@" + nameServer(t, "127.0.0.1", records(t, "m.example.net. IN A")), "", "no IPv4 address in the answer"},
		{"DNS, refused", 4, "dns:m.example.net@" + nameServer(t, "127.0.0.1", func(w dns.ResponseWriter, q *dns.Msg) {
			w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) //nolint:errcheck // the client has gone
		}), "", "DNS answer REFUSED"},

		{"NAT-PMP", 4, "natpmp:" + udpServer(t, natpmp(0, 5, 6, 7, 8)), "5.6.7.8", ""},
		{"NAT-PMP, two datagrams lost", 4, "natpmp:" + udpServer(t, func(request []byte) []byte {
			if lost--; lost >= 0 {
				return nil
			}
			return natpmp(0, 5, 6, 7, 8)(request)
		}), "5.6.7.8", ""},
		{"NAT-PMP, off line", 4, "natpmp:" + udpServer(t, natpmp(0, 0, 0, 0, 0)), "", "no outside address at present"},
		{"NAT-PMP, not authorised", 4, "natpmp:" + udpServer(t, natpmp(2, 5, 6, 7, 8)), "", "result code 2"},
		{"NAT-PMP, PCP only", 4, "natpmp:" + udpServer(t, func([]byte) []byte { return []byte{2, 128, 0, 1} }), "", "speaks version 2"},
		{"NAT-PMP, nobody", 4, "natpmp:" + closedUDP(t), "", "refused"},

		{"FRITZ!Box", 4, "fritzbox:" + fritz, "5.6.7.8", ""},
		{"FRITZ!Box off line", 4, "fritzbox:" + offline, "", "no outside address at present"},
		{"not a FRITZ!Box", 4, "fritzbox:" + strings.TrimPrefix(echo(t, 200, "hello"), "http://"), "", "no NewExternalIPAddress"},
		{"UPnP", 4, "upnp:" + udpServer(t, ssdp("http://"+fritz+"/root.xml")), "5.6.7.8", ""},
		{"UPnP, description elsewhere", 4, "upnp:" + udpServer(t, ssdp("http://192.0.2.1/root.xml")), "", "names no description on the router"},
		{"UPnP, control elsewhere", 4, "upnp:" + udpServer(t, ssdp("http://"+elsewhere+"/root.xml")), "", "leads to another host"},
		{"UPnP, no description", 4, "upnp:" + udpServer(t, ssdp("http://"+fritz+"/gone.xml")), "", "status 404"},
		{"UPnP, garbage", 4, "upnp:" + udpServer(t, func([]byte) []byte { return []byte("garbage") }), "", "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := one(t, c.family, c.source)
			switch {
			case c.want != "" && (a.Err != nil || a.Address.String() != c.want):
				t.Errorf("got %s, %v; want %s", a.Address, a.Err, c.want)
			case c.want == "" && (a.Err == nil || a.Address.IsValid() || !strings.Contains(a.Err.Error(), c.err)):
				t.Errorf("got %s, %v; want error %q", a.Address, a.Err, c.err)
			}
		})
	}
}

func closedUDP(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

func sources(t *testing.T, texts ...string) []publicip.Source {
	t.Helper()
	out := make([]publicip.Source, len(texts))
	for i, text := range texts {
		s, err := publicip.ParseSource(text)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = s
	}
	return out
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	a := "dns:m.example.net@" + nameServer(t, "127.0.0.1", records(t, "m.example.net. IN A", "m.example.net. 0 A 5.6.7.8"))
	b := "dns:m.example.net@" + nameServer(t, "127.0.0.2", records(t, "m.example.net. IN A", "m.example.net. 0 A 5.6.7.8"))
	again := "dns:m.example.net@" + nameServer(t, "127.0.0.1", records(t, "m.example.net. IN A", "m.example.net. 0 A 5.6.7.8"))
	liar := "dns:m.example.net@" + nameServer(t, "127.0.0.3", records(t, "m.example.net. IN A", "m.example.net. 0 A 66.6.6.6"))
	box := "natpmp:" + udpServer(t, natpmp(0, 5, 6, 7, 8))
	cgnat := "natpmp:" + udpServer(t, natpmp(0, 100, 64, 0, 7))
	for _, c := range []struct {
		name    string
		sources []string
		agreed  bool
		why     string
	}{
		{"two operators", []string{a, b}, true, "5.6.7.8, according to 127.0.0.1, 127.0.0.2"},
		{"one operator at two ports", []string{a, again}, false, "only 127.0.0.1 said 5.6.7.8"},
		{"an echo and the box", []string{a, box}, true, "127.0.0.1, router"},
		{"a liar among them", []string{liar, a, b}, true, "5.6.7.8"},
		{"a liar against one", []string{liar, a}, false, "disagree"},
		{"carrier-grade NAT", []string{a, b, cgnat}, false, "carrier-grade NAT"},
		{"nobody", nil, false, "no source"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := publicip.Discover(t.Context(), publicip.IPv4, sources(t, c.sources...))
			if r.Agreed != c.agreed || r.Address.IsValid() != c.agreed || !strings.Contains(r.Why, c.why) {
				t.Errorf("%+v", r)
			}
			if c.agreed && r.Address != netip.MustParseAddr("5.6.7.8") {
				t.Errorf("address %s", r.Address)
			}
		})
	}
	// Routers and IPv4 servers know nothing of our IPv6 address: they are not asked, rather than wrong.
	if r := publicip.Discover(t.Context(), publicip.IPv6, sources(t, a, b, box)); len(r.Answers) != 0 || r.Agreed {
		t.Errorf("IPv6: %+v", r)
	}
}

func TestTLSSource(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "5.6.7.8") }))
	t.Cleanup(s.Close)
	src := sources(t, s.URL)
	if r := publicip.Discover(t.Context(), publicip.IPv4, src); r.Answers[0].Err == nil {
		t.Error("an unknown authority was trusted")
	}
	src[0].Roots = x509.NewCertPool()
	src[0].Roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if r := publicip.Discover(t.Context(), publicip.IPv4, src); r.Answers[0].Err != nil {
		t.Error(r.Answers[0].Err)
	}
}

func TestNoRedirectNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	to := echo(t, 200, "5.6.7.8")
	s := httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
	t.Cleanup(s.Close)
	if a := one(t, publicip.IPv4, s.URL); a.Err == nil || !strings.Contains(a.Err.Error(), "status 302") {
		t.Errorf("%+v", a)
	}
	if a := one(t, publicip.IPv4, to); a.Err != nil {
		t.Error(a.Err)
	}
}

// An echo that listens on IPv4 alone must not be asked over it for our IPv6 address, whatever it would say.
func TestFamilyIsForced(t *testing.T) {
	t.Parallel()
	local := strings.Replace(echo(t, 200, "2a01:cb00::1"), "127.0.0.1", "localhost", 1)
	if a := one(t, publicip.IPv6, local); a.Err == nil {
		t.Errorf("IPv6 was asked for over IPv4: %+v", a)
	}
}

func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	text := "http://" + closedUDP(t) + "/ip?token=hunter2" // nobody listens over TCP either
	if a := one(t, publicip.IPv4, text); a.Err == nil || strings.Contains(a.Err.Error(), "hunter2") {
		t.Errorf("error: %v", a.Err)
	}
}

// No connection is kept: rounds are minutes apart, and an address may have changed in between.
func TestNothingIsKept(t *testing.T) {
	t.Parallel()
	idle := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.Close {
			idle <- struct{}{}
		}
		io.WriteString(w, "5.6.7.8") //nolint:errcheck // the client has gone
	}))
	t.Cleanup(s.Close)
	if a := one(t, publicip.IPv4, s.URL); a.Err != nil || len(idle) > 0 {
		t.Errorf("asked to keep the connection %d times; %+v", len(idle), a)
	}
}

// Sources that never answer cost 3 s together, whatever their kind, and nothing once the caller gives up.
func TestDiscoverIsBounded(t *testing.T) {
	t.Parallel()
	mute := func([]byte) []byte { return nil }
	tcp, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its queue, and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	dripping := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "5.6.") //nolint:errcheck // the client has gone
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(dripping.Close)
	src := sources(t, "dns:m.example.net@"+udpServer(t, mute), "natpmp:"+udpServer(t, mute), "upnp:"+udpServer(t, mute),
		"http://"+tcp.Addr().String()+"/", "fritzbox:"+tcp.Addr().String(), dripping.URL,
		"upnp:"+udpServer(t, ssdp("http://"+tcp.Addr().String()+"/root.xml")))

	begin := time.Now()
	r := publicip.Discover(t.Context(), publicip.IPv4, src)
	if took := time.Since(begin); took > 4*time.Second || took < time.Second {
		t.Errorf("took %v", took)
	}
	for _, a := range r.Answers {
		if a.Err == nil {
			t.Errorf("%s answered %s", a.Source, a.Address)
		}
	}
	if r.Why != "none of 7 sources answered" {
		t.Errorf("why: %s", r.Why)
	}

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin = time.Now()
	publicip.Discover(ctx, publicip.IPv4, src)
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("cancelled, and took %v", took)
	}
}

func TestDefaultGateway(t *testing.T) {
	t.Parallel()
	const heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	for _, c := range []struct{ name, routes, want string }{
		{"one", "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\neth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n", "192.168.1.1"},
		{"least metric", "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\neth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "192.168.1.1"},
		{"half the world over a VPN is not a default route", "tun0\t00000000\t0100000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n", ""},
		{"down", "eth0\t00000000\t0101A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0\n", ""},
		{"none", "", ""},
	} {
		got, err := publicip.DefaultGateway(heading + c.routes)
		if c.want == "" != (err != nil) || err == nil && got.String() != c.want {
			t.Errorf("%s: %s, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestStableIPv6(t *testing.T) {
	t.Parallel()
	const (
		loopback  = "00000000000000000000000000000001 01 80 10 80       lo\n"
		link      = "fe80000000000000000000fffe000001 02 40 20 80     eth0\n"
		local     = "fd000000000000000000000000000002 02 40 00 82     eth0\n"
		temporary = "2a01cb0000000000aaaaaaaaaaaaaaaa 02 40 00 01     eth0\n"
		old       = "2a01cb0000000000bbbbbbbbbbbbbbbb 02 40 00 20     eth0\n"
		tentative = "2a01cb0000000000cccccccccccccccc 02 40 00 c0     eth0\n"
		derived   = "2a01cb00000000000211223344556677 02 40 00 00     eth0\n"
		byHand    = "2a01cb00000000000000000000000080 02 40 00 80     eth0\n"
	)
	const (
		tunnel = "2a0e9999000000000000000000000001 03 40 00 80      wg0\n"
		dmz    = "2a01cb00000000000000000000000099 04 40 00 80      dmz\n"
	)
	for _, c := range []struct{ name, table, iface, want string }{
		{"derived", loopback + link + local + temporary + old + tentative + derived, "", "2a01:cb00::211:2233:4455:6677"},
		{"by hand first", derived + byHand, "", "2a01:cb00::80"},
		{"another network's comes first", tunnel + temporary + derived, "", "2a01:cb00::211:2233:4455:6677"},
		{"another network's alone", tunnel + temporary, "", ""},
		{"none stable", loopback + link + local + temporary + old + tentative, "", ""},
		{"on the interface", dmz + byHand, "eth0", "2a01:cb00::80"},
		{"on the other interface", byHand + dmz, "dmz", "2a01:cb00::99"},
		{"not on this interface", byHand + tunnel, "wg0", ""},
		{"no such interface", byHand, "eth1", ""},
		{"garbage", "zz\n\n1 2 3 4 5 6\n", "", ""},
	} {
		got, err := publicip.StableIPv6(c.table, netip.MustParseAddr("2a01:cb00::aaaa:aaaa:aaaa:aaaa"), c.iface)
		if c.want == "" != (err != nil) || err == nil && got.String() != c.want {
			t.Errorf("%s: %s, %v; want %q", c.name, got, err, c.want)
		}
	}
	joined, err := publicip.WithSuffix(netip.MustParseAddr("2a01:cb00:1:2:aaaa::1"), netip.MustParseAddr("::80"))
	if err != nil || joined.String() != "2a01:cb00:1:2::80" {
		t.Errorf("joined %s, %v", joined, err)
	}
	if _, err := publicip.WithSuffix(netip.MustParseAddr("5.6.7.8"), netip.MustParseAddr("::80")); err == nil {
		t.Error("an IPv4 address has a prefix")
	}
}

// What a router sends is not to be trusted to be well formed.
func FuzzRouterAnswers(f *testing.F) {
	f.Add([]byte{0, 128, 0, 0, 0, 0, 0, 1, 5, 6, 7, 8})
	f.Add([]byte(fmt.Sprintf(description, "/c")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := publicip.ParseNATPMP(data); err == nil && !a.Is4() {
			t.Errorf("NAT-PMP gave %s", a)
		}
		if service, control, err := publicip.WANService(data); err == nil && (service == "" || control == "") {
			t.Error("a service without a name or a control URL")
		}
	})
}
