package ovhdns_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

var anySet = rapid.Custom(func(t *rapid.T) ovhdns.Set {
	ttl := rapid.SampledFrom([]int64{0, 60, 300, 3600})
	s := ovhdns.Set{}
	for _, target := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2", "198.51.100.7"}), 0, 3, rapid.ID).Draw(t, "v4") {
		s = append(s, a(target, ttl.Draw(t, "ttl")))
	}
	for _, target := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"2001:db8::1", "2001:db8::2"}), 0, 2, rapid.ID).Draw(t, "v6") {
		s = append(s, aaaa(target, ttl.Draw(t, "ttl")))
	}
	if len(s) == 0 {
		return prod
	}
	return s
})

var anyFault = rapid.Custom(func(t *rapid.T) ovhworld.Fault {
	f := ovhworld.Fault{
		Method: rapid.SampledFrom([]string{"", "", "PUT", "POST", "DELETE"}).Draw(t, "method"),
		Times:  rapid.IntRange(1, 3).Draw(t, "times"),
		Effect: rapid.SampledFrom([]ovhworld.Effect{ovhworld.Nothing, ovhworld.Happens, ovhworld.Late}).Draw(t, "effect"),
		Delay:  time.Duration(rapid.IntRange(1, 9).Draw(t, "delay")) * time.Second,
	}
	// Writes are few among the calls: aim at them.
	if f.First = 1; f.Method == "" {
		f.First = rapid.IntRange(1, 20).Draw(t, "first")
	}
	if f.Status = rapid.SampledFrom([]int{0, 500, 503}).Draw(t, "status"); f.Status == 0 {
		f.Cut = true
	}
	return f
})

// TestRandomHistories: any wishes, any faults, a process that dies now and
// then. The name never stands empty, success is never claimed falsely, and
// when the faults end so does the trouble.
func TestRandomHistories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A bubble has no deadline to ask for.
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) { history(t, rt) })
	})
}

func history(t *testing.T, rt *rapid.T) {
	w := newWorld(t, ovhworld.Options{DynHostAt60: rapid.Bool().Draw(rt, "dynHostAt60"), PostAnswersZero: true}, rows("www", anySet.Draw(rt, "first"))...)
	defer w.Close()
	var c *ovhdns.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for last := false; !last; {
		last = rapid.IntRange(0, 3).Draw(rt, "last") == 0
		want := anySet.Draw(rt, "want")
		ctx, cancel := context.WithCancel(t.Context())
		dies := 0
		if last {
			w.Calm()
		} else {
			for _, f := range rapid.SliceOfN(anyFault, 0, 3).Draw(rt, "faults") {
				w.Fail(f)
			}
			dies = rapid.IntRange(-20, 20).Draw(rt, "dies at")
		}
		calls, empty := 0, false
		w.OnCall(func() {
			held, _ := at(w, "www")
			empty = empty || len(held) == 0
			if calls++; calls == dies {
				cancel()
			}
		})
		var out ovhdns.Outcome
		var err error
		if c == nil { // a new process
			c = newClient(t, inMemory(w))
			out, err = c.Resume(ctx, zone, site, want, nil)
		} else {
			out, err = c.Replace(ctx, zone, site, want, nil)
		}
		w.OnCall(nil)
		if ctx.Err() != nil {
			c.Close()
			c = nil
		}
		cancel()

		held, served := at(w, "www")
		if empty || len(held) == 0 || len(served) == 0 {
			rt.Fatalf("the name stood empty: %v", w.Calls())
		}
		if err == nil && (!alike(held, want) || len(held) != len(want) || !served.SameTargets(want) || out.Pending || w.Late() > 0) {
			rt.Fatalf("claims %s, holds %s, serves %s, %d late: %+v", want, held, served, w.Late(), out)
		}
		if last && err != nil {
			rt.Fatalf("in calm: %v\n%v", err, w.Calls())
		}
	}
}

// alike is Equal where 3600, the zone's, is the same as 0.
func alike(x, y ovhdns.Set) bool {
	plain := func(s ovhdns.Set) ovhdns.Set {
		var p ovhdns.Set
		for _, r := range s {
			if r.TTL == 3600 {
				r.TTL = 0
			}
			p = append(p, r)
		}
		return p
	}
	return plain(x).Equal(plain(y))
}
