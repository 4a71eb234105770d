package syncagent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTargetOfSomebodyElse: a target that root made, and only the group may write to, takes everything but its own mode
// and time. That is named, and nothing else suffers: pushes go on, and the replica does not count as old.
func TestTargetOfSomebodyElse(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "d/page"), "one")
	a.ssh.Backup.SetFault(func(op, path string) error {
		if path == "target" && (op == "setstat" || op == "lsetstat") {
			return syscall.EPERM
		}
		return nil
	})
	a.pace = pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 50 * time.Millisecond}
	a.start(t)
	named := func() bool {
		s := a.engine.snapshot()
		return strings.Contains(strings.Join(s.problems, "\n"), "does not belong to the SFTP user")
	}
	for _, name := range []string{"second", "d/third", "fourth"} {
		write(t, filepath.Join(a.src, name), name)
		eventually(t, name+" is there, and the problem named", func() bool {
			_, err := os.Stat(filepath.Join(a.dst, name))
			return err == nil && named() && a.engine.snapshot().state == stateInSync
		})
	}
	a.ssh.Backup.SetFault(nil)
	write(t, filepath.Join(a.src, "fifth"), "x")
	a.identical(t)
	if named() {
		t.Error("it is ours now, and still named")
	}
}
