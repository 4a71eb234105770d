package watchdog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"releve/internal/failover"
	"releve/internal/pairing"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// leaveAgentWord writes what an agent would have said at the time written, by the backup's clock. Prod's clock is off
// by a day and an hour.
func leaveAgentWord(t rapid.TB, dir string, written time.Time, behind time.Duration) {
	t.Helper()
	said := written.Add(25 * time.Hour)
	asOf := said.Add(-behind)
	text, err := pairing.Agent{Sequence: 1, Time: said, Folders: []pairing.Folder{
		{Name: "webroot", State: pairing.Syncing, AsOf: &asOf, Pending: 12},
		{Name: "new", State: pairing.Syncing},
	}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, pairing.AgentFile)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, written, written); err != nil {
		t.Fatal(err)
	}
}

func TestReplicaChecks(t *testing.T) {
	normal := failover.New()
	failing := failover.New()
	failing.Failures, failing.DownSince = 1, noon.Add(-2*time.Hour)
	down := failing
	down.Failures, down.Confirmed = 5, failing.DownSince.Add(20*time.Second)
	// One good answer in an outage, and the next failure.
	blip := down
	blip.Failures, blip.DownSince = 1, noon
	// Prod answers again, not often enough yet.
	recovering := down
	recovering.Failures, recovering.Successes = 0, 3
	recovered := recovering
	recovered.Confirmed = time.Time{}
	serving := recovered
	serving.Goal, serving.Serving = failover.Standby, failover.Standby
	for _, c := range []struct {
		name    string
		state   failover.State
		folder  string
		maxLag  time.Duration
		written time.Duration // ago
		behind  time.Duration
		want    string // "" = good
	}{
		{"fresh", normal, "webroot", time.Hour, 10 * time.Second, 0, ""},
		{"behind", normal, "webroot", time.Hour, 10 * time.Second, 2 * time.Hour, "2h0m10s old, and max_lag is 1h; last word from syncagent 10s ago: syncing, 12 entries to go"},
		{"heartbeat and lag add up", normal, "webroot", time.Hour, 40 * time.Minute, 40 * time.Minute, "1h20m old"},
		{"agent dead", normal, "webroot", time.Hour, 3 * time.Hour, 0, "3h old, and max_lag is 1h; last word from syncagent 3h ago"},
		{"any age will do", normal, "webroot", 0, 3000 * time.Hour, time.Hour, ""},
		{"at the limit", normal, "webroot", time.Hour, 0, time.Hour, ""},
		{"beyond it", normal, "webroot", time.Hour, 0, time.Hour + time.Second, "1h0m1s old"},
		{"unknown", normal, "mail", 0, 0, 0, "it has webroot, new"},
		{"never complete", normal, "new", 0, 0, 0, "never complete"},
		{"written in the future", normal, "webroot", time.Hour, -time.Minute, 0, ""},

		{"prod fails, was fresh then", failing, "webroot", time.Hour, 2*time.Hour + 5*time.Second, 0, ""},
		{"prod fails, was stale then", failing, "webroot", time.Hour, 4 * time.Hour, 0, "2h old when prod was last seen, and max_lag is 1h; last word from syncagent 4h ago"},
		{"prod is down, was fresh then", down, "webroot", time.Hour, 2*time.Hour + 5*time.Second, 0, ""},
		{"prod's web server is down, the agent lives", down, "webroot", time.Hour, 5 * time.Second, 0, ""},
		{"and sends nothing for prod's disk is dead", down, "webroot", time.Hour, 5 * time.Second, 2 * time.Hour, ""},
		{"and had not sent anything before", down, "webroot", time.Hour, 5 * time.Second, 4 * time.Hour, "old when prod was last seen"},
		{"a good answer in an outage", blip, "webroot", time.Hour, 2*time.Hour + 5*time.Second, 0, ""},
		{"prod comes back", recovering, "webroot", time.Hour, 2*time.Hour + 5*time.Second, 0, ""},
		{"prod is back, the agent is not", recovered, "webroot", time.Hour, 2*time.Hour + 5*time.Second, 0, "2h0m5s old, and"},
		{"the standby serves", serving, "webroot", time.Hour, 30 * time.Hour, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			leaveAgentWord(t, dir, noon.Add(-c.written), c.behind)
			checks := replicaChecks(Site{Folders: []string{c.folder}, MaxLag: c.maxLag}, dir, c.state, noon)
			if len(checks) != 1 || checks[0].Name != "replica of "+c.folder || checks[0].OK != (c.want == "") || !strings.Contains(checks[0].Why, c.want) {
				t.Errorf("got %+v, want %q", checks, c.want)
			}
		})
	}
}

func TestReplicaChecksWithoutAWord(t *testing.T) {
	dir := t.TempDir()
	site := Site{Folders: []string{"webroot"}}
	for _, c := range []struct {
		dir, file, want string
	}{
		{dir, "", "is it running on prod"},
		{filepath.Join(dir, "unmounted"), "", "is the disk mounted"},
		{dir, `{"version":2}`, "written by another version"},
	} {
		if c.file != "" {
			if err := os.WriteFile(filepath.Join(c.dir, pairing.AgentFile), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		checks := replicaChecks(site, c.dir, failover.New(), noon)
		if len(checks) != 1 || checks[0].OK || !strings.Contains(checks[0].Why, c.want) {
			t.Errorf("got %+v, want %q", checks, c.want)
		}
	}
	if checks := replicaChecks(Site{}, filepath.Join(dir, "unmounted"), failover.New(), noon); len(checks) > 0 {
		t.Errorf("a site without folders asks for %+v", checks)
	}
}

// TestAnOutageDoesNotAgeTheReplica drives the real state machine through an outage with blips, cut lines and restarts:
// a replica that was fresh when prod died stays so until prod counts as up again, however long that takes, and one
// that was stale stays stale.
func TestAnOutageDoesNotAgeTheReplica(t *testing.T) {
	dir := t.TempDir()
	const maxLag = 15 * time.Minute
	policy := failover.Policy{Failures: 3, Successes: 4, Gap: 2 * time.Minute, Fresh: time.Minute}
	rapid.Check(t, func(t *rapid.T) {
		st, now := failover.New(), noon
		round := func(v failover.Verdict) {
			now = now.Add(5 * time.Second)
			st, _ = failover.Next(st, failover.Observation{Time: now, Probed: true, Verdict: v}, policy)
		}
		for range 5 {
			round(failover.Up)
		}
		age := time.Duration(rapid.IntRange(0, 1800).Draw(t, "age in seconds at prod's death")) * time.Second
		leaveAgentWord(t, dir, now.Add(-age/2), age-age/2)
		fresh := age+5*time.Second <= maxLag // at the first failed round
		for range policy.Failures {
			round(failover.Down)
		}
		if stale := age+time.Duration(policy.Failures)*5*time.Second > maxLag; fresh && stale {
			return // after one good answer, the round that made prod count as down is what is remembered of its death
		}
		up := 0
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			switch e := rapid.SampledFrom([]string{"down", "up", "unknown", "wait", "restart"}).Draw(t, "event"); e {
			case "up":
				if up++; up == policy.Successes {
					return // the outage is over
				}
				round(failover.Up)
			case "down":
				up = 0
				round(failover.Down)
			case "unknown":
				round(failover.Unknown)
			case "wait": // our machine sleeps
				up = 0
				now = now.Add(time.Duration(rapid.IntRange(3, 600).Draw(t, "minutes")) * time.Minute)
			case "restart":
				text, err := st.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if st, err = failover.Decode(text); err != nil {
					t.Fatal(err)
				}
			}
			if st.Confirmed.IsZero() {
				return // prod counts as up
			}
			checks := replicaChecks(Site{Folders: []string{"webroot"}, MaxLag: maxLag}, dir, st, now)
			if checks[0].OK != fresh {
				t.Fatalf("age %v at prod's death; %v later: %+v", age, now.Sub(noon), checks[0])
			}
		}
	})
}

func TestOnlyReplicaFails(t *testing.T) {
	good, bad := failover.Check{Name: "answer", OK: true}, failover.Check{Name: "answer"}
	old, fresh := failover.Check{Name: "replica of a"}, failover.Check{Name: "replica of a", OK: true}
	for _, c := range []struct {
		checks []failover.Check
		want   bool
	}{
		{nil, false},
		{[]failover.Check{good, fresh}, false},
		{[]failover.Check{good, old}, true},
		{[]failover.Check{bad, old}, false},
		{[]failover.Check{bad, fresh}, false},
		{[]failover.Check{good, fresh, old}, true},
	} {
		if got := onlyReplicaFails(c.checks); got != c.want {
			t.Errorf("%+v: %v", c.checks, got)
		}
	}
}

// TestStandbyServes: the agent holds from the moment at which the zone may lead to the standby until it is sure not to.
func TestStandbyServes(t *testing.T) {
	for _, c := range []struct {
		goal, serving failover.Who
		unsettled     bool
		want          bool
	}{
		{failover.Prod, failover.Prod, false, false},
		{failover.Standby, failover.Prod, true, true},     // being written
		{failover.Standby, failover.Standby, true, true},  // accepted
		{failover.Standby, failover.Standby, false, true}, // published
		{failover.Prod, failover.Standby, true, true},     // being given back
		{failover.Prod, failover.Prod, true, true},        // accepted, not published; or a switch that was given up in the middle
	} {
		st := failover.New()
		st.Goal, st.Serving, st.Unsettled = c.goal, c.serving, c.unsettled
		if got := standbyServes(st); got != c.want {
			t.Errorf("%s: %v", fmt.Sprint(c), got)
		}
	}
}
