package report

import (
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

func (s *Server) webHandler() http.Handler {
	r := newRenderer()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { s.page(w, r) })
	mux.HandleFunc("GET /status.json", s.status)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", s.health)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", r.csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !s.knows(req.Host) {
			http.Error(w, "This page is not served under that name: use an IP address or localhost.", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, req)
	})
}

// knows guards against DNS rebinding, by which a page from anywhere reads ours through its visitor's browser: such a
// request has a name for Host that is none of ours. An address cannot be rebound.
func (s *Server) knows(hostport string) bool {
	host := hostOf(hostport)
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		host != "" && strings.EqualFold(host, hostOf(s.Listen)) ||
		slices.ContainsFunc(s.Hosts, func(name string) bool { return host != "" && strings.EqualFold(host, name) })
}

// hostOf takes the port off, if any, and the brackets of an IPv6 address.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func (s *Server) page(w http.ResponseWriter, r *renderer) {
	if s.Page == nil {
		http.Error(w, "no page", http.StatusNotFound)
		return
	}
	var b bytes.Buffer // a page is whole or an error
	if err := r.render(&b, s.Page()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = b.WriteTo(w)
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", ContentType)
	if s.Metrics != nil {
		s.Metrics(w)
	}
}

// health is for monitors that understand a status code only: 503 while the daemon does not do its job.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	state := OK
	if s.Page != nil {
		state = s.Page().State
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if state == Failing {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(string(state) + "\n"))
}
