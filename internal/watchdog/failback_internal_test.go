package watchdog

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"releve/internal/failover"
	"releve/internal/pairing"
)

func TestReturnCheck(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	prods := now.Add(-3 * time.Hour) // prod's clock is wrong
	ago := func(d time.Duration) *time.Time { at := prods.Add(-d); return &at }
	for _, c := range []struct {
		name    string
		folder  pairing.Folder
		written time.Duration // ago
		err     error
		ok      bool
		why     string
	}{
		{"the same", pairing.Folder{Name: "webroot", Compared: ago(time.Minute)}, 10 * time.Second, nil, true, "the same as"},
		{"not compared", pairing.Folder{Name: "webroot", AsOf: ago(0), InSyncSince: ago(time.Hour)}, 0, nil, false, "has not compared them yet"},
		{"compared long ago", pairing.Folder{Name: "webroot", Compared: ago(16 * time.Minute)}, 0, nil, false, "16m ago, and not since"},
		{"different", pairing.Folder{Name: "webroot", Compared: ago(0), Pending: 3}, 0, nil, false, "differ from those that are served here in 3 entries"},
		{"silent", pairing.Folder{Name: "webroot", Compared: ago(0)}, 61 * time.Second, nil, false, "has said nothing for 1m1s"},
		{"another folder", pairing.Folder{Name: "letsencrypt", Compared: ago(0)}, 0, nil, false, "knows no folder of that name"},
		{"no word", pairing.Folder{}, 0, fs.ErrNotExist, false, "has left no word"},
	} {
		word := agentWord{pairing.Agent{Time: prods, Folders: []pairing.Folder{c.folder}}, now.Add(-c.written), c.err}
		if ok, why := returnCheck("webroot", "/control", word, now); ok != c.ok || !strings.Contains(why, c.why) {
			t.Errorf("%s: %v, %q", c.name, ok, why)
		}
	}
}

// Nothing is asked of the agent where nothing comes of it.
func TestReturnChecksAreForAutomaticFailbacks(t *testing.T) {
	auto, folders := Failback{Auto: true}, []string{"webroot", "letsencrypt"}
	for _, c := range []struct {
		site Site
		n    int
	}{
		{Site{Failback: auto, Folders: folders}, 2},
		{Site{Failback: auto}, 0},
		{Site{Folders: folders}, 0},
	} {
		checks := returnChecks(c.site, t.TempDir(), now())
		if len(checks) != c.n || (len(unasked(c.site)) > 0) != (c.n > 0) {
			t.Errorf("%+v: %v", c.site, checks)
		}
		for _, check := range append(checks, unasked(c.site)...) {
			if check.OK {
				t.Errorf("passed without a word: %v", check)
			}
		}
	}
}

// What is asked of the replica changes with who serves, so the standby is looked at again at once.
func TestLookAgainWhenAnotherServes(t *testing.T) {
	s := &site{asked: make(chan struct{}, 1), word: make(chan struct{}, 1), now: now, home: &home{}, state: failover.New()}
	looked := func() bool {
		select {
		case <-s.asked:
			return true
		default:
			return false
		}
	}
	s.publish()
	if looked() {
		t.Error("looked although nothing changed")
	}
	for _, who := range []failover.Who{failover.Standby, failover.Prod} {
		s.state.Goal, s.state.Serving = who, who
		if s.publish(); !looked() {
			t.Errorf("not looked when %s began to serve", who)
		}
	}
}
