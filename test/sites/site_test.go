package sites_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"releve/test/sites"
)

func start(t *testing.T, cfg sites.Config) *sites.Site {
	t.Helper()
	s, err := sites.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// get asks the site once, on a connection of its own.
func get(t *testing.T, s *sites.Site, timeout time.Duration) (*http.Response, string, error) {
	t.Helper()
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.Addr())
		},
		TLSClientConfig:   &tls.Config{RootCAs: s.CA().Pool()},
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
	}}
	resp, err := client.Get(s.URL())
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, string(body), err
}

func TestSiteLivesAndDies(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := sites.Start(sites.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	resp, body, err := get(t, s, 5*time.Second)
	if err != nil || resp.StatusCode != 200 || body != "ok\n" || resp.ProtoMajor != 2 {
		t.Fatalf("healthy: %v %q %v", resp, body, err)
	}
	if last := s.Last(); last.Host != "www.example.net" || last.ServerName != "www.example.net" {
		t.Errorf("last request = %+v", last)
	}
	s.Answer(503, "sorry")
	if resp, body, err = get(t, s, 5*time.Second); err != nil || resp.StatusCode != 503 || body != "sorry" {
		t.Fatalf("answer 503: %v %q %v", resp, body, err)
	}
	address := s.Addr()
	s.Stop()
	if _, _, err = get(t, s, 5*time.Second); err == nil {
		t.Fatal("a stopped site answers")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if resp, _, err = get(t, s, 5*time.Second); err != nil || resp.StatusCode != 503 || s.Addr() != address {
		t.Fatalf("resumed: %v %v at %s", resp, err, s.Addr())
	}
	if s.Requests() != 3 {
		t.Errorf("requests = %d, want 3", s.Requests())
	}
}

// Every fault must keep a plain client from a whole answer, and Healthy must cure it.
func TestFaults(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, plain := range []bool{false, true} {
		s, err := sites.Start(sites.Config{Plain: plain})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, f := range []sites.Fault{sites.Hang, sites.Mute, sites.Reset, sites.DripHeader, sites.DripBody, sites.EndlessHeader, sites.CutBody} {
			s.SetFault(f)
			if resp, body, err := get(t, s, 300*time.Millisecond); err == nil {
				t.Errorf("plain %v, fault %d: got %s %q", plain, f, resp.Status, body)
			}
		}
		s.SetFault(sites.Flood)
		if resp, body, err := get(t, s, 10*time.Second); err != nil || len(body) != 1<<20 || resp.ContentLength != 10_000_000_000 {
			t.Errorf("plain %v, flood: %v, %d bytes, %v", plain, resp, len(body), err)
		}
		s.SetFault(sites.Healthy)
		if resp, _, err := get(t, s, 5*time.Second); err != nil || resp.StatusCode != 200 {
			t.Errorf("plain %v, cured: %v %v", plain, resp, err)
		}
	}
}

// A site can be stopped whatever it is doing at the time.
func TestStopWhileIll(t *testing.T) {
	defer goleak.VerifyNone(t)
	for f := sites.Healthy; f <= sites.CutBody; f++ {
		s, err := sites.Start(sites.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s.SetFault(f)
		done := make(chan struct{})
		go func() { defer close(done); get(t, s, 5*time.Second) }() //nolint:errcheck // ill
		deadline := time.After(3 * time.Second)
		tick := time.NewTicker(time.Millisecond)
		for s.Requests() == 0 && f != sites.Hang && f != sites.Reset {
			select {
			case <-deadline:
				t.Fatalf("fault %d: no request came", f)
			case <-tick.C:
			}
		}
		tick.Stop()
		s.Stop()
		select {
		case <-done:
		case <-deadline:
			t.Fatalf("fault %d: the client still waits after Stop", f)
		}
	}
}

func TestCertificates(t *testing.T) {
	s := start(t, sites.Config{Names: []string{"www.example.net", "127.0.0.1"}})
	if err := s.Certify([]string{"www.example.net"}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(t, s, 5*time.Second); err == nil {
		t.Error("an expired certificate was accepted")
	}
	if err := s.Certify([]string{"other.example.net"}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(t, s, 5*time.Second); err == nil {
		t.Error("another name's certificate was accepted")
	}
	if err := s.Certify([]string{"www.example.net"}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(t, s, 5*time.Second); err != nil {
		t.Error(err)
	}
	leaf, chain, key, err := sites.PEM(s.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(append(leaf, chain...), key); err != nil {
		t.Error(err)
	}
}
