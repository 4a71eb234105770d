// Package report shows how a daemon fares, and takes its owner's word: over a Unix socket for the command line (HTTP with
// GET /status.json and POST /control/NAME, for the daemon's user and root alone), and over TCP a read-only web page,
// /status.json, /healthz and /metrics in the Prometheus text exposition format, version 0.0.4.
package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// A Server answers for one daemon. Set the fields before Bind or Run; the functions are called from several goroutines
// at once and should not block.
type Server struct {
	Socket string   // path of the Unix socket; "" is none
	Listen string   // HOST:PORT of the web page and the metrics; "" is none
	Hosts  []string // names by which browsers may ask for the page, besides IP addresses, localhost and Listen's host

	Status  func() any         // what --json shows: one object
	Page    func() Page        // what the web page shows; its State is also what /healthz says
	Metrics func(w io.Writer)  // what /metrics says, see [Metrics]
	Control map[string]Command // by name

	// ErrorLog hears of panics in the functions above, which net/http recovers from. Nil discards that.
	ErrorLog *log.Logger

	socket *socket
	web    net.Listener
}

// A Command carries out what the owner asked for. Its context ends with the daemon, or when the one who asked hangs up.
// The text is for a human, and may come with an error.
type Command func(ctx context.Context, args []string) (string, error)

const (
	headerTimeout = 5 * time.Second
	webTimeout    = 15 * time.Second // of a whole request; commands over the socket take their time
	lastWords     = 2 * time.Second  // for answers under way when the daemon ends
	webConns      = 64
)

// Bind takes hold of socket and port, so that Run cannot fail for want of them and the daemon may say that it is ready.
func (s *Server) Bind() error {
	if s.Socket != "" && s.socket == nil {
		sock, err := listenSocket(s.Socket)
		if err != nil {
			return err
		}
		s.socket = sock
	}
	if s.Listen != "" && s.web == nil {
		l, err := net.Listen("tcp", s.Listen)
		if err != nil {
			s.release()
			return fmt.Errorf("open status page: %w", err)
		}
		s.web = netutil.LimitListener(l, webConns)
	}
	return nil
}

// WebAddr is where the page is served, once bound; nil if it is not.
func (s *Server) WebAddr() net.Addr {
	if s.web == nil {
		return nil
	}
	return s.web.Addr()
}

// Run binds, unless Bind has, and answers until ctx ends, which is no error.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Bind(); err != nil {
		return err
	}
	defer s.release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errorLog := s.ErrorLog
	if errorLog == nil {
		errorLog = log.New(io.Discard, "", 0)
	}
	var wg sync.WaitGroup
	ends := make(chan error, 2)
	serve := func(l net.Listener, server *http.Server) {
		server.ReadHeaderTimeout = headerTimeout
		server.IdleTimeout = time.Minute
		server.MaxHeaderBytes = 16 << 10
		server.ErrorLog = errorLog
		server.BaseContext = func(net.Listener) context.Context { return ctx }
		wg.Go(func() {
			err := server.Serve(l)
			if !errors.Is(err, http.ErrServerClosed) {
				ends <- fmt.Errorf("answer on %s: %w", l.Addr(), err)
			}
			cancel()
		})
		wg.Go(func() {
			<-ctx.Done()
			last, done := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer done()
			if server.Shutdown(last) != nil {
				_ = server.Close()
			}
		})
	}
	if s.socket != nil {
		serve(s.socket, &http.Server{Handler: s.socketHandler()})
	}
	if s.web != nil {
		serve(s.web, &http.Server{Handler: s.webHandler(), ReadTimeout: webTimeout, WriteTimeout: webTimeout})
	}
	<-ctx.Done()
	wg.Wait()
	close(ends)
	var errs []error
	for err := range ends {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Server) release() {
	if s.socket != nil {
		_ = s.socket.Close()
		s.socket = nil
	}
	if s.web != nil {
		_ = s.web.Close()
		s.web = nil
	}
}

func (s *Server) socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status.json", s.status)
	mux.HandleFunc("POST /control/{name}", s.control)
	return mux
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	var v any = struct{}{}
	if s.Status != nil {
		v = s.Status()
	}
	writeJSON(w, http.StatusOK, v)
}

// A question and an answer are what goes over the socket for a command.
type (
	question struct {
		Args []string `json:"args"`
	}
	answer struct {
		Output string `json:"output,omitempty"`
		Error  string `json:"error,omitempty"`
	}
)

const maxQuestion = 64 << 10

func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	command, ok := s.Control[name]
	if !ok {
		writeJSON(w, http.StatusNotFound, answer{Error: fmt.Sprintf("no command %q here", name)})
		return
	}
	var q question
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil {
		writeJSON(w, http.StatusBadRequest, answer{Error: fmt.Sprintf("read arguments: %v", err)})
		return
	}
	output, err := command(r.Context(), q.Args)
	if err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, answer{Output: output, Error: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, answer{Output: output})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, fmt.Sprintf("encode status: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // whoever asked may be gone
}
