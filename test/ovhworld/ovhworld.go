// Package ovhworld is an OVH API (v1) for tests and the demo: the calls about
// zones and credentials, as strict as the real ones. It verifies signatures,
// clocks, rights and parameters, answers errors in OVH's forms, filters as
// loosely as OVH does, and shows changes to the DNS only after a refresh and a
// delay. It can be told to fail at any call, before or after the effect.
//
// It follows OVH's own description of the API (domain.json, auth.json) and
// what users of it report; where those leave a choice, an option plays either.
package ovhworld

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options is how the API behaves. The zero value is a friendly OVH.
type Options struct {
	PublishDelay time.Duration // between an accepted refresh and its effect on the DNS
	Skew         time.Duration // of OVH's clock from ours
	Window       time.Duration // how far off a call's timestamp may be; 30 s

	// FreshNotFound is for how long a new record is listed and yet "not found".
	FreshNotFound time.Duration
	// PostAnswersZero makes POST …/record answer id 0 in place of the id.
	PostAnswersZero bool
	// DynHostAt60 moves address records with TTL 60 into the DynHost
	// collection, so that …/record does not list them.
	DynHostAt60 bool
	// DynHostAlone refuses to add an address record beside a DynHost record of
	// the same kind.
	DynHostAlone bool
	// FixedTTL, if not 0, is the TTL of every address record that is written,
	// whatever is asked.
	FixedTTL int64
	// IgnoreFilters lists the whole zone whatever the filters say.
	IgnoreFilters bool
	// NewErrors answers every error in the form {"class", "message", "details"}.
	NewErrors bool
	// CredentialNeedsRule refuses GET /auth/currentCredential without a rule for it.
	CredentialNeedsRule bool
}

// World is an OVH with its customers. Its methods are safe for concurrent use.
type World struct {
	mu      sync.Mutex
	opts    Options
	apps    map[string]string // application key → secret
	creds   map[string]*credential
	zones   map[string]*zone
	nextID  int64
	faults  []*activeFault
	late    []lateEffect
	calls   []Call
	onCall  func()
	tokens  int
	closing chan struct{}
	once    sync.Once

	memory  *memory
	servers []*http.Server
	running sync.WaitGroup
}

// New returns an OVH without customers.
func New(opts Options) *World {
	if opts.Window == 0 {
		opts.Window = 30 * time.Second
	}
	return &World{
		opts: opts,
		apps: map[string]string{}, creds: map[string]*credential{}, zones: map[string]*zone{},
		nextID:  5386578528, // real ids have long passed 2^32
		closing: make(chan struct{}),
	}
}

// Change alters the options while the world turns.
func (w *World) Change(f func(*Options)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.opts)
}

// Listen serves the API on address (HOST:PORT, port 0 for any) until Close,
// over TLS if a certificate is given. It returns the endpoint, "/1.0" included.
func (w *World) Listen(ctx context.Context, address string, cert *tls.Certificate) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", address, err)
	}
	endpoint := "http://" + l.Addr().String() + "/1.0"
	if cert != nil {
		endpoint = "https://" + l.Addr().String() + "/1.0"
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	}
	w.serve(l)
	return endpoint, nil
}

// Endpoint is the endpoint to use with DialContext.
const Endpoint = "http://127.0.0.1/1.0"

// DialContext connects to the API through memory, whatever the address: for
// tests with a clock of their own (testing/synctest).
func (w *World) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	if w.memory == nil {
		w.memory = &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
		w.mu.Unlock()
		w.serve(w.memory)
	} else {
		w.mu.Unlock()
	}
	ours, theirs := net.Pipe()
	select {
	case w.memory.conns <- theirs:
		return ours, nil
	case <-w.memory.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// memory is a listener for the ends of pipes.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (w *World) serve(l net.Listener) {
	srv := &http.Server{
		Handler: w, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // clients that distrust us are no news
	}
	w.mu.Lock()
	w.servers = append(w.servers, srv)
	w.mu.Unlock()
	w.running.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			l.Close()
		}
	})
}

// Close ends hanging calls and stops serving.
func (w *World) Close() {
	w.once.Do(func() { close(w.closing) })
	w.mu.Lock()
	servers := w.servers
	w.servers = nil
	w.mu.Unlock()
	for _, srv := range servers {
		_ = srv.Close()
	}
	w.running.Wait()
}

// Call is one request, and what became of it.
type Call struct {
	Time                      time.Time // when it came, by the clock of the machine
	Method, Path, Query, Body string    // Path is without "/1.0"
	Status                    int       // 0: no answer was given
	Effects                   []string
	Fault                     bool // a fault was played on it
}

func (c Call) String() string {
	s := c.Method + " " + c.Path
	if c.Query != "" {
		s += "?" + c.Query
	}
	return fmt.Sprintf("%s → %d %v", s, c.Status, c.Effects)
}

// Calls returns the calls so far, in order of arrival, GET /auth/time included.
func (w *World) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp()
	return append([]Call(nil), w.calls...)
}

// Effects returns what the calls did so far: "add …", "change …", "remove …",
// "refresh ZONE".
func (w *World) Effects() []string {
	var all []string
	for _, c := range w.Calls() {
		all = append(all, c.Effects...)
	}
	return all
}

// ForgetCalls empties the log.
func (w *World) ForgetCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp()
	w.calls = nil
}

// now is OVH's clock.
func (w *World) now() time.Time { return time.Now().Add(w.opts.Skew) }
