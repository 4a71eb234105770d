package syncagent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"releve/internal/pairing"
	"releve/internal/report"
	"releve/internal/tree"
)

// watchdogSays leaves the word that a watchdog would.
func (a *agentWorld) watchdogSays(t *testing.T, who pairing.Who) {
	t.Helper()
	must(t, pairing.WriteWatchdog(a.control, pairing.Watchdog{Time: time.Now(), Sites: []pairing.Site{
		{Name: "example.org", Serving: pairing.Prod}, {Name: "www.example.net", Serving: who, Term: 1},
	}}))
}

// said is the agent's own word, as the watchdog reads it.
func (a *agentWorld) said(t *testing.T) pairing.Agent {
	t.Helper()
	word, _, err := pairing.ReadAgent(a.control)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return word
}

// heldBack waits until the engine says that it holds, and why.
func (a *agentWorld) heldBack(t *testing.T, why string) {
	t.Helper()
	eventually(t, "held because of "+why, func() bool {
		s := a.engine.snapshot()
		return s.isHeld() && strings.Contains(s.err.Error(), why)
	})
}

// words waits until the agent has listened and spoken a few times more: what it was going to do it has begun by then.
func (a *agentWorld) words(t *testing.T) {
	t.Helper()
	from := a.said(t).Sequence
	eventually(t, "a few words more", func() bool { return a.said(t).Sequence >= from+5 })
}

// replica is what the replica's file holds.
func (a *agentWorld) replica(name string) string {
	text, err := os.ReadFile(filepath.Join(a.dst, name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// writes counts everything that is done to the replica, and asks to be read again after each.
func (a *agentWorld) writes() *atomic.Int64 {
	n := new(atomic.Int64)
	target := a.ssh.Remote("target")
	a.ssh.Backup.SetFault(func(op, path string) error {
		switch op {
		case "opendir", "readdir", "lstat", "stat", "fstat", "read", "readlink", "realpath", "close", "statvfs", "limits":
		default:
			if tree.Within(path, target) || tree.Within(path, strings.TrimPrefix(target, "/")) {
				n.Add(1)
			}
		}
		return nil
	})
	return n
}

// TestStandbyServesAndNothingIsPushed (S8), over the whole story: it begins to serve while the agent follows, the
// agent is connected anew and started anew meanwhile, and prod is given the name back.
func TestStandbyServesAndNothingIsPushed(t *testing.T) {
	a := newAgentWorld(t)
	a.pace = normalPace()
	a.pace.failMax = 100 * time.Millisecond
	write(t, filepath.Join(a.src, "index.html"), "before")
	a.watchdogSays(t, pairing.Prod)
	a.start(t)
	a.identical(t)

	a.watchdogSays(t, pairing.Standby)
	a.heldBack(t, `run "watchdog failback www.example.net" on the backup`)
	writes := a.writes()
	// What the watchdog is told for its own fail-back: whether prod's files are those that are served.
	differ := func(n int) func() bool {
		return func() bool {
			f, _ := a.said(t).Folder("webroot")
			return f.Compared != nil && f.Pending == n && f.State == pairing.Waiting
		}
	}
	eventually(t, "word that nothing differs", differ(0))
	write(t, filepath.Join(a.src, "index.html"), "half restored")
	must(t, os.WriteFile(filepath.Join(a.dst, "comment"), []byte("by a visitor"), 0o644))
	a.words(t)

	a.ssh.Backup.Kill()
	a.words(t)
	a.heldBack(t, "the standby serves www.example.net")

	a.stop()
	a.start(t)
	a.heldBack(t, "the standby serves www.example.net")
	a.words(t)
	eventually(t, "word that two entries differ", differ(2))
	if n := writes.Load(); n > 0 || a.replica("index.html") != "before" || a.replica("comment") != "by a visitor" {
		t.Fatalf("%d writes to the replica while the standby serves; it holds %q and %q", n, a.replica("index.html"), a.replica("comment"))
	}

	a.watchdogSays(t, pairing.Prod)
	a.identical(t)
	eventually(t, "no word of a comparison", func() bool {
		f, _ := a.said(t).Folder("webroot")
		return f.Compared == nil && f.State == pairing.InSync
	})
}

// TestWatchdogIsRemoved: the owner's way out where no watchdog will ever say that prod serves again.
func TestWatchdogIsRemoved(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "index.html"), "prod's")
	a.watchdogSays(t, pairing.Standby)
	a.start(t)
	a.heldBack(t, "the standby serves")

	// A disk that is not mounted has not said that there is no watchdog.
	must(t, os.Rename(a.control, a.control+".away"))
	writes := a.writes()
	for range 3 {
		logins := a.ssh.Backup.Logins()
		a.ssh.Backup.Kill()
		eventually(t, "connected again", func() bool {
			connected, _, _ := a.link.state()
			return connected && a.ssh.Backup.Logins() > logins
		})
	}
	if writes.Load() > 0 || a.replica("index.html") == "prod's" {
		t.Error("pushed because the control folder went away")
	}
	must(t, os.Rename(a.control+".away", a.control))

	must(t, os.Remove(filepath.Join(a.control, pairing.WatchdogFile)))
	a.identical(t)
}

// TestWordThatIsNotUnderstood may say that the standby serves.
func TestWordThatIsNotUnderstood(t *testing.T) {
	for what, spoil := range map[string]func(string) error{
		"empty":           func(name string) error { return os.Truncate(name, 0) },
		"another version": func(name string) error { return os.WriteFile(name, []byte(`{"version":2}`), 0o644) },
		"unreadable":      func(name string) error { return os.WriteFile(name, []byte(`{"version":1}`), 0o644) },
	} {
		t.Run(what, func(t *testing.T) {
			a := newAgentWorld(t)
			write(t, filepath.Join(a.src, "index.html"), "prod's")
			a.watchdogSays(t, pairing.Prod)
			must(t, spoil(filepath.Join(a.control, pairing.WatchdogFile)))
			a.start(t)
			a.heldBack(t, "cannot be understood")
			a.words(t)
			if got := a.replica("index.html"); got == "prod's" {
				t.Error("pushed")
			}
			a.watchdogSays(t, pairing.Prod)
			a.identical(t)
		})
	}
	t.Run("refused", func(t *testing.T) {
		a := newAgentWorld(t)
		a.watchdogSays(t, pairing.Prod)
		a.ssh.Backup.SetFault(func(op, path string) error {
			if op == "open" && strings.HasSuffix(path, pairing.WatchdogFile) {
				return syscall.EACCES
			}
			return nil
		})
		a.start(t)
		a.heldBack(t, "cannot be understood")
		a.ssh.Backup.SetFault(nil)
		a.identical(t)
	})
}

// TestAgentsWord: what the watchdog learns of the replica.
func TestAgentsWord(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.control, ".releve-tmp-dead-7-agent"), "half a word of a process that was killed")
	write(t, filepath.Join(a.src, "index.html"), "one")
	began := time.Now()
	a.start(t)
	folder := func() pairing.Folder {
		f, _ := a.said(t).Folder("webroot")
		return f
	}
	eventually(t, "in sync, by the agent's word", func() bool { return folder().State == pairing.InSync })
	if f := folder(); f.AsOf == nil || f.AsOf.Before(began) || f.LastChange == nil || f.InSyncSince == nil || f.Pending != 0 {
		t.Errorf("in sync: %+v", f)
	}
	info, err := os.Stat(filepath.Join(a.control, pairing.AgentFile))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v; the watchdog must be able to read it, whoever it runs as", info.Mode(), err)
	}
	eventually(t, "idle, and known to be", func() bool { return a.said(t).Time.Equal(*folder().AsOf) })

	// From now on nothing can be pushed: the replica stays as old as it is, while the words go on.
	a.ssh.Backup.SetFault(func(op, path string) error {
		if (op == "open" || op == "posix-rename") && strings.Contains(path, "target") {
			return syscall.EIO
		}
		return nil
	})
	write(t, filepath.Join(a.src, "index.html"), "two")
	eventually(t, "behind, by the agent's word", func() bool { f := folder(); return f.State == pairing.Syncing && f.Pending > 0 })
	behind := *folder().AsOf
	a.words(t)
	if now := *folder().AsOf; !now.Equal(behind) {
		t.Errorf("as of %v, then as of %v, and nothing was pushed", behind, now)
	}
	last := a.said(t)

	// Another process has not compared anything yet, and goes by what the first one said.
	a.stop()
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "opendir" && strings.Contains(path, "target") {
			return syscall.EIO
		}
		return nil
	})
	a.start(t)
	eventually(t, "a word of the new process", func() bool { return a.said(t).Sequence > last.Sequence })
	if now := folder().AsOf; now == nil || !now.Equal(behind) {
		t.Errorf("as of %v after the restart; it was %v", now, behind)
	}
	a.ssh.Backup.SetFault(nil)
	a.identical(t)
	eventually(t, "up to date, by the agent's word", func() bool { return folder().AsOf.After(behind) })
	left, err := filepath.Glob(filepath.Join(a.control, ".releve-tmp-dead*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestWordHalfSaid: what a session that died has left half written is removed over the next one.
func TestWordHalfSaid(t *testing.T) {
	a := newAgentWorld(t)
	a.start(t)
	a.identical(t)
	half := filepath.Join(a.control, ".releve-tmp-"+a.link.word.id+"-0-agent")
	write(t, half, "half a word")
	a.ssh.Backup.Kill()
	eventually(t, "the half word removed", func() bool {
		_, err := os.Lstat(half)
		return errors.Is(err, fs.ErrNotExist)
	})
	a.words(t)
}

// TestSyncHeedsTheWatchdog: by hand too.
func TestSyncHeedsTheWatchdog(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "index.html"), "half restored")
	config := a.writeConfig(t, "")
	a.watchdogSays(t, pairing.Standby)
	p := runProgram(t.Context(), "sync", "--config", config)
	if p.code != 1 || !strings.Contains(p.err.String(), "the standby serves www.example.net, so nothing is pushed") {
		t.Errorf("sync: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
	if p = runProgram(t.Context(), "sync", "--dry-run", "--config", config); p.code != 0 || !strings.Contains(p.out.String(), "create") {
		t.Errorf("sync --dry-run: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
	if entries, err := os.ReadDir(a.dst); err != nil || len(entries) > 0 {
		t.Errorf("the replica has %v, %v", entries, err)
	}
	if p = runProgram(t.Context(), "check", "--config", config); !strings.Contains(p.out.String(), "the standby serves www.example.net") {
		t.Errorf("check says:\n%s", p.out.String())
	}
	a.watchdogSays(t, pairing.Prod)
	if p = runProgram(t.Context(), "sync", "--config", config); p.code != 0 {
		t.Errorf("sync after the fail-back: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
}

// TestHeard goes through what may be read one after the other, at its times.
func TestHeard(t *testing.T) {
	const file = "/c/watchdog.json"
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	serial := 0
	says := func(who pairing.Who) []byte {
		serial++
		text, err := pairing.Watchdog{Time: now.Add(time.Duration(serial) * time.Second), Sites: []pairing.Site{{Name: "site", Serving: who}}}.Encode()
		must(t, err)
		return text
	}
	prod, standby := says(pairing.Prod), says(pairing.Standby)
	for _, c := range []struct {
		name  string
		reads [][]byte // one each ten minutes; nil = no file
		holds string   // "" = not
		alarm bool
	}{
		{"nothing ever", [][]byte{nil, nil}, "", false},
		{"prod", [][]byte{prod}, "", false},
		{"prod, fresh", [][]byte{prod, says(pairing.Prod)}, "", false},
		{"prod, stale", [][]byte{prod, prod}, "", true},
		{"standby", [][]byte{standby}, "failback site", false},
		{"standby, stale", [][]byte{standby, standby}, "said nothing for 10m0s: start it, or, if prod's files are to win and the watchdog is gone for good, remove /c/watchdog.json", true},
		{"failed over", [][]byte{prod, standby}, "failback site", false},
		{"failed back", [][]byte{standby, prod}, "", false},
		{"garbage at first", [][]byte{[]byte("x")}, "cannot be understood", false},
		{"garbage for long", [][]byte{[]byte("x"), []byte("y")}, "cannot be understood", true},
		{"garbage after prod", [][]byte{prod, []byte("x")}, "cannot be understood", true},
		{"mended", [][]byte{prod, []byte("x"), says(pairing.Prod)}, "", false},
		{"the same again", [][]byte{standby, []byte("x"), standby}, "failback site", true},
		{"removed", [][]byte{standby, nil}, "", false},
		{"removed after garbage", [][]byte{standby, []byte("x"), nil}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h heard
			at := now
			for i, text := range c.reads {
				at = now.Add(time.Duration(i) * 10 * time.Minute)
				if text == nil {
					h = heard{}
				} else {
					h = h.read(file, text, at)
				}
			}
			err := h.holds(at)
			if (err != nil) != (c.holds != "") || err != nil && !strings.Contains(err.Error(), c.holds) {
				t.Errorf("holds: %v; want %q", err, c.holds)
			}
			w := &word{heard: h}
			if alarm := len(w.conditions("home", at)) > 0; alarm != c.alarm {
				t.Errorf("alarm: %v", alarm)
			}
			var problems []string
			b := backupReport{Name: "home", Connected: true}
			w.report(&b, at, func(_ report.State, f string, args ...any) { problems = append(problems, fmt.Sprintf(f, args...)) })
			if (len(problems) > 0) != (c.holds != "" || c.alarm) {
				t.Errorf("problems: %q", problems)
			}
		})
	}
}
