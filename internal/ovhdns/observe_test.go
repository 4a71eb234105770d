package ovhdns_test

import (
	"testing"
	"time"

	"releve/test/ovhworld"
)

// TestObserve: each call is counted once, by method and by what became of it.
func TestObserve(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	cfg := config(listen(t, w))
	seen := map[string]int{}
	cfg.Observe = func(method, result string) { seen[method+" "+result]++ }
	c := newClient(t, cfg)
	expect := func(what string, want map[string]int) {
		t.Helper()
		total, calls := 0, len(w.Calls())
		for _, n := range seen {
			total += n
		}
		if total != calls {
			t.Errorf("%s: %d of %d calls are counted: %v", what, total, calls, seen)
		}
		for key, n := range want {
			if seen[key] != n {
				t.Errorf("%s: %d of %s, want %d: %v", what, seen[key], key, n, seen)
			}
		}
		w.ForgetCalls()
		clear(seen)
	}
	replace(t, c, site, home)
	expect("all is well", map[string]int{"PUT ok": 1, "DELETE ok": 1, "POST ok": 1, "GET temporary": 0})
	w.Fail(ovhworld.Fault{Method: "POST", Path: "*/record", Cut: true, Effect: ovhworld.Happens})
	w.Fail(ovhworld.Fault{Method: "GET", Status: 503})
	replace(t, c, site, prod)
	expect("faults", map[string]int{"PUT ok": 1, "POST unconfirmed": 1, "POST ok": 1, "GET temporary": 1})
	w.AddCredential(appKey, consumerKey, time.Time{}, ovhworld.Rule{Method: "GET", Path: "/domain/*"})
	if _, err := c.Replace(t.Context(), zone, site, home, nil); err == nil {
		t.Error("written without a right to")
	}
	expect("no rights", map[string]int{"PUT rights": 1})
	other := cfg
	other.ConsumerKey = "nonsense"
	if _, err := newClient(t, other).Read(t.Context(), zone, site); err == nil {
		t.Error("read with a wrong key")
	}
	if seen["GET credential"] != 1 {
		t.Errorf("a wrong key: %v", seen)
	}
}
