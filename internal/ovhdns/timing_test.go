package ovhdns_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"releve/test/ovhworld"
)

// TestTimings holds the defaults to their share of the five minutes: how long
// until the name servers are told, and until the change is believed, when one
// call, or a service, is not well. The clock is the bubble's.
func TestTimings(t *testing.T) {
	hang := ovhworld.Fault{Hang: time.Hour}
	with := func(f ovhworld.Fault, method, path string) ovhworld.Fault {
		f.Method, f.Path = method, path
		return f
	}
	for _, tc := range []struct {
		name      string
		fault     ovhworld.Fault
		published time.Duration // at the latest, from the start
		done      time.Duration
	}{
		{"all well", ovhworld.Fault{Method: "PATCH"}, time.Second, time.Second},
		{"the time hangs", with(hang, "GET", "/auth/time"), 12 * time.Second, 12 * time.Second},
		{"a reading hangs", with(hang, "GET", "*/record/*"), 12 * time.Second, 12 * time.Second},
		{"a write hangs, and is done", with(ovhworld.Fault{Hang: time.Hour, Effect: ovhworld.Happens}, "PUT", "*"), 12 * time.Second, 22 * time.Second},
		{"a write hangs, and is not done", with(hang, "PUT", "*"), 12 * time.Second, 22 * time.Second},
		{"a write comes late", with(ovhworld.Fault{Status: 504, Body: "<html>", Effect: ovhworld.Late, Delay: 8 * time.Second}, "PUT", "*"), 2 * time.Second, 12 * time.Second},
		{"the refresh hangs", with(hang, "POST", "*/refresh"), 12 * time.Second, 12 * time.Second},
		{"one 503", ovhworld.Fault{Status: 503, Times: 1}, 2 * time.Second, 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, ovhworld.Options{}, prodRows...)
				c := newClient(t, inMemory(w))
				w.Fail(tc.fault)
				start := time.Now()
				published := make(chan time.Duration, 1)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					tick := time.NewTicker(50 * time.Millisecond)
					defer tick.Stop()
					for {
						if _, served := at(w, "www"); served.SameTargets(home) {
							published <- time.Since(start)
							return
						}
						select {
						case <-tick.C:
						case <-ctx.Done():
							published <- 24 * time.Hour
							return
						}
					}
				}()
				out, err := c.Replace(t.Context(), zone, site, home, nil)
				done := time.Since(start)
				synctest.Wait()
				time.Sleep(100 * time.Millisecond)
				cancel()
				if err != nil {
					t.Fatalf("%v %+v", err, out)
				}
				if p := <-published; p > tc.published || done > tc.done {
					t.Errorf("published after %v, done after %v", p, done)
				}
				settledAt(t, w, "www", home)
				w.Close()
				c.Close()
				synctest.Wait()
			})
		})
	}
}
