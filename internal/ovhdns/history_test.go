package ovhdns_test

import (
	"context"
	"testing"
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
		First:  rapid.IntRange(1, 20).Draw(t, "first"),
		Times:  rapid.IntRange(1, 3).Draw(t, "times"),
		Effect: rapid.SampledFrom([]ovhworld.Effect{ovhworld.Nothing, ovhworld.Happens, ovhworld.Late}).Draw(t, "effect"),
		Delay:  time.Millisecond,
	}
	if f.Status = rapid.SampledFrom([]int{0, 500, 503}).Draw(t, "status"); f.Status == 0 {
		f.Cut = true
	}
	return f
})

// TestRandomHistories: any wishes, any faults, a process that dies now and
// then. The name is never published empty, success is never claimed falsely,
// and when the faults end so does the trouble.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, ovhworld.Options{DynHostAt60: rapid.Bool().Draw(rt, "dynHostAt60"), PostAnswersZero: true}, rows("www", anySet.Draw(rt, "first"))...)
		defer w.Close()
		cfg := config(listen(t, w))
		cfg.Settle, cfg.Pause = 5*time.Millisecond, time.Nanosecond
		c := newClient(t, cfg)
		resume := false
		for range rapid.IntRange(1, 4).Draw(rt, "steps") {
			want := anySet.Draw(rt, "want")
			for _, f := range rapid.SliceOfN(anyFault, 0, 3).Draw(rt, "faults") {
				w.Fail(f)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if k := rapid.IntRange(0, 30).Draw(rt, "dies at"); k > 0 && k < 20 {
				calls := 0
				w.OnCall(func() {
					if calls++; calls == k {
						cancel()
					}
				})
			}
			do := c.Replace
			if resume {
				do = c.Resume
			}
			out, err := do(ctx, zone, site, want, nil)
			w.OnCall(nil)
			held, served := at(w, "www")
			if len(served) == 0 {
				rt.Fatalf("published without records: %v", w.Calls())
			}
			if err == nil && (!alike(held, want) || !served.SameTargets(want) || out.Pending) {
				rt.Fatalf("claims %s, holds %s, serves %s: %+v", want, held, served, out)
			}
			if resume = ctx.Err() != nil; resume {
				c.Close()
				c = newClient(t, cfg)
			}
			cancel()
		}
		want := anySet.Draw(rt, "at last")
		w.Calm()
		do := c.Replace
		if resume {
			do = c.Resume
		}
		if _, err := do(t.Context(), zone, site, want, nil); err != nil {
			rt.Fatalf("%v\n%v", err, w.Calls())
		}
		held, served := at(w, "www")
		if !alike(held, want) || len(held) != len(want) || !served.SameTargets(want) {
			rt.Fatalf("wanted %s, holds %s, serves %s", want, held, served)
		}
		c.Close()
	})
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
