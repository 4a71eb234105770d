package syncagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEngineForgetsAProblemThatIsGone: a file that the far side refuses is a problem for as long as it is there, keeps
// the replica from being complete, and is none once it is gone.
func TestEngineForgetsAProblemThatIsGone(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "fine"), "x")
	a.ssh.Backup.SetFault(func(op, path string) error {
		if strings.Contains(path, "target/") {
			if _, err := os.Lstat(filepath.Join(a.src, "refused")); err == nil && strings.Contains(op, "rename") {
				return unix.EIO
			}
		}
		return nil
	})
	a.start(t)
	a.identical(t)
	write(t, filepath.Join(a.src, "refused"), "y")
	eventually(t, "a problem", func() bool { return len(a.engine.snapshot().problems) == 1 })
	if s := a.engine.snapshot(); s.complete() {
		t.Error("said to be complete without the file that was refused")
	}
	must(t, os.Remove(filepath.Join(a.src, "refused")))
	eventually(t, "no problem", func() bool {
		s := a.engine.snapshot()
		return len(s.problems) == 0 && s.state == stateInSync
	})
}

// TestUnreadableSourceDoesNotAgeTheReplica: what cannot be read at the source is a problem, and no reason to call the
// rest of the replica old.
func TestUnreadableSourceDoesNotAgeTheReplica(t *testing.T) {
	for _, c := range []struct {
		state string
		tried bool
		want  bool
	}{
		{stateInSync, false, true}, {stateHeld, false, true}, {stateSyncing, true, true},
		{stateSyncing, false, false}, {stateWaiting, true, false},
	} {
		s := folderStatus{state: c.state, tried: c.tried, asOf: time.Unix(1, 0)}
		if got := s.complete(); got != c.want {
			t.Errorf("%s, tried %v: complete %v", c.state, c.tried, got)
		}
	}
}
