package watchdog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/pairing"
)

// control makes the control folder and has the site need a replica of webroot no older than maxLag.
func (w *world) control(maxLag string) string {
	w.Helper()
	dir := filepath.Join(w.dir, "control")
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.Fatal(err)
	}
	w.set("max_switches_per_day", fmt.Sprintf("4\nfolders = [\"webroot\"]\nmax_lag = %q", maxLag))
	w.set("listen", fmt.Sprintf("\"\"\n[replica]\ncontrol = %q", dir))
	return dir
}

// heartbeat is the word of an agent whose replica is complete, left at the time at.
func (w *world) heartbeat(control string, at time.Time) {
	w.Helper()
	text, err := pairing.Agent{Sequence: 1, Time: at, Folders: []pairing.Folder{{Name: "webroot", State: pairing.InSync, AsOf: &at}}}.Encode()
	if err != nil {
		w.Fatal(err)
	}
	name := filepath.Join(control, pairing.AgentFile)
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Chtimes(name+".new", at, at); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		w.Fatal(err)
	}
}

// replicaIs waits for a look at the replica that finds it good, or not.
func (w *world) replicaIs(good bool) {
	w.Helper()
	w.until(fmt.Sprintf("a replica that is good: %v", good), func(st status) bool {
		s := st.Sites[0]
		return s.Verdict == "up" && len(s.Records) == 2 && len(s.Ready) == 4 && s.Ready[3].Check == "replica of webroot" && s.Ready[3].OK == good
	})
}

// agentIsTold waits until the agent is told that the standby serves, or not.
func (w *world) agentIsTold(control string, who pairing.Who, term int) {
	w.Helper()
	w.eventually(fmt.Sprintf("word for the agent that %s serves", who), func() bool {
		said, err := pairing.ReadWatchdog(control)
		return err == nil && len(said.Sites) == 1 && said.Sites[0].Name == name && said.Sites[0].Serving == who && said.Sites[0].Term == term
	})
}

// TestReplicaTooOld (W2): no switch to it, the owner told why, and a switch as soon as it is mended.
func TestReplicaTooOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.control("1h")
	w.heartbeat(control, time.Now().Add(-2*time.Hour))
	w.start()
	w.replicaIs(false)
	m := w.told("replica_lag")
	if !strings.Contains(m.Text, "replica of webroot: 2h") || !strings.Contains(m.Text, "last word from syncagent 2h") {
		t.Errorf("the message does not say how old, or why:\n%s", m.Text)
	}
	w.prod.Stop()
	if m := w.told("cannot_switch"); !strings.Contains(m.Text, "replica of webroot: 2h") {
		t.Errorf("the message does not say why:\n%s", m.Text)
	}
	w.rounds(5)
	w.zoneIs(before)
	w.heartbeat(control, time.Now())
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	if n := w.phone.count("standby_down"); n > 0 {
		t.Errorf("told the same twice: %v", w.phone.messages())
	}
}

// TestOutageDoesNotAgeTheReplica: prod's agent is silent from the moment prod dies, and the switch takes longer than
// max_lag because OVH is down too.
func TestOutageDoesNotAgeTheReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.control("6s")
	w.heartbeat(control, time.Now().Add(time.Second))
	w.start()
	w.replicaIs(true)
	up := w.ovh.Down()
	w.heartbeat(control, time.Now())
	w.prod.Stop()
	died := time.Now()
	w.until("an outage longer than max_lag", func(st status) bool { return time.Since(died) > 10*time.Second && st.Sites[0].Verdict == "down" })
	up()
	w.in("failed_over", "standby")
	w.zoneIs(switched)
}

func TestAgentIsToldWhoServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.control("0")
	w.heartbeat(control, time.Now().Add(-1000*time.Hour))
	w.start()
	w.replicaIs(true)
	w.agentIsTold(control, pairing.Prod, 0)
	w.prod.Stop()
	w.in("failed_over", "standby")
	w.agentIsTold(control, pairing.Standby, 1)
	said, err := pairing.ReadWatchdog(control)
	if err != nil || said.Sites[0].Since == nil || said.Sites[0].CertificateDays == nil || *said.Sites[0].CertificateDays != 89 || said.DiskFree == 0 {
		t.Errorf("said %+v, %v", said, err)
	}
	w.failback()
	w.zoneIs(before)
	w.agentIsTold(control, pairing.Prod, 2)
}

// TestAgentIsToldNothingNewBeforeTheZoneIsRead: a watchdog that has lost its memory, and cannot ask OVH, does not know
// that prod serves.
func TestAgentIsToldNothingNewBeforeTheZoneIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.control("0")
	w.heartbeat(control, time.Now())
	old := pairing.Watchdog{Time: time.Now(), Sites: []pairing.Site{{Name: name, Serving: pairing.Standby, Term: 1}}}
	if err := pairing.WriteWatchdog(control, old); err != nil {
		t.Fatal(err)
	}
	up := w.ovh.Down()
	w.start()
	w.eventually("a word of the new process", func() bool {
		said, err := pairing.ReadWatchdog(control)
		return err == nil && said.Time.After(old.Time)
	})
	w.agentIsTold(control, pairing.Standby, 0)
	up()
	w.agentIsTold(control, pairing.Prod, 0)
}

func TestControlFolderGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.control("1h")
	if err := os.Remove(control); err != nil {
		t.Fatal(err)
	}
	w.check(1, "✗ control folder "+control, "✗ www.example.net: replica of webroot: the word of syncagent cannot be read", "is the disk mounted")
	w.start()
	w.until("the problem shown", func(st status) bool {
		return strings.Contains(strings.Join(st.Problems, "\n"), "syncagent cannot be told who serves")
	})
	w.replicaIs(false)
	if err := os.Mkdir(control, 0o700); err != nil {
		t.Fatal(err)
	}
	w.heartbeat(control, time.Now())
	w.replicaIs(true)
	w.agentIsTold(control, pairing.Prod, 0)
}
