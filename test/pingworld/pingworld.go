// Package pingworld is Globalping's API, version 1, as far as measurements of type http go, and a world of points that
// see what the test wants them to. It is strict where the real one is, or where its guidelines for clients ask for
// something: what it did not like is in [World.Complaints].
//
// Its source, besides the documentation at https://globalping.io/docs/api.globalping.io: jsdelivr/globalping and
// jsdelivr/globalping-probe.
package pingworld

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Sight is what a point sees of a target.
type Sight struct {
	Status string // finished or failed; offline, where the point has gone; in-progress, if it never answers
	Raw    string // of a failure: the point's own words
	Code   int    // the HTTP status
	Body   string
	TLS    string // what is wrong with the certificate; "" = nothing
	Took   time.Duration
	After  time.Duration // how long the answer takes to arrive
}

// What points see.
var (
	Reaches  = Sight{Status: "finished", Code: 200, Body: "It works!\n", Took: 120 * time.Millisecond}
	TimesOut = Sight{Status: "failed", Raw: "Request timeout."}
	Refused  = Sight{Status: "failed", Raw: "connect ECONNREFUSED 203.0.113.10:443"}
	NoRoute  = Sight{Status: "failed", Raw: "connect ENETUNREACH 2001:db8::10:443 - Local (:::0)"} // the point has no IPv6
	Offline  = Sight{Status: "offline", Raw: "This probe is currently offline. Please try again later."}
	Silent   = Sight{Status: "in-progress"}
)

// measurementEnds is when one is over although points are silent.
const measurementEnds = 30 * time.Second

// credits are how many points may be asked in an hour, without an account.
const credits = 250

// World is the API and its points.
type World struct {
	server *http.Server
	url    string

	mu         sync.Mutex
	points     []Sight
	down       int // the status of every answer, instead of one; 0 = none
	busy       int // seconds
	hang       bool
	left       int
	asked      []Request
	made       map[string]*measurement
	complaints []string
	stopped    chan struct{}
}

// Request is one that was asked for.
type Request struct {
	Time                                time.Time
	Target, Protocol, Host, Path, Query string
	Port, Limit                         int
}

type measurement struct {
	began   time.Time
	points  []Sight
	request Request
	looked  time.Time // when the last answer was given
}

// Start begins to listen on the loopback interface. The points see nothing before See is called.
func Start() (*World, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &World{url: "http://" + l.Addr().String(), left: credits, made: map[string]*measurement{}, stopped: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/measurements", w.create)
	mux.HandleFunc("GET /v1/measurements/{id}", w.look)
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		w.complain("%s %s: there is no such call", r.Method, r.URL.Path)
		refuse(rw, http.StatusNotFound, "not_found", "Couldn't find the requested item.", nil)
	})
	w.server = &http.Server{Handler: w.guard(mux), ReadHeaderTimeout: time.Minute}
	go w.server.Serve(l) //nolint:errcheck // it ends with Close
	return w, nil
}

// URL is the base of the API, without /v1.
func (w *World) URL() string { return w.url }

// Close ends everything.
func (w *World) Close() error {
	close(w.stopped)
	return w.server.Shutdown(context.Background())
}

// See says what each point sees, from the next measurement on. There are as many points as that.
func (w *World) See(points ...Sight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.points = points
}

// Answer has every call answered with a status, or as it should be with 0.
func (w *World) Answer(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = status
}

// Busy has every call refused, with the wish to be left alone for so many seconds; 0 ends it.
func (w *World) Busy(seconds int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = seconds
}

// Hang has every call wait for ever, or not.
func (w *World) Hang(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hang = on
}

// Asked are the measurements that were asked for.
func (w *World) Asked() []Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Request(nil), w.asked...)
}

// Complaints are what a client did that it must not.
func (w *World) Complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.complaints...)
}

func (w *World) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complaints = append(w.complaints, fmt.Sprintf(format, args...))
}

// guard plays what is wrong with the API as a whole.
func (w *World) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		down, busy, hang := w.down, w.busy, w.hang
		w.mu.Unlock()
		if ua := r.UserAgent(); ua == "" || strings.HasPrefix(ua, "Go-http-client") {
			w.complain("a client has to say who it is, not %q", ua)
		}
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.complain("answers are to be compressed")
		}
		switch {
		case hang:
			select {
			case <-r.Context().Done():
			case <-w.stopped:
			}
		case busy > 0:
			refuse(rw, http.StatusTooManyRequests, "rate_limit_exceeded", "API rate limit exceeded.", map[string]string{
				"Retry-After": strconv.Itoa(busy), "X-RateLimit-Limit": strconv.Itoa(credits), "X-RateLimit-Remaining": "0",
			})
		case down != 0:
			http.Error(rw, "<html>upstream failed</html>", down)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}

type creation struct {
	Type              string `json:"type"`
	Target            string `json:"target"`
	InProgressUpdates bool   `json:"inProgressUpdates"`
	Limit             int    `json:"limit"`
	Options           struct {
		Protocol string `json:"protocol"`
		Port     int    `json:"port"`
		Request  struct {
			Host    string            `json:"host"`
			Path    string            `json:"path"`
			Query   string            `json:"query"`
			Method  string            `json:"method"`
			Headers map[string]string `json:"headers"`
		} `json:"request"`
	} `json:"measurementOptions"`
}

// check is what is wrong with a request.
func (c creation) check() string {
	o := c.Options
	_, err := netip.ParseAddr(c.Target)
	switch {
	case c.Type != "http":
		return `"type" must be http, here`
	case err != nil:
		return `"target" must be an address, here: a name would lead to the standby after a switch`
	case c.InProgressUpdates:
		return "in-progress updates are for people who watch"
	case c.Limit < 1 || c.Limit > 500:
		return `"limit" must be from 1 to 500`
	case o.Protocol != "HTTP" && o.Protocol != "HTTPS" && o.Protocol != "HTTP2":
		return `"measurementOptions.protocol" must be one of [HTTP, HTTPS, HTTP2]`
	case o.Port < 1 || o.Port > 65535:
		return `"measurementOptions.port" must be from 1 to 65535`
	case o.Request.Method != "GET" && o.Request.Method != "HEAD" && o.Request.Method != "OPTIONS":
		return `"measurementOptions.request.method" must be one of [HEAD, GET, OPTIONS]`
	case o.Request.Host == "" || strings.ContainsAny(o.Request.Host, ":/ "):
		return `"measurementOptions.request.host" must be a hostname: it is the SNI too`
	case !strings.HasPrefix(o.Request.Path, "/") || strings.ContainsAny(o.Request.Path, "?# "):
		return `"measurementOptions.request.path" must be a path`
	}
	return ""
}

func (w *World) create(rw http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		w.complain("content type %q", r.Header.Get("Content-Type"))
		refuse(rw, http.StatusUnsupportedMediaType, "unsupported_media_type", "Unsupported media type.", nil)
		return
	}
	var c creation
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<16))
	d.DisallowUnknownFields()
	why := ""
	if err := d.Decode(&c); err != nil {
		why = err.Error()
	} else {
		why = c.check()
	}
	if why != "" {
		w.complain("measurement: %s", why)
		refuse(rw, http.StatusBadRequest, "validation_error", "Parameter validation failed.", nil)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	points := w.points[:min(len(w.points), c.Limit)]
	switch {
	case len(points) == 0:
		refuse(rw, http.StatusUnprocessableEntity, "no_probes_found", "No matching IPv4 probes available.", nil)
		return
	case w.left < len(points):
		refuse(rw, http.StatusTooManyRequests, "too_many_probes", "Too many probes requested.", map[string]string{"X-RateLimit-Reset": "1800"})
		return
	}
	w.left -= len(points)
	o := c.Options
	req := Request{time.Now(), c.Target, o.Protocol, o.Request.Host, o.Request.Path, o.Request.Query, o.Port, c.Limit}
	id := rand.Text()[:16]
	w.made[id] = &measurement{began: req.Time, points: points, request: req, looked: req.Time}
	w.asked = append(w.asked, req)
	rw.Header().Set("Location", w.url+"/v1/measurements/"+id)
	rw.Header().Set("X-RateLimit-Limit", strconv.Itoa(credits))
	rw.Header().Set("X-RateLimit-Remaining", strconv.Itoa(w.left))
	rw.Header().Set("X-RateLimit-Reset", "3600")
	reply(rw, http.StatusAccepted, map[string]any{"id": id, "probesCount": len(points)})
}

func (w *World) look(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.made[r.PathValue("id")]
	if m == nil {
		refuse(rw, http.StatusNotFound, "not_found", "Couldn't find the requested item.", nil)
		return
	}
	now := time.Now()
	// Wanted are 500 ms after the answer has arrived; clocks of two ends may differ a little.
	if now.Sub(m.looked) < 480*time.Millisecond && m.looked != m.began {
		w.complaints = append(w.complaints, fmt.Sprintf("looked at after %s", now.Sub(m.looked)))
	}
	m.looked = now
	answer := m.answer(r.PathValue("id"), now)
	tag := `W/"` + strconv.Itoa(len(answer)) + `"`
	rw.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = rw.Write(answer)
}

// answer is the measurement as it stands.
func (m *measurement) answer(id string, now time.Time) []byte {
	type object = map[string]any
	var results []object
	status := "finished"
	for i, p := range m.points {
		r := object{"status": "in-progress", "rawOutput": ""}
		switch age := now.Sub(m.began); {
		case p.Status != "in-progress" && age >= p.After:
			r = p.result(m.request)
		case age >= measurementEnds:
			r = object{"status": "failed", "rawOutput": "\n\nThe measurement timed out."}
		default:
			status = "in-progress"
		}
		results = append(results, object{"result": r, "probe": object{
			"continent": "EU", "region": "Western Europe", "country": "DE", "state": nil, "city": fmt.Sprintf("City %d", i), "asn": 64500 + i,
			"network": "Example", "latitude": 1.5, "longitude": 2.5, "tags": []string{"datacenter-network"}, "resolvers": []string{"private"},
		}})
	}
	text, err := json.Marshal(object{
		"id": id, "type": "http", "status": status, "createdAt": m.began, "updatedAt": now, "target": m.request.Target,
		"probesCount": len(m.points), "limit": m.request.Limit, "results": results,
	})
	if err != nil {
		panic(err) // a test's own mistake
	}
	return text
}

func (p Sight) result(r Request) map[string]any {
	if p.Status != "finished" {
		return map[string]any{"status": p.Status, "rawOutput": p.Raw, "statusCode": nil, "tls": nil, "timings": map[string]any{"total": nil}}
	}
	const keeps = 10_000
	body, truncated := p.Body, false
	if len(body) > keeps {
		body, truncated = body[:keeps], true
	}
	out := map[string]any{
		"status": "finished", "rawOutput": fmt.Sprintf("HTTP/1.1 %d\n\n%s", p.Code, body), "rawBody": body, "truncated": truncated,
		"resolvedAddress": r.Target, "headers": map[string]any{}, "statusCode": p.Code, "statusCodeName": http.StatusText(p.Code),
		"timings": map[string]any{"total": p.Took.Milliseconds(), "dns": 0, "tcp": 20, "tls": 40, "firstByte": 30, "download": 1}, "tls": nil,
	}
	if r.Protocol != "HTTP" {
		details := map[string]any{"authorized": p.TLS == "", "protocol": "TLSv1.3", "serialNumber": "01"}
		if p.TLS != "" {
			details["error"] = p.TLS
		}
		out["tls"] = details
	}
	return out
}

func refuse(rw http.ResponseWriter, status int, kind, message string, header map[string]string) {
	for k, v := range header {
		rw.Header().Set(k, v)
	}
	reply(rw, status, map[string]any{"error": map[string]any{"type": kind, "message": message}})
}

func reply(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}
