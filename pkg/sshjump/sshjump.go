// Package sshjump dials SSH servers through any number of jump hosts, as
// ssh -J does: each hop is reached by a direct-tcpip channel (RFC 4254, section
// 7.2) of the hop before it, which also resolves its name.
//
// It is made for programs that run unattended for months:
//
//   - Host keys are verified at every hop against known_hosts files, always;
//     there is no way to turn that off. Algorithms that x/crypto/ssh calls
//     insecure are not offered.
//   - Every wait is bounded. A server that accepts a connection and then says
//     nothing, at whatever hop, costs [Dialer.HandshakeTimeout] and no more.
//   - A dead path is noticed: keepalive@openssh.com requests go to the last hop,
//     and when nothing comes back the outermost TCP connection is closed. Nothing
//     else reliably unblocks reads and writes in nested SSH connections.
//   - Errors say which hop failed and why, in one sentence, and carry a [Kind]
//     for the caller to act upon.
//   - Replies are not held up by Nagle's algorithm on OpenSSH jump hosts, which
//     is a matter of one round trip per reply (see nodelay in jump.go).
package sshjump

import (
	"context"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// Defaults for the zero [Dialer]. Together the first two let a black hole be
// noticed within 25 seconds.
const (
	DefaultKeepaliveInterval = 10 * time.Second
	DefaultKeepaliveTimeout  = 15 * time.Second
	DefaultHandshakeTimeout  = 30 * time.Second
)

// Hop is one SSH server on the way. The last hop is the server wanted; those
// before it are jump hosts.
type Hop struct {
	// Name is what errors call this hop, such as "bastion". Optional.
	Name string

	// Address is HOST:PORT, or HOST alone for port 22. The name of the first hop
	// is resolved here at each dial, those of later hops by the hop before.
	Address string

	// User is the account to log in to.
	User string

	// KeyFile is a private key in any format of ssh-keygen(1). Nobody but its
	// owner may have access to the file.
	KeyFile string

	// PassphraseFile holds the passphrase of KeyFile, if it is encrypted. A
	// trailing line break is not part of it. The same permissions are asked for.
	PassphraseFile string

	// Signers are used instead of KeyFile, or tried before it.
	Signers []ssh.Signer

	// KnownHosts are files in the format of sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
	// At least one is needed. They are read anew at each dial. @cert-authority
	// and @revoked lines are honoured.
	KnownHosts []string
}

// Dialer holds what is common to all hops. The zero value is ready for use, and
// a Dialer may be used by several goroutines.
type Dialer struct {
	// KeepaliveInterval is the pause between two keepalive requests to the last
	// hop. Zero means DefaultKeepaliveInterval.
	KeepaliveInterval time.Duration

	// KeepaliveTimeout is how long the last hop may be silent, sending neither
	// the answer to a keepalive request nor anything else, before the connection
	// is given up. Zero means DefaultKeepaliveTimeout.
	KeepaliveTimeout time.Duration

	// HandshakeTimeout bounds, for each hop, the time from the first attempt to
	// reach it until it has authenticated us. Zero means DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration

	// DialContext connects to the first hop. Nil means a [net.Dialer] with TCP
	// keepalive.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial connects with the default [Dialer].
func Dial(ctx context.Context, hops ...Hop) (*Conn, error) {
	return new(Dialer).Dial(ctx, hops...)
}

func (d *Dialer) keepaliveInterval() time.Duration {
	return positive(d.KeepaliveInterval, DefaultKeepaliveInterval)
}

func (d *Dialer) keepaliveTimeout() time.Duration {
	return positive(d.KeepaliveTimeout, DefaultKeepaliveTimeout)
}

func (d *Dialer) handshakeTimeout() time.Duration {
	return positive(d.HandshakeTimeout, DefaultHandshakeTimeout)
}

func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// connect opens the outermost connection.
func (d *Dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	dial := d.DialContext
	if dial == nil {
		dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
		}}).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// Best effort: where the kernel knows it, data that nobody acknowledges
		// ends the connection as fast as an unanswered keepalive request does.
		_ = setUserTimeout(tcp, d.keepaliveInterval()+d.keepaliveTimeout())
	}
	return conn, nil
}
