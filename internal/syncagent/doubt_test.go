package syncagent

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/internal/plan"
)

// TestS2IdenticalAfterALateServer: the server of a connection that was cut carries out a deletion when the next session
// has long put a new file there. That is found soon, and mended.
func TestS2IdenticalAfterALateServer(t *testing.T) {
	a := newAgentWorld(t)
	page := filepath.Join(a.src, "page")
	write(t, page, "old")
	write(t, filepath.Join(a.src, "other"), "stays")
	reached, release := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	var once sync.Once
	a.pace = pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 50 * time.Millisecond, doubt: [2]time.Duration{50 * time.Millisecond, 2 * time.Second}}
	a.start(t)
	a.identical(t)
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "posix-rename" && strings.Contains(path, ".releve-trash") {
			once.Do(func() {
				close(reached)
				<-release
			})
		}
		return nil
	})
	must(t, os.Remove(page))
	<-reached
	a.ssh.Backup.Kill()
	write(t, page, "born anew")
	a.identical(t)
	before := statOf(t, filepath.Join(a.dst, "page"))
	letGo()
	eventually(t, "the late deletion, perhaps mended already", func() bool {
		now, err := os.Stat(filepath.Join(a.dst, "page"))
		return err != nil || !os.SameFile(before, now)
	})
	a.identical(t)
}

// TestDoubtIsBounded: a session is doubted twice after an unclean end, and no more; one that ended while nothing was under
// way is not. Large files on their way are waited for.
func TestDoubtIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	e := engine{pace: normalPace(), full: now}
	e.doubt(now)
	if at := e.relistAt(now); at != now.Add(fullEvery) {
		t.Errorf("without a reason: listed again at %v", at)
	}
	e.cutOff = true
	for _, want := range []time.Duration{30 * time.Second, 3 * time.Minute, fullEvery} {
		e.doubt(now) // as each session begins
		if at := e.relistAt(now); at != e.full.Add(want) {
			t.Fatalf("listed again at %v, want after %v", at, want)
		}
		now = e.relistAt(now)
	}
	e.carrier = &carrier{under: map[string]*cargo{"large": {began: now.Add(-time.Second), put: plan.Put{Path: "large"}}}}
	if at := e.relistAt(now); !at.After(now) {
		t.Error("a large file was not waited for")
	}
	e.carrier.under["large"].began = now.Add(time.Second)
	if at := e.relistAt(now.Add(time.Minute)); at.After(now) {
		t.Error("a large file that began later puts it off for ever")
	}
}

// TestFullComparisonFindsDrift: what makes no event is found by the comparison of everything that comes from time to time:
// what somebody did to the replica, and a change at the source that nobody was told of.
func TestFullComparisonFindsDrift(t *testing.T) {
	a := newAgentWorld(t)
	a.pace = pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 50 * time.Millisecond, full: 200 * time.Millisecond}
	for _, name := range []string{"spoiled", "d/removed", "stays"} {
		write(t, filepath.Join(a.src, name), name)
	}
	a.start(t)
	a.identical(t)
	write(t, filepath.Join(a.dst, "spoiled"), "by somebody else")
	must(t, os.RemoveAll(filepath.Join(a.dst, "d")))
	write(t, filepath.Join(a.dst, "foreign"), "never was at the source")
	must(t, os.Chmod(filepath.Join(a.dst, "stays"), 0o600))
	a.identical(t)
}
