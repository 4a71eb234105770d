package sshjump

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Kind says what has to be done about an [Error].
type Kind int

const (
	// Network: the hop cannot be reached, does not answer, or the connection was
	// lost. Trying again may help.
	Network Kind = iota + 1
	// HostKey: the hop is not known, is not the one that was known, or the
	// known_hosts files cannot be used. A human has to look.
	HostKey
	// Auth: the hop refused our key. Do not try again at once: OpenSSH (since
	// 9.8, PerSourcePenalties) locks out the addresses of those who insist, so
	// wait for 30 seconds at least.
	Auth
	// Forward: the hop before this one refused to connect to it, or could not.
	Forward
	// Key: a private key cannot be read, is encrypted, or is open to others.
	Key
	// Protocol: the hop does not speak SSH as we do, or refuses a request.
	Protocol
)

// String returns the words by which errors name the kind.
func (k Kind) String() string {
	switch k {
	case Network:
		return "network"
	case HostKey:
		return "host key"
	case Auth:
		return "authentication"
	case Forward:
		return "forwarding"
	case Key:
		return "private key"
	case Protocol:
		return "protocol"
	default:
		return fmt.Sprintf("kind %d", int(k))
	}
}

// Error tells which hop failed, and why. Every error of [Dialer.Dial],
// [Conn.Subsystem] and [Conn.Err] that concerns a hop is one.
type Error struct {
	Hop     int    // index of the hop
	Name    string // its name, if it was given one
	Address string // its HOST:PORT
	Kind    Kind
	Err     error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s: %v", describe(e.Name, e.Address), e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrSilent is the cause when the last hop answered no keepalive request.
var ErrSilent = errors.New("no answer to keepalive requests")

func describe(name, address string) string {
	if name == "" {
		return address
	}
	return fmt.Sprintf("%s (%s)", name, address)
}

// HostKeyError is the cause of an [Error] of Kind [HostKey] when a host offered
// a key that no known_hosts file holds for it.
type HostKeyError struct {
	Address string        // HOST:PORT, as looked up
	Offered ssh.PublicKey // what the host offered
	Files   []string      // where we looked
	Changed bool          // another key is known, at File and Line
	File    string
	Line    int
	Known   ssh.PublicKey // the key at File and Line
	err     error
}

func (e *HostKeyError) Error() string {
	offered := fingerprint(e.Offered)
	if e.Changed {
		return fmt.Sprintf("it offered %s, but %s:%d says %s: either its key was changed or somebody stands in between; "+
			"if it was changed, replace that line by: %s", offered, e.File, e.Line, fingerprint(e.Known), e.line())
	}
	return fmt.Sprintf("it offered %s, and %s has no key for it; once you have checked that fingerprint, run: echo %s >> %s",
		offered, strings.Join(e.Files, ", "), shellQuote(e.line()), shellQuote(e.Files[0]))
}

func (e *HostKeyError) Unwrap() error { return e.err }

func fingerprint(key ssh.PublicKey) string {
	return key.Type() + " " + ssh.FingerprintSHA256(key)
}

// shellQuote quotes s for sh(1) if it holds anything out of the ordinary.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// withPort adds the port of SSH to an address that has none.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), "22")
}
