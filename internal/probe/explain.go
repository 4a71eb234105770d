package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errClosedEarly stands for a connection that the server closed without an answer.
var errClosedEarly = errors.New("connection closed without an answer")

// phase is how far an exchange had come when it broke.
type phase int

const (
	phaseConnect phase = iota
	phaseTLS
	phaseRequest // sent, and not a byte has come back
	phaseAnswer
	phaseBody
)

// explainer turns an error and the phase it broke into a reason and a sentence.
type explainer struct {
	address string // as dialled
	host    string // of the URL
	timeout time.Duration
}

func (e explainer) explain(p phase, err error) *failure {
	reason := classify(p, err)
	return &failure{reason, e.sentence(p, reason, err)}
}

// classify is the closed set's definition.
func classify(p phase, err error) Reason {
	if _, ok := errors.AsType[*net.DNSError](err); ok && p == phaseConnect {
		return ReasonDNS // also when it timed out: our resolver is slow, not the site
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return ReasonCertificate
	}
	var netErr net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &netErr) && netErr.Timeout():
		return ReasonTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errClosedEarly):
		return ReasonReset
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return ReasonTLS // with TLS 1.3 a server refuses a missing client certificate after the handshake
	}
	switch p {
	case phaseConnect:
		return ReasonUnreachable
	case phaseTLS:
		return ReasonTLS
	case phaseAnswer:
		return ReasonStatus // something came, and it was not HTTP, or more header than we take
	default:
		return ReasonReset // an HTTP/2 stream reset, a malformed chunk, a connection closed before any answer
	}
}

func (e explainer) sentence(p phase, reason Reason, err error) string {
	switch reason {
	case ReasonTimeout:
		did := [...]string{
			phaseConnect: "no connection to %s within %s",
			phaseTLS:     "%s accepted the connection and did not finish the TLS handshake within %s",
			phaseRequest: "%s accepted the connection and did not answer within %s",
			phaseAnswer:  "%s accepted the connection and did not answer within %s",
			phaseBody:    "%s began to answer and was not done within %s",
		}[p]
		return fmt.Sprintf(did, e.address, e.timeout)
	case ReasonDNS:
		return fmt.Sprintf("resolve %s: %s", e.address, innermost(err))
	case ReasonRefused:
		return e.address + " refused the connection"
	case ReasonReset:
		did := [...]string{
			phaseConnect: "%s reset the connection at once",
			phaseTLS:     "%s closed the connection during the TLS handshake",
			phaseRequest: "%s closed the connection without an answer",
			phaseAnswer:  "%s closed the connection without an answer",
			phaseBody:    "%s broke off in the middle of its answer",
		}[p]
		return fmt.Sprintf(did, e.address)
	case ReasonCertificate:
		return fmt.Sprintf("certificate presented by %s for %s: %s", e.address, e.host, certificateFault(err))
	case ReasonTLS:
		return fmt.Sprintf("TLS handshake with %s: %s", e.address, innermost(err))
	case ReasonStatus:
		return fmt.Sprintf("answer of %s: %s", e.address, innermost(err))
	default:
		return fmt.Sprintf("no way to %s: %s", e.address, innermost(err))
	}
}

// certificateFault says the commonest faults in fewer words than crypto/x509.
func certificateFault(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && invalid.Cert != nil {
		if now := time.Now(); now.Before(invalid.Cert.NotBefore) {
			return fmt.Sprintf("not valid before %s (is this machine's clock right?)", day(invalid.Cert.NotBefore))
		}
		return "expired on " + day(invalid.Cert.NotAfter)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "signed by an authority not trusted here"
	}
	return strings.TrimPrefix(innermost(err), "x509: ")
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// innermost is the cause without the "dial tcp 192.0.2.1:443: connect:" that the sentence says already.
func innermost(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			break
		}
		err = next
	}
	if dns, ok := err.(*net.DNSError); ok {
		return dns.Err
	}
	return strings.TrimPrefix(err.Error(), "net/http: ")
}

// wrongStatus names where a redirect leads, by host alone: paths and queries may hold secrets.
func (t Target) wrongStatus(resp *http.Response) string {
	want := "200"
	if len(t.Status) > 0 {
		words := make([]string, len(t.Status))
		for i, s := range t.Status {
			words[i] = strconv.Itoa(s)
		}
		want = strings.Join(words, " or ")
	}
	s := fmt.Sprintf("status %d instead of %s", resp.StatusCode, want)
	if to, err := resp.Location(); err == nil {
		s += fmt.Sprintf(" (a redirect to %s://%s, not followed)", to.Scheme, to.Host)
	}
	return s
}

func describeBody(n int) string {
	if n == BodyLimit {
		return "first 64 KiB of its body"
	}
	return fmt.Sprintf("%d bytes of its body", n)
}
