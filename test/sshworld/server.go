package sshworld

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Server is one SSH server. Its methods change how it behaves while it runs, and
// may be called by any goroutine.
type Server struct {
	user      string
	permit    map[string]string // direct-tcpip targets: what they are called, where they are
	subsystem func(ctx context.Context, ch ssh.Channel, fault func(op, path string) error) error
	client    ssh.PublicKey
	address   string
	listen    func(address string) (net.Listener, error)
	dial      func(ctx context.Context, network, address string) (net.Conn, error)

	ctx  context.Context
	stop context.CancelFunc
	goes sync.WaitGroup

	commands atomic.Int64
	hang     atomic.Bool
	logins   atomic.Int64

	mu       sync.Mutex
	closed   bool
	listener net.Listener // nil while it refuses
	host     ssh.Signer
	conns    map[*gated]bool
	frozen   chan struct{} // closed by Thaw; nil when not frozen
	fault    func(op, path string) error
}

func newServer(host ssh.Signer, client ssh.PublicKey) *Server {
	s := &Server{
		host:   host,
		client: client,
		listen: func(address string) (net.Listener, error) { return net.Listen("tcp", address) },
		dial:   new(net.Dialer).DialContext,
		conns:  map[*gated]bool{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

func (s *Server) start() { l := s.listener; s.goes.Go(func() { s.accept(l) }) }

// Addr is where the server listens.
func (s *Server) Addr() string { return s.address }

// HostKey is the key that new connections are shown.
func (s *Server) HostKey() ssh.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.host.PublicKey()
}

// SetHostKey changes the host key, for connections to come.
func (s *Server) SetHostKey(key ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = key
}

// SetFault has fault asked before the built-in SFTP server does anything. op is
// the name of the request, such as "open", "write", "posix-rename"; an error,
// such as syscall.ENOSPC, is answered in the request's stead. Nil ends it.
func (s *Server) SetFault(fault func(op, path string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *Server) ask(op, path string) error {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(op, path)
}

// Logins counts the connections that have authenticated.
func (s *Server) Logins() int { return int(s.logins.Load()) }

// Commands counts the commands that clients asked for in sessions.
func (s *Server) Commands() int { return int(s.commands.Load()) }

// HangCommands has commands not end, until their session does.
func (s *Server) HangCommands(hang bool) { s.hang.Store(hang) }

// Kill closes every connection. New ones are welcome.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Freeze makes a black hole of the server: connections stay open, new ones are
// still accepted by the kernel, but nothing more is read or written.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze; what was under way goes on.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw()
}

func (s *Server) thaw() {
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
}

// Refuse has the kernel refuse new connections, as when no server runs. Those
// that exist are kept.
func (s *Server) Refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
}

// Welcome ends Refuse, on the same port.
func (s *Server) Welcome() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil || s.closed {
		return nil
	}
	l, err := s.listen(s.address)
	if err != nil {
		return err
	}
	s.listener = l
	s.goes.Go(func() { s.accept(l) })
	return nil
}

// Close ends the server and waits for all that it started.
func (s *Server) Close() error {
	s.Refuse()
	s.mu.Lock()
	s.closed = true
	s.thaw()
	s.mu.Unlock()
	s.stop()
	s.Kill()
	s.goes.Wait()
	return nil
}

func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed by Refuse
		}
		c := &gated{Conn: conn, server: s, closed: make(chan struct{})}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.conns[c] = true
		s.mu.Unlock()
		s.goes.Go(func() {
			s.serve(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// gated is a connection that stands still while its server is frozen.
type gated struct {
	net.Conn
	server *Server
	once   sync.Once
	closed chan struct{}
}

func (c *gated) pass() error {
	c.server.mu.Lock()
	frozen := c.server.frozen
	c.server.mu.Unlock()
	if frozen == nil {
		return nil
	}
	select {
	case <-frozen:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *gated) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	// After, because Read may have been waiting when the server was frozen.
	if passed := c.pass(); passed != nil {
		return 0, passed
	}
	return n, err
}

func (c *gated) Write(p []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *gated) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if meta.User() == s.user && bytes.Equal(key.Marshal(), s.client.Marshal()) {
				return nil, nil
			}
			return nil, fmt.Errorf("user %q may not log in with that key", meta.User())
		},
	}
	s.mu.Lock()
	config.AddHostKey(s.host)
	s.mu.Unlock()
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer server.Close()
	s.logins.Add(1)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.goes.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			s.goes.Go(func() { s.session(ctx, ch) })
		case "direct-tcpip":
			s.goes.Go(func() { s.forward(ctx, ch) })
		default:
			_ = ch.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

// forward serves a direct-tcpip channel (RFC 4254, section 7.2).
func (s *Server) forward(ctx context.Context, offered ssh.NewChannel) {
	var target struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(offered.ExtraData(), &target); err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	address, ok := s.permit[net.JoinHostPort(target.Host, strconv.FormatUint(uint64(target.Port), 10))]
	if !ok {
		_ = offered.Reject(ssh.Prohibited, "open failed") // OpenSSH's words
		return
	}
	conn, err := s.dial(ctx, "tcp", address)
	if err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	defer conn.Close()
	ch, requests, err := offered.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s.goes.Go(func() { ssh.DiscardRequests(requests) })
	s.goes.Go(func() {
		_, _ = io.Copy(conn, ch)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	})
	_, _ = io.Copy(ch, conn)
}

// session serves a session channel (RFC 4254, section 6): the SFTP subsystem if
// there is one, and nologin(8) for all else.
func (s *Server) session(ctx context.Context, offered ssh.NewChannel) {
	ch, requests, err := offered.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for req := range requests {
		switch {
		case req.Type == "subsystem" && s.subsystem != nil && bytes.Equal(req.Payload, ssh.Marshal(struct{ Name string }{"sftp"})):
			_ = req.Reply(true, nil)
			s.goes.Go(func() { ssh.DiscardRequests(requests) })
			_ = exit(ch, s.subsystem(ctx, ch, s.ask))
			return
		case req.Type == "exec" || req.Type == "shell":
			s.commands.Add(1)
			_ = req.Reply(true, nil)
			if s.hang.Load() {
				continue
			}
			_, _ = io.WriteString(ch, "This account is currently not available.\n")
			_ = exit(ch, errors.New("not available"))
			return
		default:
			_ = req.Reply(false, nil)
		}
	}
}

func exit(ch ssh.Channel, err error) error {
	var status struct{ Code uint32 }
	if err != nil {
		status.Code = 1
	}
	_, err = ch.SendRequest("exit-status", false, ssh.Marshal(status))
	return err
}

// runCommand connects a program's standard input and output to a channel. As
// sshd does, it sees to it that nothing is created writable for others.
func runCommand(ctx context.Context, command []string, dir string, ch ssh.Channel) error {
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `umask 022 && exec "$0" "$@"`}, command...)...)
	cmd.Dir = dir
	cmd.Stdout = ch
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(in, ch)
		in.Close()
	}()
	err = cmd.Wait()
	ch.Close()
	<-copied
	return err
}
