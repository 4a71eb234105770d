// Package probe asks one question of one address: does the site answer there as it should? A target goes in, a
// verdict with its evidence comes out. It also asks the reference points that tell a dead site from a dead uplink and,
// for those who want that, points all over the world whether they reach a site that we do not (Globalping's API,
// https://globalping.io/docs/api.globalping.io).
//
// A check is one HTTP(S) exchange on one fresh connection: no proxy, no re-use, no redirect unless asked for. The
// connection goes to a given address while Host and SNI (RFC 6066) stay those of the URL, because after a switch the
// name leads to ourselves. Names are verified as RFC 9525 says, by crypto/x509.
//
// Whatever the far side does, a check costs at most its timeout, 64 KiB of headers and 64 KiB of body.
package probe

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// BodyLimit is how much of a body is read and matched, in bytes.
	BodyLimit = 64 << 10
	// headerLimit bounds the headers of an answer, in bytes. Real sites stay far below 16 KiB.
	headerLimit = 64 << 10
	// maxRedirects bounds a chain of redirects, where they are followed at all.
	maxRedirects = 5
	// defaultTimeout stands in for a Timeout left at zero, so that no check is ever unbounded.
	defaultTimeout = 10 * time.Second
)

// Target says what to ask, where, and which answer is right.
type Target struct {
	// URL is asked for with GET; http or https. Its host is the Host header, the SNI and the name that the
	// certificate must carry, whatever Address says. User information in it is sent as basic authentication.
	URL *url.URL
	// Address is dialled instead of the URL's host: an IP address or a name, with or without a port. Without a
	// port, the URL's; empty, the URL's host. With a literal address the family is that of the address.
	Address string
	// Network forces the family where Address is a name: "tcp4" or "tcp6". Empty means either.
	Network string
	// Timeout bounds the whole check, name resolution included; 10 s when zero.
	Timeout time.Duration
	// Status lists the right status codes; empty means 200 alone.
	Status []int
	// Body, if set, must match within the first BodyLimit bytes of the body, as sent (no compression is asked for).
	Body *regexp.Regexp
	// Roots are the trusted certificate authorities; nil means the system's. See SystemRootsPlus.
	Roots *x509.CertPool
	// FollowRedirects follows up to five redirects that stay on the URL's host and on the address dialled. Any
	// other redirect is an answer like any other, judged by its status.
	FollowRedirects bool
}

// Reason is why a check failed, from a closed set; the values are fit for a metric's label.
type Reason string

// The reasons. A check that passed, or that was stopped by its caller, has none.
const (
	ReasonNone        Reason = ""
	ReasonTimeout     Reason = "timeout"     // not done within Target.Timeout, in whatever phase
	ReasonDNS         Reason = "dns"         // Address is a name and could not be resolved: says nothing of the site
	ReasonRefused     Reason = "refused"     // nobody listens there
	ReasonReset       Reason = "reset"       // the connection was closed before the answer was complete
	ReasonUnreachable Reason = "unreachable" // no way to the address, or no connection for another cause
	ReasonTLS         Reason = "tls"         // the handshake failed
	ReasonCertificate Reason = "certificate" // wrong name, expired, or of an authority not trusted here
	ReasonStatus      Reason = "status"      // not a right status, or no HTTP at all
	ReasonBody        Reason = "body"        // Target.Body did not match
)

// Reasons lists every reason a failed check can have.
func Reasons() []Reason {
	return []Reason{ReasonTimeout, ReasonDNS, ReasonRefused, ReasonReset, ReasonUnreachable, ReasonTLS,
		ReasonCertificate, ReasonStatus, ReasonBody}
}

// Result is the verdict of one check and its evidence.
type Result struct {
	Time   time.Time // when the check began
	OK     bool
	Reason Reason
	Detail string // one sentence for a human, without a full stop; never holds the URL's path, query or user

	Remote string // the address reached, IP:PORT; empty when no connection came about
	Status int    // 0 when no HTTP answer came
	Proto  string // "HTTP/1.1", "HTTP/2.0"; empty when no HTTP answer came

	// Of the certificate presented, verified or not. Zero without TLS, and where the handshake broke off before it.
	NotAfter    time.Time
	Serial      string // hexadecimal
	Fingerprint string // SHA-256 of the leaf certificate, hexadecimal

	// How long each phase of the last exchange took; zero for those not reached. FirstByte counts from the
	// moment the connection was ready, Total is that of the whole check.
	DNS, Connect, TLS, FirstByte, Total time.Duration

	noAddress bool // the name has no address of the family asked for
}

// Validate says what Check could not work with.
func (t Target) Validate() error {
	if t.URL == nil {
		return errors.New("no URL")
	}
	if t.URL.Scheme != "http" && t.URL.Scheme != "https" {
		return fmt.Errorf("URL scheme %q: neither http nor https", t.URL.Scheme)
	}
	if t.URL.Hostname() == "" {
		return errors.New("URL without a host")
	}
	switch t.Network {
	case "", "tcp", "tcp4", "tcp6":
	default:
		return fmt.Errorf("network %q: none of tcp, tcp4, tcp6", t.Network)
	}
	_, err := dialAddress(t.URL, t.Address)
	return err
}

// Check asks the target once and judges the answer. It never returns later than Target.Timeout, but for scheduling.
//
// Should ctx be cancelled meanwhile, the result is not OK and has no reason: it says nothing of the site. A deadline
// of ctx earlier than the timeout counts as the timeout. Safe for concurrent use.
func Check(ctx context.Context, t Target) Result {
	r := Result{Time: time.Now()}
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	checkCtx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()

	fail := t.run(checkCtx, &r)
	r.Total = time.Since(r.Time)
	switch {
	case fail == nil:
		r.OK = true
		r.Detail = fmt.Sprintf("status %d from %s", r.Status, r.Remote)
	case errors.Is(ctx.Err(), context.Canceled):
		r.Detail = "stopped before the verdict"
	default:
		r.Reason, r.Detail = fail.reason, fail.detail
	}
	return r
}

// failure is what a phase hands up instead of an error: the verdict is made where the phase is known.
type failure struct {
	reason Reason
	detail string
}

func (t Target) run(ctx context.Context, r *Result) *failure {
	if err := t.Validate(); err != nil {
		return &failure{ReasonUnreachable, err.Error()}
	}
	u := t.URL
	for hop := 0; ; hop++ {
		next, fail := t.exchange(ctx, u, r)
		if fail != nil || next == nil {
			return fail
		}
		if hop == maxRedirects {
			return &failure{ReasonStatus, fmt.Sprintf("more than %d redirects", maxRedirects)}
		}
		u = next
	}
}

// exchange does one request on one connection. It returns the URL to ask next where a redirect is to be followed.
func (t Target) exchange(ctx context.Context, u *url.URL, r *Result) (*url.URL, *failure) {
	*r = Result{Time: r.Time} // evidence of an earlier hop must not pass for that of the last

	address, err := dialAddress(u, t.Address)
	if err != nil {
		return nil, &failure{ReasonUnreachable, err.Error()}
	}
	e := explainer{address: address, host: u.Hostname(), timeout: t.Timeout}

	conn, err := t.connect(ctx, address, r)
	if err != nil {
		r.noAddress = isNoAddress(err)
		return nil, e.explain(phaseConnect, err)
	}
	// Closing the connection ends whatever the HTTP transport still runs on it.
	defer conn.Close()
	r.Remote = conn.RemoteAddr().String()

	if u.Scheme == "https" {
		if conn, err = t.secure(ctx, conn, u.Hostname(), r); err != nil {
			return nil, e.explain(phaseTLS, err)
		}
	}

	resp, err := t.ask(ctx, u, conn, r)
	if err != nil {
		if r.FirstByte == 0 {
			return nil, e.explain(phaseRequest, err)
		}
		return nil, e.explain(phaseAnswer, err)
	}
	defer resp.Body.Close()
	r.Status, r.Proto = resp.StatusCode, resp.Proto

	if t.FollowRedirects {
		if next := redirect(resp, t.Address); next != nil {
			return next, nil
		}
	}
	if !t.right(resp.StatusCode) {
		return nil, &failure{ReasonStatus, t.wrongStatus(resp)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, BodyLimit))
	if err != nil {
		return nil, e.explain(phaseBody, err)
	}
	if t.Body != nil && !t.Body.Match(body) {
		return nil, &failure{ReasonBody, fmt.Sprintf("status %d, but %q matches nowhere in the %s",
			resp.StatusCode, t.Body, describeBody(len(body)))}
	}
	return nil, nil
}

// connect opens the TCP connection and times it, name resolution apart.
func (t Target) connect(ctx context.Context, address string, r *Result) (net.Conn, error) {
	network := t.Network
	if network == "" {
		network = "tcp"
	}
	// The hooks run in the dialling goroutine, which may outlive an abandoned dial: hence atomics.
	var dnsStart, dns atomic.Int64
	begin := time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { dnsStart.Store(int64(time.Since(begin))) },
		DNSDone:  func(httptrace.DNSDoneInfo) { dns.Store(int64(time.Since(begin)) - dnsStart.Load()) },
	})
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	r.DNS = time.Duration(dns.Load())
	if err != nil {
		return nil, err
	}
	r.Connect = time.Since(begin) - r.DNS
	// A server that sends 10 GB fills the kernel's buffer too, which grows to megabytes when left alone.
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetReadBuffer(BodyLimit) //nolint:errcheck // without it we read the same, the far side sends a little more
	}
	return conn, nil
}

// secure does the TLS handshake. The certificate's dates are reported even where it is refused: "expired when?" is
// the owner's next question.
func (t Target) secure(ctx context.Context, conn net.Conn, host string, r *Result) (net.Conn, error) {
	begin := time.Now()
	secured := tls.Client(conn, &tls.Config{
		ServerName: host,
		RootCAs:    t.Roots,
		NextProtos: []string{"h2", "http/1.1"},
	})
	err := secured.HandshakeContext(ctx)
	chain := secured.ConnectionState().PeerCertificates
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		chain = refused.UnverifiedCertificates
	}
	if len(chain) > 0 {
		sum := sha256.Sum256(chain[0].Raw)
		r.NotAfter = chain[0].NotAfter
		r.Serial = chain[0].SerialNumber.Text(16)
		r.Fingerprint = hex.EncodeToString(sum[:])
	}
	if err != nil {
		return nil, err
	}
	r.TLS = time.Since(begin)
	return secured, nil
}

// ask sends the request on conn, and on nothing else, and returns once the headers have come.
func (t Target) ask(ctx context.Context, u *url.URL, conn net.Conn, r *Result) (*http.Response, error) {
	var used atomic.Bool
	dial := func(context.Context, string, string) (net.Conn, error) {
		if used.Swap(true) {
			// The transport retries on a new connection where the first one closed before any answer.
			return nil, errClosedEarly
		}
		return conn, nil
	}
	transport := &http.Transport{
		DialContext:            dial,
		DialTLSContext:         dial,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: headerLimit,
		// Otherwise the transport reads up to 4 MiB ahead of us.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: BodyLimit, MaxReceiveBufferPerConnection: BodyLimit},
	}
	defer transport.CloseIdleConnections()

	begin := time.Now()
	var first atomic.Int64
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotFirstResponseByte: func() { first.CompareAndSwap(0, int64(time.Since(begin))) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "releve-probe")
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	// Not http.Client: it would follow redirects and keep cookies.
	resp, err := transport.RoundTrip(req)
	r.FirstByte = time.Duration(first.Load())
	return resp, err
}

func (t Target) right(status int) bool {
	if len(t.Status) == 0 {
		return status == http.StatusOK
	}
	return slices.Contains(t.Status, status)
}

// redirect returns where resp leads, if that is on the same host and can be asked at the same address.
func redirect(resp *http.Response, address string) *url.URL {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	next, err := resp.Location()
	if err != nil {
		return nil
	}
	here := resp.Request.URL
	if next.Scheme != "http" && next.Scheme != "https" || !strings.EqualFold(next.Hostname(), here.Hostname()) {
		return nil
	}
	if next.Scheme == "http" && here.Scheme == "https" {
		return nil // an answer in clear proves nothing
	}
	// A port given with the address is where the site is published (a forwarded port, say): no other can stand in.
	if hasPort(address) && (portOf(next) != portOf(here) || next.Scheme != here.Scheme) {
		return nil
	}
	next.User = here.User
	return next
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

func hasPort(address string) bool {
	_, _, err := net.SplitHostPort(address)
	return err == nil
}

// dialAddress joins address, in any of the forms that Target allows, with what it leaves to the URL.
func dialAddress(u *url.URL, address string) (string, error) {
	if address == "" {
		return net.JoinHostPort(u.Hostname(), portOf(u)), nil
	}
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")); err == nil {
		return net.JoinHostPort(ip.Unmap().String(), portOf(u)), nil
	}
	host, port := address, portOf(u)
	if strings.Contains(address, ":") {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", fmt.Errorf("address %q: neither an IP address nor HOST:PORT", address)
		}
		if n, err := net.LookupPort("tcp", port); (err != nil || n == 0) && !strings.Contains(port, "/") {
			return "", fmt.Errorf("address %q: %q is not a port", address, port)
		}
	}
	if host == "" || strings.ContainsAny(host+port, " /[]") {
		return "", fmt.Errorf("address %q: neither an IP address nor HOST:PORT", address)
	}
	return net.JoinHostPort(host, port), nil
}

// SystemRootsPlus returns the system's certificate authorities and those in pem beside them. A pem without a
// certificate is an error: it would silently trust less than its owner meant.
func SystemRootsPlus(pem []byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		// No system store at all: the extra ones are still worth having.
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("read certificate authorities: no certificate in PEM form found")
	}
	return pool, nil
}
