package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// published are the site's addresses as the name server says at this moment: "A 127.0.0.10 ttl 60, …".
func (w *world) published(ctx context.Context) (string, error) {
	var out []string
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := w.lookup(ctx, kind)
		if err != nil {
			return "", err
		}
		for _, rr := range answer {
			switch r := rr.(type) {
			case *dns.A:
				out = append(out, fmt.Sprintf("A %s ttl %d", r.A, r.Hdr.Ttl))
			case *dns.AAAA:
				out = append(out, fmt.Sprintf("AAAA %s ttl %d", r.AAAA, r.Hdr.Ttl))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", "), nil
}

func (w *world) lookup(ctx context.Context, kind uint16) ([]dns.RR, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	question := new(dns.Msg).SetQuestion(dns.Fqdn(siteName), kind)
	answer, err := dns.ExchangeContext(ctx, question, w.nsAddr)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", siteName, err)
	}
	return answer.Answer, nil
}

// visit is what a visitor saw.
type visit struct {
	Address string // which the name led to
	Status  int
	Body    string
	Serial  string // of the certificate, which was verified
	Took    time.Duration
}

// visit opens a page as a browser does: look the name up, connect to what it says, verify the certificate for the
// name. The connection is a real one; only addresses on the internet are translated, as home's router would.
func (w *world) visit(ctx context.Context, path string) (visit, error) {
	began := time.Now()
	answer, err := w.lookup(ctx, dns.TypeA)
	if err != nil {
		return visit{}, err
	}
	var v visit
	for _, rr := range answer {
		if a, ok := rr.(*dns.A); ok {
			v.Address = a.A.String()
		}
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			to, err := w.route(v.Address)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
		TLSClientConfig:   &tls.Config{RootCAs: w.ca.Pool()},
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url(path), nil)
	if err != nil {
		return v, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return v, fmt.Errorf("read %s: %w", w.url(path), err)
	}
	v.Status, v.Body, v.Serial, v.Took = resp.StatusCode, string(text), serialOf(resp.TLS), time.Since(began)
	return v, nil
}

// route says which listener of this world an address on the internet leads to.
func (w *world) route(address string) (string, error) {
	switch a, err := netip.ParseAddr(address); {
	case err != nil:
		return "", errors.New("the name has no address")
	case a == w.home:
		return w.standby.Addr(), nil
	case a.IsLoopback():
		return net.JoinHostPort(address, w.port), nil
	}
	return "", fmt.Errorf("nobody is at %s", address)
}

// standbySerial asks the standby, whatever the name says, for its certificate.
func (w *world) standbySerial(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: w.ca.Pool(), ServerName: siteName}}
	conn, err := dialer.DialContext(ctx, "tcp", w.standby.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	return serialOf(&state), nil
}

func serialOf(state *tls.ConnectionState) string {
	return state.PeerCertificates[0].SerialNumber.Text(16)
}
