package watchdog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/pairing"
	"releve/test/sites"
)

// compared is the word of an agent that holds, and has found that pending entries differ; -1 = it has not compared.
func (w *world) compared(control string, sequence uint64, pending int) {
	w.Helper()
	now := time.Now()
	f := pairing.Folder{Name: "webroot", State: pairing.Waiting, AsOf: &now, Compared: &now, Pending: pending}
	if pending < 0 {
		f.Pending, f.Compared = 0, nil
	}
	text, err := pairing.Agent{Sequence: sequence, Time: now, Folders: []pairing.Folder{f}}.Encode()
	if err != nil {
		w.Fatal(err)
	}
	file := filepath.Join(control, pairing.AgentFile)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

// awaits waits for the status to say, in so many words, what the fail-back waits for.
func (w *world) awaits(what string) {
	w.Helper()
	w.until("a fail-back that waits for: "+what, func(st status) bool {
		return st.Sites[0].Serving == "standby" && strings.Contains(strings.Join(st.Problems, "\n"), what)
	})
}

// TestAutomaticFailbackWaitsForTheAgent: prod answers as it should, and that is not enough: what it serves may have
// come from an old copy. Its agent must have said that its files are those that the standby serves.
func TestAutomaticFailbackWaitsForTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("mode", `"auto"`)
	control := w.control("1h")
	w.heartbeat(control, time.Now())
	stop := w.start()
	w.replicaIs(true)
	w.prod.Stop()
	w.in("failed_over", "standby")
	if err := w.prod.Resume(); err != nil {
		t.Fatal(err)
	}
	w.compared(control, 2, -1)
	w.awaits("syncagent has not compared them yet")
	w.rounds(6)
	w.awaits("syncagent has not compared them yet")
	if m := w.told("prod_back"); !strings.Contains(m.Text, "It fails back by itself after: prod's files of webroot") {
		t.Errorf("the message does not say what is waited for:\n%s", m.Text)
	}

	w.compared(control, 3, 2)
	w.awaits("they differ from those that are served here in 2 entries")
	w.rounds(6)
	w.awaits("they differ from those that are served here in 2 entries")
	if out := w.mustCommand("status"); !strings.Contains(out, "fail-back: prod's files of webroot") {
		t.Errorf("status says:\n%s", out)
	}

	// A restart knows no more, and does no more, not even before it has looked for the first time.
	stop()
	w.compared(control, 4, 1)
	w.standby.SetFault(sites.Mute)
	w.start()
	w.rounds(2)
	w.standby.SetFault(sites.Healthy)
	w.awaits("they differ from those that are served here in 1 entry")
	w.rounds(6)
	w.zoneIs(switched)

	w.compared(control, 5, 0)
	w.in("normal", "prod")
	w.zoneIs(before)
	w.told("failed_back")
}

// TestWellAtOnceAfterAFailback: the owner fails back as soon as prod answers; nothing of the outage is left in the
// status, neither prod's failures nor what was not asked while the standby served.
func TestWellAtOnceAfterAFailback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("successes", "1000")
	control := w.control("1h")
	w.heartbeat(control, time.Now())
	w.start()
	w.replicaIs(true)
	w.prod.Stop()
	w.in("failed_over", "standby")
	w.failback()
	w.heartbeat(control, time.Now())
	st := w.until("all well", func(st status) bool {
		s := st.Sites[0]
		// But for prod's AAAA record, which has the zone's TTL.
		return len(st.Problems) == 1 && strings.Contains(st.Problems[0], "a fail-over takes") && s.State == "normal" && len(s.Ready) == 4 && strings.HasSuffix(s.Ready[3].Why, " old")
	})
	if s := st.Sites[0]; s.Successes >= 1000 || s.Serving != "prod" {
		t.Errorf("%+v", s)
	}
}
