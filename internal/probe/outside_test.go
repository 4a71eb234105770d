package probe_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/internal/probe"
	"releve/test/pingworld"
)

func startOutside(t *testing.T) (*pingworld.World, probe.Outside) {
	t.Helper()
	w, err := pingworld.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c := w.Complaints(); len(c) > 0 {
			t.Errorf("the API complains: %q", c)
		}
		w.Close()
	})
	return w, probe.Outside{Base: mustURL(t, w.URL()), Points: 5, Timeout: 3 * time.Second}
}

func prodAt(t *testing.T, address string) probe.Target {
	t.Helper()
	return probe.Target{URL: mustURL(t, "https://www.example.net/health?x=1"), Address: address, Timeout: 2 * time.Second}
}

// What the points see, counted: most of those that can tell decide, if they are most of those that were asked.
func TestOutsideCounts(t *testing.T) {
	t.Parallel()
	reaches, timesOut, refused, noRoute, offline, silent := pingworld.Reaches, pingworld.TimesOut, pingworld.Refused, pingworld.NoRoute, pingworld.Offline, pingworld.Silent
	late := timesOut
	late.After = time.Second
	for _, c := range []struct {
		points []pingworld.Sight
		state  probe.State
		why    string
	}{
		{[]pingworld.Sight{timesOut, timesOut, refused, refused, timesOut}, probe.Down, "0 of 5 points reach it (Request timeout.)"},
		{[]pingworld.Sight{reaches, reaches, reaches, reaches, reaches}, probe.Up, "5 of 5 points reach it"},
		{[]pingworld.Sight{reaches, timesOut, refused, timesOut, reaches}, probe.Down, "2 of 5 points reach it (Request timeout.)"},
		{[]pingworld.Sight{reaches, reaches, refused, timesOut, reaches}, probe.Up, "3 of 5 points reach it (connect ECONNREFUSED 203.0.113.10:443)"},
		{[]pingworld.Sight{late, late, late, late, late}, probe.Down, "0 of 5 points"},
		// A point's own failures are nobody's votes.
		{[]pingworld.Sight{noRoute, offline, refused, refused, timesOut}, probe.Down, "0 of 3 points"},
		{[]pingworld.Sight{noRoute, offline, noRoute, refused, timesOut}, probe.Unknown, "2 of 5 points could tell in time"},
		{[]pingworld.Sight{noRoute, reaches, timesOut, refused, reaches}, probe.Unknown, "2 of 4 points reach it"},
		{[]pingworld.Sight{noRoute, noRoute, noRoute, noRoute, noRoute}, probe.Unknown, "0 of 5 points could tell in time"},
		// A majority of all is waited for no longer, and who has come by the end counts.
		{[]pingworld.Sight{silent, silent, refused, refused, refused}, probe.Down, "0 of 3 points"},
		{[]pingworld.Sight{silent, reaches, reaches, refused, reaches}, probe.Up, "3 of 4 points"},
		{[]pingworld.Sight{silent, silent, silent, refused, refused}, probe.Unknown, "no more in time"},
		// There may be fewer points than one wants.
		{[]pingworld.Sight{refused, refused}, probe.Down, "0 of 2 points"},
		{[]pingworld.Sight{refused}, probe.Unknown, "1 of 1 points could tell"},
		{nil, probe.Unknown, "status 422: No matching IPv4 probes available."},
	} {
		t.Run(fmt.Sprint(c.state, c.why), func(t *testing.T) {
			t.Parallel()
			w, o := startOutside(t)
			w.See(c.points...)
			began := time.Now()
			r := o.Ask(t.Context(), []probe.Target{prodAt(t, "203.0.113.10")})
			if r.State != c.state || !strings.Contains(r.Why, c.why) {
				t.Errorf("%s: %s; want %s: %s", r.State, r.Why, c.state, c.why)
			}
			if took := time.Since(began); took > o.Timeout+500*time.Millisecond {
				t.Errorf("took %s", took)
			}
			if asked := w.Asked(); len(c.points) > 0 {
				want := pingworld.Request{Time: asked[0].Time, Target: "203.0.113.10", Protocol: "HTTPS", Host: "www.example.net", Path: "/health", Query: "x=1", Port: 443, Limit: 5}
				if len(asked) != 1 || asked[0] != want {
					t.Errorf("asked %+v", asked)
				}
			}
		})
	}
}

// A point that got an answer is judged by our own rules, as far as that can be done from what it tells.
func TestOutsideJudges(t *testing.T) {
	t.Parallel()
	with := func(change func(*pingworld.Sight)) pingworld.Sight {
		s := pingworld.Reaches
		change(&s)
		return s
	}
	for _, c := range []struct {
		name   string
		sight  pingworld.Sight
		target func(*probe.Target)
		state  probe.State
		why    string
	}{
		{"wrong status", with(func(s *pingworld.Sight) { s.Code = 503 }), nil, probe.Down, "status 503"},
		{"another right status", with(func(s *pingworld.Sight) { s.Code = 401 }), func(t *probe.Target) { t.Status = []int{401} }, probe.Up, ""},
		{"a redirect is an answer like any other", with(func(s *pingworld.Sight) { s.Code = 301 }), nil, probe.Down, "status 301"},
		{"a redirect that we would follow", with(func(s *pingworld.Sight) { s.Code = 301 }), func(t *probe.Target) { t.FollowRedirects = true }, probe.Up, ""},
		{"certificate", with(func(s *pingworld.Sight) { s.TLS = "certificate has expired" }), nil, probe.Down, "certificate has expired"},
		{"authority of our own", with(func(s *pingworld.Sight) { s.TLS = "self-signed certificate in certificate chain" }), func(t *probe.Target) { t.Roots = x509.NewCertPool() }, probe.Up, ""},
		{"body", with(func(*pingworld.Sight) {}), func(t *probe.Target) { t.Body = regexp.MustCompile("works") }, probe.Up, ""},
		{"wrong body", with(func(*pingworld.Sight) {}), func(t *probe.Target) { t.Body = regexp.MustCompile("welcome") }, probe.Down, "the body does not match"},
		{"a body they do not keep", with(func(s *pingworld.Sight) { s.Body = strings.Repeat("x", 20_000) + "welcome" }), func(t *probe.Target) { t.Body = regexp.MustCompile("welcome") }, probe.Unknown, ""},
		{"slow, and far away", with(func(s *pingworld.Sight) { s.Took = 2900 * time.Millisecond }), nil, probe.Up, ""},
		{"too slow", with(func(s *pingworld.Sight) { s.Took = 8 * time.Second }), nil, probe.Down, "an answer after 8s"},
		{"terminal", pingworld.Sight{Status: "failed", Raw: "\x1b[31mECONNRESET\x07 \u202e\nsecond line"}, nil, probe.Down, "([31mECONNRESET )"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, o := startOutside(t)
			w.See(slices.Repeat([]pingworld.Sight{c.sight}, 5)...)
			target := prodAt(t, "203.0.113.10")
			if c.target != nil {
				c.target(&target)
			}
			if r := o.Ask(t.Context(), []probe.Target{target}); r.State != c.state || !strings.Contains(r.Why, c.why) {
				t.Errorf("%s: %s; want %s: %s", r.State, r.Why, c.state, c.why)
			}
		})
	}
}

// A site is asked about at each of its addresses, and is up as long as one of them is.
func TestOutsideOfSeveralAddresses(t *testing.T) {
	t.Parallel()
	w, o := startOutside(t)
	w.See(slices.Repeat([]pingworld.Sight{pingworld.TimesOut}, 5)...)
	targets := []probe.Target{prodAt(t, "203.0.113.10"), prodAt(t, "[2001:db8::10]:8443")}
	targets[1].URL = mustURL(t, "http://www.example.net")
	r := o.Ask(t.Context(), targets)
	if r.State != probe.Down || r.Asked != 10 || r.Failed != 10 || !strings.Contains(r.Why, "203.0.113.10: 0 of 5") || !strings.Contains(r.Why, "[2001:db8::10]:8443: 0 of 5") {
		t.Errorf("%+v", r)
	}
	for _, a := range w.Asked() {
		if a.Target == "2001:db8::10" && (a.Port != 8443 || a.Protocol != "HTTP" || a.Path != "/") {
			t.Errorf("asked %+v", a)
		}
	}
	if r := o.Ask(t.Context(), nil); r.State != probe.Unknown {
		t.Errorf("%+v", r)
	}
}

// Whatever the API does, it takes no longer than it may and is no verdict.
func TestOutsideFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		ill   func(*pingworld.World)
		why   string
		after time.Duration
	}{
		{"rate", func(w *pingworld.World) { w.Busy(97) }, "status 429: API rate limit exceeded.; it wants to be left alone for 1m37s", 97 * time.Second},
		{"rate without an end", func(w *pingworld.World) { w.Busy(1e9) }, "left alone for 1h0m0s", time.Hour},
		{"maintenance", func(w *pingworld.World) { w.Answer(503) }, "status 503; it wants to be left alone for 1m0s", time.Minute},
		{"broken", func(w *pingworld.World) { w.Answer(500) }, "status 500", 0},
		{"another program", func(w *pingworld.World) { w.Answer(202) }, "not as documented", 0},
		{"a redirect", func(w *pingworld.World) { w.Answer(302) }, "status 302", 0},
		{"hangs", func(w *pingworld.World) { w.Hang(true) }, "no answer in time", 0},
		{"gone", func(w *pingworld.World) { w.Close() }, " the connection", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, err := pingworld.Start()
			if err != nil {
				t.Fatal(err)
			}
			c.ill(w)
			o := probe.Outside{Base: mustURL(t, w.URL()+"/"), Points: 5, Timeout: 700 * time.Millisecond}
			began := time.Now()
			r := o.Ask(t.Context(), []probe.Target{prodAt(t, "203.0.113.10")})
			if r.State != probe.Unknown || !strings.Contains(r.Why, c.why) || r.After != c.after {
				t.Errorf("%+v; want %q", r, c.why)
			}
			if took := time.Since(began); took > 1500*time.Millisecond {
				t.Errorf("took %s", took)
			}
			if c.name != "gone" {
				w.Close()
			}
		})
	}
	// And its caller can stop it.
	w, o := startOutside(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	w.Hang(true)
	o.Ask(ctx, []probe.Target{prodAt(t, "203.0.113.10")})
	if took := time.Since(began); took > time.Second {
		t.Errorf("stopped, it took %s", took)
	}
}
