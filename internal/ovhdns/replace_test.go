package ovhdns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

func a(target string, ttl int64) ovhdns.Record {
	return ovhdns.Record{Type: "A", Target: target, TTL: ttl}
}
func aaaa(target string, ttl int64) ovhdns.Record {
	return ovhdns.Record{Type: "AAAA", Target: target, TTL: ttl}
}

// TestThereAndBack switches a name to the standby and back, and expects the
// zone as it was (W6), whatever the zone and the API are like.
func TestThereAndBack(t *testing.T) {
	tests := []struct {
		name   string
		opts   ovhworld.Options
		prod   ovhdns.Set
		home   ovhdns.Set
		writes int // there and back; 0 is unchecked
	}{
		{"one of each family, no IPv6 at home", ovhworld.Options{}, prod, home, 4},
		{"both families at home", ovhworld.Options{}, prod, ovhdns.Set{home[0], aaaa("2001:db8:7::7", 60)}, 4},
		{"several addresses", ovhworld.Options{}, ovhdns.Set{a("192.0.2.1", 60), a("192.0.2.2", 60), a("192.0.2.3", 60)}, home, 6},
		{"one address kept", ovhworld.Options{}, ovhdns.Set{a("192.0.2.1", 60), a("192.0.2.2", 60)}, ovhdns.Set{a("192.0.2.2", 60)}, 2},
		{"only the ttl differs", ovhworld.Options{}, ovhdns.Set{a("192.0.2.1", 300)}, ovhdns.Set{a("192.0.2.1", 60)}, 2},
		{"the zone's ttl", ovhworld.Options{}, ovhdns.Set{a("192.0.2.1", 0)}, home, 2},
		{"ids of new records are 0", ovhworld.Options{PostAnswersZero: true}, prod, home, 4},
		{"new records are not found for a while", ovhworld.Options{FreshNotFound: 3 * time.Millisecond}, prod, home, 4},
		{"errors in the new form", ovhworld.Options{NewErrors: true}, prod, home, 4},
		{"ttl 60 is DynHost", ovhworld.Options{DynHostAt60: true}, prod, home, 4},
		{"DynHost at home only", ovhworld.Options{DynHostAt60: true}, ovhdns.Set{a("192.0.2.1", 300)}, home, 0},
		{"DynHost suffers nothing beside it", ovhworld.Options{DynHostAt60: true, DynHostAlone: true}, ovhdns.Set{a("192.0.2.1", 300), aaaa("2001:db8::1", 300)}, home, 0},
		{"filters are ignored", ovhworld.Options{IgnoreFilters: true}, prod, home, 4},
		{"filters are ignored, DynHost", ovhworld.Options{IgnoreFilters: true, DynHostAt60: true}, prod, home, 4},
		{"OVH's clock is an hour ahead", ovhworld.Options{Skew: time.Hour}, prod, home, 4},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tc.opts, rows("www", tc.prod)...)
			cfg := config(listen(t, w))
			cfg.Pause = 2 * time.Millisecond
			c := newClient(t, cfg)
			out := replace(t, c, site, tc.home)
			settledAt(t, w, "www", tc.home)
			refreshedLast(t, w)
			if !out.Before.Equal(tc.prod) || !out.After.Equal(tc.home) || !out.Refreshed || out.Pending {
				t.Errorf("outcome %+v", out)
			}
			replace(t, c, "WWW.Example.net.", out.Before)
			settledAt(t, w, "www", tc.prod)
			if got := writes(w); tc.writes > 0 && len(got) != tc.writes {
				t.Errorf("%d writes: %q", len(got), got)
			}
			w.ForgetCalls()
			out = replace(t, c, site, tc.prod)
			if effects := w.Effects(); len(effects) > 0 || out.Refreshed || len(out.Writes) > 0 {
				t.Errorf("nothing to do, and done: %q, %+v", effects, out)
			}
		})
	}
}

func TestApexIsOneNameNotTheZone(t *testing.T) {
	for _, loose := range []bool{false, true} {
		w := newWorld(t, ovhworld.Options{IgnoreFilters: loose}, prodRows...)
		c := newClient(t, config(listen(t, w)))
		replace(t, c, zone, home)
		settledAt(t, w, "", home)
		if held, _ := at(w, "www"); !held.Equal(prod) {
			t.Errorf("www holds %s", held)
		}
		for _, call := range w.Calls() {
			list := call.Method == "GET" && strings.HasSuffix(call.Path, "/record")
			dynHost := strings.Contains(call.Path, "/dynHost/")
			if list && (!strings.Contains(call.Query, "subDomain=") || !dynHost && !strings.Contains(call.Query, "fieldType=")) {
				t.Errorf("asks for too much: %s", call)
			}
		}
	}
}

// TestUnderscoreIsNoWildcard: OVH takes it for one.
func TestUnderscoreIsNoWildcard(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, rows("w_w", prod)...)
	replace(t, newClient(t, config(listen(t, w))), "w_w.example.net", home)
	settledAt(t, w, "w_w", home)
}

func TestDuplicatesAreCleared(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, rows("www", ovhdns.Set{prod[0], prod[0], prod[1], a("192.0.2.1", 300)})...)
	c := newClient(t, config(listen(t, w)))
	have, err := c.Read(t.Context(), zone, site)
	if err != nil || !have.SameTargets(prod) {
		t.Fatalf("%s, %v", have, err)
	}
	replace(t, c, site, prod)
	settledAt(t, w, "www", prod)
	if got := writes(w); len(got) != 2 || !strings.HasPrefix(got[0], "remove") || !strings.HasPrefix(got[1], "remove") {
		t.Errorf("%q", got)
	}
}

// TestZoneTTLSpeltOut: a TTL equal to the zone's reads back as 0 and is right.
func TestZoneTTLSpeltOut(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, rows("www", home)...)
	c := newClient(t, config(listen(t, w)))
	want := ovhdns.Set{a("192.0.2.1", 3600)}
	out := replace(t, c, site, want)
	if len(out.Writes) != 1 || !out.After.Equal(ovhdns.Set{a("192.0.2.1", 0)}) {
		t.Errorf("%+v", out)
	}
	if out = replace(t, c, site, want); len(out.Writes) > 0 {
		t.Errorf("%+v", out)
	}
	if ttl, err := c.DefaultTTL(t.Context(), zone); ttl != 3600 || err != nil {
		t.Error(ttl, err)
	}
}

// TestStubbornTTL: OVH gives the records a TTL of its own. The name is switched
// and published all the same.
func TestStubbornTTL(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	w.Change(func(o *ovhworld.Options) { o.FixedTTL = 300 })
	c := newClient(t, config(listen(t, w)))
	out := replace(t, c, site, home)
	if !out.Refreshed || out.Pending || !strings.Contains(out.Warning, "OVH keeps A 198.51.100.7 ttl 300, where A 198.51.100.7 ttl 60 was written") {
		t.Errorf("%+v", out)
	}
	settledAt(t, w, "www", ovhdns.Set{a("198.51.100.7", 300)})
}

func TestCNAMEIsRefused(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	_, err := c.Replace(t.Context(), zone, "alias.example.net", home, nil)
	alias, ok := errors.AsType[*ovhdns.CNAMEError](err)
	if !ok || alias.Target != "www" || !strings.Contains(err.Error(), "is a CNAME of www") {
		t.Error(err)
	}
	if errors.Is(err, ovhdns.ErrUnconfirmed) || len(w.Effects()) > 0 {
		t.Error(err, w.Effects())
	}
}

func TestWantedRecordsAreChecked(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	for _, want := range []ovhdns.Set{
		nil, {a("x", 60)}, {a("2001:db8::1", 60)}, {aaaa("192.0.2.1", 60)}, {a("192.0.2.1", 59)}, {a("192.0.2.1", -1)},
		{aaaa("fe80::1%eth0", 60)}, {{Type: "TXT", Target: "192.0.2.1"}}, {aaaa("::ffff:192.0.2.1", 60)},
	} {
		if out, err := c.Replace(t.Context(), zone, site, want, nil); err == nil {
			t.Errorf("%s: %+v", want, out)
		}
	}
	if _, err := c.Replace(t.Context(), zone, "www.example.org", home, nil); err == nil {
		t.Error("a name outside the zone")
	}
	if calls := w.Calls(); len(calls) > 0 {
		t.Error(calls)
	}
}

func TestForeignRecordsAreNotOverwritten(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, rows("www", ovhdns.Set{a("203.0.113.99", 60)})...)
	c := newClient(t, config(listen(t, w)))
	foreign := errors.New("foreign records")
	var asked ovhdns.Set
	out, err := c.Replace(t.Context(), zone, site, home, func(have ovhdns.Set) error { asked = have; return foreign })
	if !errors.Is(err, foreign) || errors.Is(err, ovhdns.ErrUnconfirmed) || !asked.Equal(out.Before) {
		t.Errorf("%v, asked about %s, %+v", err, asked, out)
	}
	if effects := w.Effects(); len(effects) > 0 {
		t.Error(effects)
	}
}

// TestHandInBetween: the owner edits the zone after our first write. The next
// reading is put to allow, which refuses, and nothing more is written.
func TestHandInBetween(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	foreign := errors.New("foreign records")
	asked := 0
	w.Fail(ovhworld.Fault{Method: "PUT", Status: 503})
	out, err := c.Replace(t.Context(), zone, site, home, func(have ovhdns.Set) error {
		if asked++; asked == 1 {
			w.Edit(zone, func(all []ovhworld.Record) []ovhworld.Record {
				return append(all, ovhworld.Record{SubDomain: "www", Type: "A", Target: "203.0.113.99", TTL: 60})
			})
			return nil
		}
		return foreign
	})
	if !errors.Is(err, foreign) || asked != 2 || len(writes(w)) > 0 {
		t.Errorf("%v, asked %d times, %+v, %q", err, asked, out, w.Effects())
	}
}

// TestResumeRefreshes: an earlier process wrote everything and died before the
// refresh. Only Resume can know.
func TestResumeRefreshes(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	endpoint := listen(t, w)
	stop := w.Fail(ovhworld.Fault{Method: "POST", Path: "*/refresh", Cut: true, Times: -1})
	_, err := newClient(t, config(endpoint)).Replace(t.Context(), zone, site, home, nil)
	if !errors.Is(err, ovhdns.ErrUnconfirmed) || !strings.Contains(err.Error(), "could not confirm") {
		t.Fatal(err)
	}
	stop()
	c := newClient(t, config(endpoint))
	if out := replace(t, c, site, home); out.Refreshed {
		t.Error("a new process cannot know")
	}
	start := time.Now()
	out, err := c.Resume(t.Context(), zone, site, home, nil)
	if err != nil || !out.Refreshed || out.Pending || len(out.Writes) > 0 {
		t.Errorf("%+v %v", out, err)
	}
	if time.Since(start) < 20*time.Millisecond {
		t.Error("a write under way when the process died was not waited for")
	}
	settledAt(t, w, "www", home)
}

// TestRefreshIsOwed: the same process makes good for a refresh that failed.
func TestRefreshIsOwed(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	w.AddCredential(appKey, consumerKey, time.Time{}, ovhworld.Rule{Method: "GET", Path: "/*"}, ovhworld.Rule{Method: "PUT", Path: "/*"}, ovhworld.Rule{Method: "DELETE", Path: "/*"})
	out, err := c.Replace(t.Context(), zone, site, home, nil)
	e, ok := errors.AsType[*ovhdns.APIError](err)
	if !ok || e.Kind != ovhdns.NoRights || !out.Pending || out.Refreshed || !strings.Contains(err.Error(), "the key lacks POST /domain/zone/example.net/refresh") {
		t.Fatalf("%v %+v", err, out)
	}
	w.AddCredential(appKey, consumerKey, time.Time{}, ovhworld.AllRules()...)
	out = replace(t, c, site, home)
	if !out.Refreshed || out.Pending || len(out.Writes) > 0 {
		t.Errorf("%+v", out)
	}
	settledAt(t, w, "www", home)
}

// TestHalfDoneIsPublished: the second write is refused for good. The first is
// published all the same: IPv4 clients reach the standby.
func TestHalfDoneIsPublished(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	w.AddCredential(appKey, consumerKey, time.Time{}, ovhworld.Rule{Method: "GET", Path: "/*"}, ovhworld.Rule{Method: "PUT", Path: "/*"}, ovhworld.Rule{Method: "POST", Path: "/*"})
	out, err := c.Replace(t.Context(), zone, site, home, nil)
	if err == nil || !out.Refreshed || out.Pending {
		t.Errorf("%v %+v", err, out)
	}
	if _, served := at(w, "www"); !served.SameTargets(ovhdns.Set{home[0], prod[1]}) {
		t.Errorf("served %s", served)
	}
}

func TestRenumberedInBetween(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	first := true
	out, err := c.Replace(t.Context(), zone, site, home, func(ovhdns.Set) error {
		if first {
			w.Renumber(zone)
			first = false
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v %+v", err, out)
	}
	settledAt(t, w, "www", home)
}

// faults are the ways in which one call goes wrong. A late effect comes after
// the next reading and before the last.
func faults() map[string]ovhworld.Fault {
	return map[string]ovhworld.Fault{
		"503":            {Status: 503},
		"429":            {Status: 429},
		"502 page, done": {Status: 502, Body: "<html>Bad Gateway</html>", Effect: ovhworld.Happens},
		"408 page":       {Status: 408, Body: "<html>Request Time-out</html>"},
		"cut before":     {Cut: true},
		"cut after":      {Cut: true, Effect: ovhworld.Happens},
		"500, done late": {Status: 500, Effect: ovhworld.Late, Delay: 8 * time.Second},
		"cut, done late": {Cut: true, Effect: ovhworld.Late, Delay: 8 * time.Second},
		"garbage":        {Status: 200, Body: "<html>login</html>"},
		"query time out": {Status: 400, Body: `{"errorCode":"QUERY_TIME_OUT","httpCode":"400 Bad Request","message":"Query out of time"}`},
		"invalid sig":    {Status: 400, Body: `{"class":"Client::BadRequest","message":"Invalid signature"}`},
		"redirect":       {Status: 302, Body: "moved"},
		"hang":           {Hang: time.Hour},
	}
}

// TestFaultAtEveryCall makes the k-th call go wrong, for every k and in every
// way, on the way to the standby and back. Whatever the first attempt says,
// the second leaves the zone right, published, and without a second effect.
func TestFaultAtEveryCall(t *testing.T) {
	for name, fault := range faults() {
		t.Run(name, func(t *testing.T) {
			for _, way := range [][2]ovhdns.Set{{prod, home}, {home, prod}} {
				for k, done := 1, false; !done; k++ {
					fault.First = k
					synctest.Test(t, func(t *testing.T) {
						done = faultAtCall(t, fault, way[0], way[1])
					})
					if t.Failed() {
						t.Fatalf("call %d of %s → %s", k, way[0], way[1])
					}
				}
			}
		})
	}
}

// faultAtCall reports whether the fault came too late to be played.
func faultAtCall(t *testing.T, fault ovhworld.Fault, from, to ovhdns.Set) (done bool) {
	w := newWorld(t, ovhworld.Options{}, rows("www", from)...)
	c := newClient(t, inMemory(w))
	w.Fail(fault)
	out, err := c.Replace(t.Context(), zone, site, to, nil)
	done = !slices.ContainsFunc(w.Calls(), func(c ovhworld.Call) bool { return c.Fault })
	// One attempt may do; a claim of success must be true, and stay true.
	if err == nil {
		settledAt(t, w, "www", to)
		if out.Pending || !out.Refreshed || w.Late() > 0 {
			t.Errorf("%+v, %d effects to come", out, w.Late())
		}
	}
	replace(t, c, site, to)
	settledAt(t, w, "www", to)
	refreshedLast(t, w)
	if got := writes(w); fault.Effect != ovhworld.Late && len(got) != 2 {
		t.Errorf("%d writes: %q", len(got), got)
	}
	if t.Failed() {
		t.Logf("%v\n%+v\n%v", err, out, w.Calls())
	}
	return done
}

// TestLateEffectIsWaitedFor: the reply to POST is lost, the record is not
// there, so it is added again; then the first one turns up, either after the
// refresh or while that takes its time.
func TestLateEffectIsWaitedFor(t *testing.T) {
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ovhworld.Options{}, rows("www", home)...)
			c := newClient(t, inMemory(w))
			w.Fail(ovhworld.Fault{Method: "POST", Path: "*/record", Cut: true, Effect: ovhworld.Late, Delay: 5 * time.Second})
			if slow {
				// The reading before the refresh proves nothing when this is over.
				w.Fail(ovhworld.Fault{Method: "POST", Path: "*/refresh", Effect: ovhworld.Happens, Hang: time.Hour})
			}
			out := replace(t, c, site, prod)
			settledAt(t, w, "www", prod)
			refreshedLast(t, w)
			if !strings.Contains(fmt.Sprint(out.Writes), "not confirmed") {
				t.Errorf("%+v", out)
			}
			kinds := map[string]int{}
			for _, e := range writes(w) {
				kind, _, _ := strings.Cut(e, " ")
				kinds[kind]++
			}
			if kinds["add"] != 2 || kinds["remove"] != 1 {
				t.Errorf("%q", w.Effects())
			}
		})
	}
}

// TestOutageIsSurvived is 13 October 2021 in short: every call answers 503 for
// a while, and whoever keeps asking gets there.
func TestOutageIsSurvived(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	stop := w.Down()
	for range 3 {
		out, err := c.Replace(t.Context(), zone, site, home, nil)
		e, ok := errors.AsType[*ovhdns.APIError](err)
		if !ok || e.Kind != ovhdns.Temporary || e.Code != 503 || out.Pending || errors.Is(err, ovhdns.ErrUnconfirmed) {
			t.Errorf("%v %+v", err, out)
		}
	}
	stop()
	replace(t, c, site, home)
	settledAt(t, w, "www", home)
}

// TestSettlingIsBounded: ctx ends while a lost reply is waited out.
func TestSettlingIsBounded(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	cfg := config(listen(t, w))
	cfg.Settle = time.Hour
	c := newClient(t, cfg)
	w.Fail(ovhworld.Fault{Method: "PUT", Cut: true, Effect: ovhworld.Happens})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	out, err := c.Replace(ctx, zone, site, home, nil)
	if !errors.Is(err, ovhdns.ErrUnconfirmed) || !errors.Is(err, context.DeadlineExceeded) || !out.Refreshed {
		t.Errorf("%v %+v", err, out)
	}
	settledAt(t, w, "www", home) // published before the wait
}
