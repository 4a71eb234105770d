package sshjump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// prepared is a hop whose files have been read: nothing is sent anywhere before
// all of them have.
type prepared struct {
	Hop
	index   int
	address string
	keys    []ssh.Signer
	host    *hostKeys
}

func (p *prepared) String() string { return describe(p.Name, p.address) }

func (p *prepared) fail(kind Kind, err error) *Error {
	return &Error{Hop: p.index, Name: p.Name, Address: p.address, Kind: kind, Err: err}
}

func prepare(hops []Hop) ([]*prepared, error) {
	if len(hops) == 0 {
		return nil, errors.New("dial: no hop was given")
	}
	all := make([]*prepared, len(hops))
	for i, h := range hops {
		p := &prepared{Hop: h, index: i, address: withPort(h.Address)}
		var err error
		if p.keys, err = h.signers(); err != nil {
			return nil, p.fail(Key, err)
		}
		if p.host, err = readHostKeys(p.address, h.KnownHosts); err != nil {
			return nil, p.fail(HostKey, err)
		}
		all[i] = p
	}
	return all, nil
}

// Dial connects to the last of hops through all others. It returns when that has
// authenticated us, when ctx ends, or when a hop takes longer than
// HandshakeTimeout. The connection does not depend on ctx afterwards.
//
// Keys and known_hosts files are read anew each time. A failure is an [*Error].
func (d *Dialer) Dial(ctx context.Context, hops ...Hop) (*Conn, error) {
	ready, err := prepare(hops)
	if err != nil {
		return nil, err
	}
	c := &Conn{hops: ready, closing: make(chan struct{}), done: make(chan struct{})}
	for _, p := range ready {
		if err := d.reach(ctx, c, p); err != nil {
			c.abandon()
			return nil, err
		}
	}
	if c.prompt != nil {
		c.prompt.off.Store(true)
	}
	c.supervise(d.keepaliveInterval(), d.keepaliveTimeout())
	return c, nil
}

// reach extends the chain of c to the hop p.
func (d *Dialer) reach(ctx context.Context, c *Conn, p *prepared) error {
	timeout := d.handshakeTimeout()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()

	step := "connect"
	var conn net.Conn
	var err error
	if p.index == 0 {
		conn, err = d.connect(ctx, p.address)
		c.root = conn
		if tcp, ok := conn.(*net.TCPConn); ok && len(c.hops) > 1 {
			c.prompt = &prompt{Conn: tcp, tcp: tcp}
			conn = c.prompt
		}
	} else {
		step = "wait for " + c.hops[p.index-1].String() + " to connect to it"
		conn, err = c.clients[p.index-1].DialContext(ctx, "tcp", p.address)
	}
	if err != nil {
		return c.explain(ctx, p, step, err, nil)
	}

	// Neither deadlines nor contexts reach into nested connections; closing the
	// outermost one does.
	stop := context.AfterFunc(ctx, func() { c.root.Close() })
	last := p.index == len(c.hops)-1
	if last {
		c.life = newLife(conn)
		conn = c.life
	}
	var seen handshake
	transport, channels, requests, err := ssh.NewClientConn(c.gather(conn), p.address, p.config(&seen))
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		return c.explain(ctx, p, "handshake", err, &seen)
	}
	client := ssh.NewClient(transport, channels, requests)
	c.clients = append(c.clients, client)
	if !last {
		c.goes.Go(func() { nodelay(client, timeout) })
	}
	return nil
}

// handshake notes how far an SSH handshake got.
type handshake struct {
	verified bool  // the host key is right
	refused  error // why it is not
	keysSent bool  // the server takes public keys, and was given ours
}

func (p *prepared) config(seen *handshake) *ssh.ClientConfig {
	secure := ssh.SupportedAlgorithms()
	return &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: secure.KeyExchanges,
			Ciphers:      secure.Ciphers,
			MACs:         secure.MACs,
		},
		User: p.User,
		// One callback for all keys: of several methods of one kind, x/crypto/ssh
		// uses the first only.
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			seen.keysSent = true
			return p.keys, nil
		})},
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			seen.refused = p.host.check(name, remote, key)
			seen.verified = seen.refused == nil
			return seen.refused
		},
		HostKeyAlgorithms: p.host.algorithms,
	}
}

// explain turns the failure of a step into an Error. seen is nil until there is
// a connection to the hop.
func (c *Conn) explain(ctx context.Context, p *prepared, step string, err error, seen *handshake) *Error {
	if ctx.Err() != nil {
		return p.fail(Network, fmt.Errorf("%s: %w", step, context.Cause(ctx)))
	}
	if refused, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		before := c.hops[p.index-1].String()
		if refused.Reason == ssh.Prohibited {
			return p.fail(Forward, fmt.Errorf("%s does not permit it (its AllowTcpForwarding, PermitOpen, or authorized_keys): %w", before, err))
		}
		return p.fail(Forward, fmt.Errorf("%s could not connect to it: %w", before, err))
	}
	if seen == nil {
		return p.fail(Network, fmt.Errorf("%s: %w", step, err))
	}
	if seen.refused != nil {
		return p.fail(HostKey, seen.refused)
	}
	if broken(err) {
		return p.fail(Network, fmt.Errorf("connection lost during the handshake: %w", err))
	}
	if negotiation, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
		if negotiation.What != "host key" {
			return p.fail(Protocol, err)
		}
		return p.fail(HostKey, fmt.Errorf("%s knows it by %s, of which it has none; it has %s: %w", strings.Join(p.KnownHosts, ", "),
			strings.Join(p.host.algorithms, ", "), strings.Join(negotiation.RequestedAlgorithms, ", "), err))
	}
	switch {
	case !seen.verified:
		return p.fail(Protocol, err)
	case !seen.keysSent:
		return p.fail(Auth, fmt.Errorf("it does not take public keys from user %q: %w", p.User, err))
	default:
		return p.fail(Auth, fmt.Errorf("it refused user %q with %s: %w", p.User, describeKeys(p.Hop, p.keys), err))
	}
}

// broken reports whether err is that of a connection, not of what was said on it.
func broken(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
