package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// answerLimit bounds an answer of the API, in bytes: 20 points with 10 kB of body each, twice, fit.
	answerLimit = 1 << 20
	// pollEvery is the pause after each answer, as its guidelines for clients want it.
	pollEvery = 500 * time.Millisecond
	// busyAfter is how long it is left alone when it is busy and does not say for how long.
	busyAfter = time.Minute
	// patience is what an answer may take longer, at the end of the world, than here.
	patience = time.Second
)

// globalping speaks with the API.
type globalping struct {
	base string
	http *http.Client
}

// The request: https://globalping.io/docs/api.globalping.io#post-/v1/measurements
type measurementRequest struct {
	Type    string             `json:"type"`
	Target  string             `json:"target"`
	Limit   int                `json:"limit"`
	Options measurementOptions `json:"measurementOptions"`
}

type measurementOptions struct {
	Protocol string             `json:"protocol"`
	Port     int                `json:"port"`
	Request  measurementDetails `json:"request"`
}

type measurementDetails struct {
	Host   string `json:"host"` // also the SNI, where the target is an address
	Path   string `json:"path"`
	Query  string `json:"query,omitempty"`
	Method string `json:"method"`
}

// The answer, as far as we look at it. What it may hold beyond is none of our business.
type measurementAnswer struct {
	Status  string `json:"status"`
	Results []struct {
		Result measurementResult `json:"result"`
	} `json:"results"`
}

type measurementResult struct {
	Status     string `json:"status"` // in-progress, finished, failed, offline
	RawOutput  string `json:"rawOutput"`
	RawBody    string `json:"rawBody"`
	Truncated  bool   `json:"truncated"` // RawBody is
	StatusCode int    `json:"statusCode"`
	TLS        *struct {
		Authorized bool   `json:"authorized"`
		Error      string `json:"error"`
	} `json:"tls"`
	Timings struct {
		Total float64 `json:"total"` // ms
	} `json:"timings"`
}

// measure has n points ask t, and returns what they have said once that decides or ctx ends. The error is what kept
// them from saying more.
func (g *globalping) measure(ctx context.Context, t Target, n int) (ballot, error) {
	b := ballot{votes: make([]vote, n)}
	id, err := g.create(ctx, t, n)
	if err != nil {
		return b, err
	}
	etag := ""
	for {
		pause := pollEvery
		var busy *errBusy
		var got *measurementAnswer
		switch got, etag, err = g.look(ctx, id, etag); {
		case errors.As(err, &busy):
			pause = busy.after
		case err == nil && got != nil:
			if b = tally(t, *got, n); b.decided() {
				return b, nil
			}
		}
		if !sleep(ctx, pause) {
			if err == nil {
				err = fmt.Errorf("ask %s: no more in time", hostOf(g.base))
			}
			return b, err
		}
	}
}

// create begins a measurement.
func (g *globalping) create(ctx context.Context, t Target, n int) (id string, err error) {
	want, err := requestFor(t, n)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(want)
	if err != nil {
		return "", fmt.Errorf("encode measurement: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.base, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("ask for a measurement: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	var made struct {
		ID string `json:"id"`
	}
	if _, err = g.call(req, http.StatusAccepted, &made); err != nil {
		return "", err
	}
	if !regexp.MustCompile(`^[0-9A-Za-z_-]{1,100}$`).MatchString(made.ID) {
		return "", fmt.Errorf("ask %s: its answer names no measurement", hostOf(g.base))
	}
	return made.ID, nil
}

// look asks how far the measurement has come; nil if no further than when etag was given.
func (g *globalping) look(ctx context.Context, id, etag string) (*measurementAnswer, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+"/"+id, nil)
	if err != nil {
		return nil, etag, fmt.Errorf("look at a measurement: %w", err)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	var got measurementAnswer
	header, err := g.call(req, http.StatusOK, &got)
	switch {
	case errors.Is(err, errUnchanged):
		return nil, etag, nil
	case err != nil:
		return nil, etag, err
	}
	return &got, header.Get("ETag"), nil
}

// errUnchanged is the answer 304.
var errUnchanged = errors.New("unchanged")

// call makes one request and decodes its answer into v.
func (g *globalping) call(req *http.Request, want int, v any) (http.Header, error) {
	req.Header.Set("User-Agent", "releve-watchdog")
	resp, err := g.http.Do(req)
	if err != nil {
		e := explainer{address: req.URL.Host, host: req.URL.Hostname()}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("ask %s: no answer in time", req.URL.Host)
		}
		return nil, errors.New(e.explain(phaseConnect, err).detail)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask %s: its answer broke off", req.URL.Host)
	case resp.StatusCode == http.StatusNotModified:
		return nil, errUnchanged
	case resp.StatusCode != want:
		return nil, refusal(req.URL.Host, resp, text)
	case len(text) > answerLimit:
		return nil, fmt.Errorf("ask %s: its answer is longer than %d bytes", req.URL.Host, answerLimit)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("ask %s: its answer is not as documented", req.URL.Host)
	}
	return resp.Header, nil
}

// refusal says why the API did not do what it was asked.
func refusal(host string, resp *http.Response, text []byte) error {
	var said struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(text, &said) // without words, the status has to do
	what := fmt.Sprintf("ask %s: status %d", host, resp.StatusCode)
	if m := plain(said.Error.Message); m != "" {
		what += ": " + m
	}
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return errors.New(what)
	}
	after := busyAfter
	for _, name := range []string{"X-RateLimit-Reset", "Retry-After"} {
		if s, err := strconv.Atoi(resp.Header.Get(name)); err == nil && s >= 0 {
			after = min(time.Duration(s)*time.Second, time.Hour)
		}
	}
	return &errBusy{what, after}
}

// requestFor puts our own question into the words of the API.
func requestFor(t Target, n int) (measurementRequest, error) {
	address, err := dialAddress(t.URL, t.Address)
	if err != nil {
		return measurementRequest{}, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return measurementRequest{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return measurementRequest{}, fmt.Errorf("port %q: not a number", port)
	}
	protocol := "HTTPS"
	if t.URL.Scheme == "http" {
		protocol = "HTTP"
	}
	path := t.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	return measurementRequest{
		Type: "http", Target: host, Limit: n,
		Options: measurementOptions{protocol, number, measurementDetails{
			Host: t.URL.Hostname(), Path: path, Query: t.URL.RawQuery, Method: http.MethodGet,
		}},
	}, nil
}

// tally takes the votes. There may be fewer points than were asked for, where the API has no more.
func tally(t Target, a measurementAnswer, n int) ballot {
	b := ballot{final: a.Status != "in-progress"}
	for i, r := range a.Results {
		if i == n {
			break
		}
		v, why := t.vote(r.Result)
		b.votes = append(b.votes, v)
		if v == voteFailed {
			b.whys = append(b.whys, why)
		}
	}
	return b
}

// vote judges what one point saw, as far as it can by our own rules.
func (t Target) vote(r measurementResult) (vote, string) {
	switch r.Status {
	case "failed":
		return theirs(r.RawOutput)
	case "finished":
	default:
		return voteNone, ""
	}
	redirected := t.FollowRedirects && r.StatusCode >= 300 && r.StatusCode < 400
	took := time.Duration(r.Timings.Total * float64(time.Millisecond))
	switch {
	case r.StatusCode == 0:
		return voteNone, ""
	case redirected: // they do not follow; but somebody answers
	case !t.right(r.StatusCode):
		return voteFailed, fmt.Sprintf("status %d", r.StatusCode)
	}
	switch {
	case r.TLS != nil && !r.TLS.Authorized && t.Roots == nil: // authorities of our own are unknown there
		return voteFailed, "certificate: " + plain(r.TLS.Error)
	case t.Timeout > 0 && took > t.Timeout+patience:
		return voteFailed, fmt.Sprintf("an answer after %s", took.Round(100*time.Millisecond))
	case t.Body != nil && !redirected && !t.Body.MatchString(r.RawBody):
		if r.Truncated {
			return voteNone, "" // they keep 10 kB of it, we look at 64 KiB
		}
		return voteFailed, "the body does not match"
	}
	return voteReached, ""
}

// theirs tells a target that failed from a point that did. Only what is known to be the target's doing counts against
// it: a point without IPv6, say, says nothing.
func theirs(raw string) (vote, string) {
	line := plain(raw)
	for _, sign := range []string{
		"timeout", "ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "EPIPE", "EHOSTUNREACH", "EPROTO", "SSL routines",
		"socket hang up", "other side closed", "socket disconnected", "HTTPParserError", "Parse Error",
	} {
		if strings.Contains(strings.ToLower(raw), strings.ToLower(sign)) {
			return voteFailed, line
		}
	}
	return voteNone, ""
}

// plain is the first line of a stranger's text, short and fit for a terminal.
func plain(s string) string {
	const most = 120
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, s))
	return string(runes[:min(len(runes), most)])
}

func hostOf(base string) string {
	_, rest, _ := strings.Cut(base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// sleep reports whether all of d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
