package probe_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/internal/probe"
	"releve/test/sites"
)

func startSite(t *testing.T, cfg sites.Config) *sites.Site {
	t.Helper()
	s, err := sites.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func target(t *testing.T, s *sites.Site) probe.Target {
	t.Helper()
	return probe.Target{URL: mustURL(t, s.URL()), Address: s.Addr(), Timeout: 5 * time.Second, Roots: s.CA().Pool()}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func want(t *testing.T, r probe.Result, reason probe.Reason, detail string) {
	t.Helper()
	if r.OK != (reason == "") || r.Reason != reason || !strings.Contains(r.Detail, detail) {
		t.Errorf("got OK %v, reason %q, detail %q; want reason %q, detail with %q", r.OK, r.Reason, r.Detail, reason, detail)
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			s := startSite(t, sites.Config{Plain: scheme == "http"})
			before := time.Now()
			r := probe.Check(t.Context(), target(t, s))
			want(t, r, "", "status 200 from "+s.Addr())
			if r.Status != 200 || r.Remote != s.Addr() || r.Time.Before(before) || r.Time.After(time.Now()) {
				t.Errorf("evidence: %+v", r)
			}
			if r.Connect <= 0 || r.FirstByte <= 0 || r.DNS != 0 || r.Total < r.Connect+r.TLS+r.FirstByte {
				t.Errorf("phases: %+v", r)
			}
			if last := s.Last(); last.Host != "www.example.net" || last.Method != "GET" || last.Header.Get("Accept-Encoding") != "" {
				t.Errorf("request: %+v", last)
			}
			if scheme == "http" {
				if r.Proto != "HTTP/1.1" || r.TLS != 0 || r.Serial != "" || !r.NotAfter.IsZero() {
					t.Errorf("evidence of TLS over plain HTTP: %+v", r)
				}
				return
			}
			leaf := s.Certificate().Leaf
			sum := sha256.Sum256(leaf.Raw)
			if r.Proto != "HTTP/2.0" || r.TLS <= 0 || r.Serial != leaf.SerialNumber.Text(16) || !r.NotAfter.Equal(leaf.NotAfter) ||
				r.Fingerprint != hex.EncodeToString(sum[:]) || s.Last().ServerName != "www.example.net" {
				t.Errorf("evidence of TLS: %+v", r)
			}
		})
	}
}

// Whatever the server does, the check says so in one word, in time, and takes no more than it needs.
func TestFaults(t *testing.T) {
	t.Parallel()
	const timeout = 700 * time.Millisecond
	for _, c := range []struct {
		name   string
		fault  sites.Fault
		reason probe.Reason
		detail string // over https
	}{
		{"hang", sites.Hang, probe.ReasonTimeout, "did not finish the TLS handshake within 700ms"},
		{"mute", sites.Mute, probe.ReasonTimeout, "did not answer within 700ms"},
		{"reset", sites.Reset, probe.ReasonReset, "the connection"}, // in the handshake, or already while connecting
		{"drip header", sites.DripHeader, probe.ReasonTimeout, "did not answer within 700ms"},
		{"drip body", sites.DripBody, probe.ReasonTimeout, "began to answer and was not done within 700ms"},
		{"endless header", sites.EndlessHeader, probe.ReasonStatus, "header"},
		{"10 GB", sites.Flood, probe.ReasonNone, "status 200"},
		{"cut body", sites.CutBody, probe.ReasonReset, "broke off in the middle of its answer"},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(c.name+" over "+scheme, func(t *testing.T) {
				t.Parallel()
				s := startSite(t, sites.Config{Plain: scheme == "http"})
				s.SetFault(c.fault)
				tg := target(t, s)
				tg.Timeout = timeout
				begin := time.Now()
				r := probe.Check(t.Context(), tg)
				took := time.Since(begin)
				detail := c.detail
				if scheme == "http" {
					detail = ""
				}
				want(t, r, c.reason, detail)
				if c.reason == probe.ReasonTimeout && took < timeout-time.Millisecond {
					t.Errorf("gave up after %v", took)
				}
				if took > timeout+500*time.Millisecond {
					t.Errorf("took %v with a timeout of %v", took, timeout)
				}
				// What we read, and what the two kernels hold on the way.
				if sent := s.Sent(); sent > 512<<10 {
					t.Errorf("the server sent %d bytes", sent)
				}
				// The verdict is about now: a cured server is well at once.
				s.SetFault(sites.Healthy)
				tg.Timeout = 5 * time.Second
				want(t, probe.Check(t.Context(), tg), "", "")
			})
		}
	}
}

// rawServer answers each connection by f, in clear.
func rawServer(t *testing.T, f func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// readRequest takes what has come of a request, so that closing does not reset.
func readRequest(conn net.Conn) {
	conn.Read(make([]byte, 4096)) //nolint:errcheck // whatever came
}

func TestBrokenServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		reason probe.Reason
		detail string
	}{
		{"closes at once", func(net.Conn) {}, probe.ReasonReset, ""},
		{"closes without a word", readRequest, probe.ReasonReset, "closed the connection without an answer"},
		{"speaks SSH", func(c net.Conn) { readRequest(c); io.WriteString(c, "SSH-2.0-OpenSSH_9.2p1\r\n") }, probe.ReasonStatus, "malformed HTTP"},
		{"closes within the headers", func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nA: b") }, probe.ReasonReset, "without an answer"},
		{"1xx without end", func(c net.Conn) {
			readRequest(c)
			for range 10_000 {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); err != nil {
					return
				}
			}
		}, probe.ReasonStatus, ""},
		{"malformed chunk", func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nZZ\r\n")
		}, probe.ReasonReset, "broke off"},
		{"body until the connection ends", func(c net.Conn) { readRequest(c); io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nwelcome") }, probe.ReasonNone, "status 200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tg := probe.Target{URL: mustURL(t, "http://www.example.net/"), Address: rawServer(t, c.serve), Timeout: 2 * time.Second}
			for range 100 { // the two ends race
				want(t, probe.Check(t.Context(), tg), c.reason, c.detail)
			}
		})
	}
}

func TestConnecting(t *testing.T) {
	t.Parallel()
	s := startSite(t, sites.Config{})
	stopped := startSite(t, sites.Config{})
	stopped.Stop()
	for _, c := range []struct {
		name, address string
		reason        probe.Reason
		detail        string
	}{
		{"nobody listens", stopped.Addr(), probe.ReasonRefused, stopped.Addr() + " refused the connection"},
		{"no answer to SYN", fullBacklog(t), probe.ReasonTimeout, "no connection to 127.0.0.1:"},
		// TCP to the broadcast address is refused by our own kernel, before any packet.
		{"no route", "255.255.255.255:443", probe.ReasonUnreachable, "no way to 255.255.255.255:443: network is unreachable"},
		{"unknown name", "prod.invalid:443", probe.ReasonDNS, "resolve prod.invalid:443: "},
		{"no port", s.Addr() + "0000", probe.ReasonUnreachable, "is not a port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tg := target(t, s)
			tg.Address, tg.Timeout = c.address, 500*time.Millisecond
			begin := time.Now()
			want(t, probe.Check(t.Context(), tg), c.reason, c.detail)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("port of the URL", func(t *testing.T) {
		tg := target(t, s)
		_, port, _ := net.SplitHostPort(s.Addr())
		tg.URL, tg.Address = mustURL(t, "https://www.example.net:"+port+"/"), "127.0.0.1"
		want(t, probe.Check(t.Context(), tg), "", "")
	})
	t.Run("family forced", func(t *testing.T) {
		tg := target(t, s)
		tg.Network = "tcp6"
		if r := probe.Check(t.Context(), tg); r.OK {
			t.Error("an IPv4 address was reached over IPv6")
		}
	})
}

// The family is that of the address: the two are two questions.
func TestFamiliesApart(t *testing.T) {
	t.Parallel()
	answers := func(network, address string) string {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
		go server.Serve(ln) //nolint:errcheck // it ends with the test
		t.Cleanup(func() { server.Close() })
		return ln.Addr().String()
	}
	four := answers("tcp4", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(four)
	tg := probe.Target{URL: mustURL(t, "http://www.example.net/"), Address: four, Timeout: 2 * time.Second}
	want(t, probe.Check(t.Context(), tg), "", "from 127.0.0.1:")
	tg.Address = "[::1]:" + port
	if r := probe.Check(t.Context(), tg); r.OK {
		t.Errorf("IPv4 answered for IPv6: %+v", r)
	}
	tg.Address = answers("tcp6", "[::1]:0")
	want(t, probe.Check(t.Context(), tg), "", "from [::1]:")
}

// fullBacklog listens, but its queue is full: the kernel ignores every further SYN, like a host that is switched off.
func fullBacklog(t *testing.T) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 8 {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue does not fill")
	return ""
}

// A name that an attacker or a proxy controls must not decide where a check goes.
func TestNoProxyNoReuse(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	s := startSite(t, sites.Config{})
	remotes := map[string]bool{}
	for range 3 {
		want(t, probe.Check(t.Context(), target(t, s)), "", "")
		remotes[s.Last().Remote] = true
	}
	if len(remotes) != 3 {
		t.Errorf("3 checks came over %d connections", len(remotes))
	}
}

func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	s := startSite(t, sites.Config{})
	for _, f := range []sites.Fault{sites.Healthy, sites.Reset, sites.CutBody, sites.EndlessHeader, sites.Mute} {
		s.SetFault(f)
		tg := target(t, s)
		tg.Timeout = 300 * time.Millisecond
		tg.URL = mustURL(t, "https://owner:hunter2@www.example.net/health/hunter2?token=hunter2")
		if r := probe.Check(t.Context(), tg); strings.Contains(fmt.Sprintf("%+v", r), "hunter2") {
			t.Errorf("fault %d: %+v", f, r)
		}
	}
	if got := s.Last().Header.Get("Authorization"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("user information was not sent: %q", got)
	}
}

func TestStoppedByCaller(t *testing.T) {
	t.Parallel()
	for _, f := range []sites.Fault{sites.Hang, sites.Mute, sites.DripBody} {
		s := startSite(t, sites.Config{})
		s.SetFault(f)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		begin := time.Now()
		r := probe.Check(ctx, target(t, s))
		if r.OK || r.Reason != "" || r.Detail != "stopped before the verdict" || time.Since(begin) > 2*time.Second {
			t.Errorf("fault %d: %+v after %v", f, r, time.Since(begin))
		}
	}
	// A deadline of the caller's is as good as the timeout.
	s := startSite(t, sites.Config{})
	s.SetFault(sites.Hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	want(t, probe.Check(ctx, target(t, s)), probe.ReasonTimeout, "")
}

func TestNoDescriptorLeak(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a finalizer would close what we forgot
	s := startSite(t, sites.Config{})
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc/self/fd")
		}
		return len(entries)
	}
	ill := []sites.Fault{sites.Healthy, sites.Reset, sites.CutBody, sites.EndlessHeader, sites.Flood, sites.Hang}
	check := func(rounds int) {
		for range rounds {
			for _, f := range ill {
				s.SetFault(f)
				tg := target(t, s)
				tg.Timeout = 100 * time.Millisecond
				probe.Check(t.Context(), tg)
			}
			s.SetFault(sites.Healthy)
			distrustful := target(t, s)
			distrustful.Roots = nil // breaks off the handshake
			probe.Check(t.Context(), distrustful)
		}
		s.SetFault(sites.Healthy) // and its side of the connections is closed
	}
	check(1)
	before := open()
	check(8)
	deadline := time.After(2 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for open() > before+2 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d descriptors before, %d after", before, open())
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, address, want string }{
		{"https://www.example.net/", "", ""},
		{"https://www.example.net/", "203.0.113.10", ""},
		{"https://www.example.net/", "203.0.113.10:8443", ""},
		{"https://www.example.net/", "2001:db8::10", ""},
		{"https://www.example.net/", "[2001:db8::10]", ""},
		{"https://www.example.net/", "[2001:db8::10]:8443", ""},
		{"https://www.example.net/", "fe80::1%eth0", ""},
		{"https://www.example.net/", "home.example.net", ""},
		{"https://www.example.net/", "home.example.net:https", ""},
		{"ftp://www.example.net/", "", `URL scheme "ftp": neither http nor https`},
		{"https:///", "", "URL without a host"},
		{"https://www.example.net/", "203.0.113.10:0", `address "203.0.113.10:0": "0" is not a port`},
		{"https://www.example.net/", "203.0.113.10:70000", `"70000" is not a port`},
		{"https://www.example.net/", "https://203.0.113.10", `neither an IP address nor HOST:PORT`},
		{"https://www.example.net/", "a:b:c", `address "a:b:c": neither an IP address nor HOST:PORT`},
		{"https://www.example.net/", ":443", `neither an IP address nor HOST:PORT`},
	} {
		err := probe.Target{URL: mustURL(t, c.url), Address: c.address}.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s at %q: %v", c.url, c.address, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s at %q: %v, want %q", c.url, c.address, err, c.want)
		}
	}
	if r := probe.Check(t.Context(), probe.Target{}); r.OK || r.Reason == "" {
		t.Errorf("an empty target passed: %+v", r)
	}
}
