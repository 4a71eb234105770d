package sites

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a site. The zero value serves "ok" over HTTPS for www.example.net on a free port of 127.0.0.1.
type Config struct {
	Address string // HOST:PORT to listen on; default 127.0.0.1:0
	Plain   bool   // HTTP without TLS
	Names   []string
	CA      *CA // default: one of its own
	// NotAfter ends the certificate; default in 90 days.
	NotAfter time.Time
	// GetCertificate, if set, is asked at each handshake instead, say to serve what lies on disk now.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Handler serves the content in good health; default: Answer's status and body.
	Handler http.Handler
}

// Site is a web server that runs until Close. Its methods are safe for concurrent use.
type Site struct {
	cfg     Config
	port    *port
	closing sync.Once

	mu     sync.Mutex
	fault  Fault
	status int
	body   string
	header http.Header
	cert   tls.Certificate
	last   Request
	run    *run // nil while stopped

	requests atomic.Int64
	sent     atomic.Int64
}

// Request is what a site remembers of a request.
type Request struct {
	Host, ServerName, Proto, Method, Path string
	Remote                                string
	Header                                http.Header
}

// run is one life of the server, from Start or Resume to Stop or Close.
type run struct {
	server *http.Server
	cancel context.CancelFunc // ends every handler
	wg     sync.WaitGroup     // the server and its handlers

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// Start starts a site.
func Start(cfg Config) (*Site, error) {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if len(cfg.Names) == 0 {
		cfg.Names = []string{"www.example.net"}
	}
	if cfg.NotAfter.IsZero() {
		cfg.NotAfter = time.Now().AddDate(0, 0, 90)
	}
	if cfg.CA == nil {
		ca, err := NewCA()
		if err != nil {
			return nil, fmt.Errorf("start site: %w", err)
		}
		cfg.CA = ca
	}
	s := &Site{cfg: cfg, status: http.StatusOK, body: "ok\n", header: http.Header{}}
	if err := s.Certify(cfg.Names, cfg.NotAfter); err != nil {
		return nil, fmt.Errorf("start site: %w", err)
	}
	var err error
	if s.port, err = takePort(cfg.Address); err != nil {
		return nil, fmt.Errorf("start site: %w", err)
	}
	if err := s.Resume(); err != nil {
		return nil, errors.Join(err, s.port.close())
	}
	return s, nil
}

// Addr is the address the site listens on, HOST:PORT; it stays the same through Stop and Resume.
func (s *Site) Addr() string { return s.port.address }

// URL is the site's URL by its first name; nothing resolves it, so dial Addr.
func (s *Site) URL() string {
	scheme := "https://"
	if s.cfg.Plain {
		scheme = "http://"
	}
	return scheme + s.cfg.Names[0] + "/"
}

// CA is the authority of the site's certificates.
func (s *Site) CA() *CA { return s.cfg.CA }

// Stop kills the server: the port is closed and all connections are cut. Resume revives it.
func (s *Site) Stop() {
	s.mu.Lock()
	r := s.run
	s.run = nil
	s.mu.Unlock()
	if r == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.server.Close() //nolint:errcheck // errors of closing sockets that we are done with
	r.drop()
	r.wg.Wait()
}

// Close stops the site for good.
func (s *Site) Close() error {
	s.Stop()
	var err error
	s.closing.Do(func() { err = s.port.close() })
	return err
}

// Resume starts a stopped server on the same address; without effect on a running one.
func (s *Site) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return nil
	}
	inner, err := net.Listen("tcp", s.port.address)
	if err != nil {
		return fmt.Errorf("start site: %w", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	r := &run{cancel: cancel, conns: map[net.Conn]struct{}{}}
	r.server = &http.Server{
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Handler:           s.handler(r),
		ErrorLog:          log.New(io.Discard, "", 0), // handshakes that a check breaks off are no news
		ReadHeaderTimeout: 10 * time.Second,
	}
	var ln net.Listener = &listener{Listener: inner, site: s, run: r}
	if !s.cfg.Plain {
		r.server.TLSConfig = &tls.Config{GetConfigForClient: s.tlsConfig, GetCertificate: s.certificate}
	}
	r.wg.Go(func() {
		if s.cfg.Plain {
			r.server.Serve(ln) //nolint:errcheck // ends by Close alone
		} else {
			r.server.ServeTLS(ln, "", "") //nolint:errcheck // ends by Close alone
		}
	})
	s.run = r
	return nil
}

// Answer sets the status and body of every answer that no Handler gives.
func (s *Site) Answer(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body = status, body
}

// SetHeader sets a header of every answer that no Handler gives, say Location.
func (s *Site) SetHeader(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header.Set(key, value)
}

// Certify replaces the certificate by a new one of the site's authority. An ended notAfter makes it an expired one,
// other names a wrong one.
func (s *Site) Certify(names []string, notAfter time.Time) error {
	cert, err := s.cfg.CA.Issue(names, notAfter)
	if err != nil {
		return err
	}
	s.SetCertificate(cert)
	return nil
}

// SetCertificate replaces the certificate, say by one of another authority.
func (s *Site) SetCertificate(cert tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert = cert
}

// Certificate is the certificate presented now, unless the configuration's GetCertificate decides.
func (s *Site) Certificate() tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cert
}

// Requests counts the requests whose headers have come.
func (s *Site) Requests() int { return int(s.requests.Load()) }

// Sent counts the bytes handed to the network on all connections, TLS included.
func (s *Site) Sent() int64 { return s.sent.Load() }

// Last is the latest request.
func (s *Site) Last() Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *Site) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.cfg.GetCertificate != nil {
		return s.cfg.GetCertificate(hello)
	}
	cert := s.Certificate()
	if cert.Leaf == nil && len(cert.Certificate) == 0 {
		return nil, errors.New("no certificate")
	}
	return &cert, nil
}

// tlsConfig offers HTTP/2, except for the faults that only bytes on an HTTP/1 connection can show.
func (s *Site) tlsConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	cfg := &tls.Config{GetCertificate: s.certificate, NextProtos: []string{"h2", "http/1.1"}}
	if f := s.currentFault(); f == EndlessHeader || f == DripHeader || f == CutBody {
		cfg.NextProtos = []string{"http/1.1"}
	}
	return cfg, nil
}

func (s *Site) handler(r *run) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.enter() {
			return
		}
		defer r.wg.Done()
		s.requests.Add(1)
		s.mu.Lock()
		s.last = Request{Host: req.Host, Proto: req.Proto, Method: req.Method, Path: req.URL.Path,
			Remote: req.RemoteAddr, Header: req.Header.Clone()}
		if req.TLS != nil {
			s.last.ServerName = req.TLS.ServerName
		}
		fault, status, body, header := s.fault, s.status, s.body, s.header.Clone()
		s.mu.Unlock()

		if fault != Healthy {
			misbehave(req.Context(), fault, w)
			return
		}
		if s.cfg.Handler != nil {
			s.cfg.Handler.ServeHTTP(w, req)
			return
		}
		for key, values := range header {
			w.Header()[key] = values
		}
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // the client has gone
	})
}

// listener lets the faults below HTTP happen, counts bytes and knows every connection.
type listener struct {
	net.Listener
	site *Site
	run  *run
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner, sent: &l.site.sent, run: l.run}
		l.run.track(c)
		switch l.site.currentFault() {
		case Hang:
			continue // kept open, and never looked at
		case Reset:
			if tcp, ok := inner.(*net.TCPConn); ok {
				tcp.SetLinger(0) //nolint:errcheck // then it is a mere close
			}
			c.Close()
			continue
		case Flood, EndlessHeader:
			if tcp, ok := inner.(*net.TCPConn); ok {
				tcp.SetWriteBuffer(64 << 10) //nolint:errcheck // then Sent runs megabytes ahead of what the client takes
			}
		}
		return c, nil
	}
}

type conn struct {
	net.Conn
	sent *atomic.Int64
	run  *run
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.run.mu.Lock()
	delete(c.run.conns, c)
	c.run.mu.Unlock()
	return c.Conn.Close()
}

// enter counts a handler in, unless Stop waits already.
func (r *run) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Add(1)
	return true
}

func (r *run) track(c *conn) {
	r.mu.Lock()
	r.conns[c] = struct{}{}
	closed := r.closed
	r.mu.Unlock()
	if closed { // accepted while drop ran
		c.Close()
	}
}

// drop cuts all connections.
func (r *run) drop() {
	r.mu.Lock()
	conns := make([]net.Conn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	r.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}
