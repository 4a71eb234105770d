package watchdog

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/notify"
	"releve/internal/pairing"
)

func TestHookDue(t *testing.T) {
	at := func(minute int) *time.Time { u := noon.Add(time.Duration(minute) * time.Minute); return &u }
	ran := hookPast{Ran: noon, LastChange: at(10), InSyncSince: at(11)}
	for _, c := range []struct {
		name string
		said pairing.Folder
		past hookPast
		want bool
	}{
		{"first word", pairing.Folder{State: pairing.InSync, InSyncSince: at(1)}, hookPast{}, true},
		{"never complete", pairing.Folder{State: pairing.Syncing}, hookPast{}, false},
		{"nothing new", pairing.Folder{State: pairing.InSync, LastChange: at(10), InSyncSince: at(11)}, ran, false},
		{"changed", pairing.Folder{State: pairing.InSync, LastChange: at(20), InSyncSince: at(21)}, ran, true},
		{"changed, and is being changed again", pairing.Folder{State: pairing.Syncing, LastChange: at(20)}, ran, false},
		{"changed, then cut off in the next push", pairing.Folder{State: pairing.Waiting, LastChange: at(20)}, ran, false},
		{"deletions are held", pairing.Folder{State: pairing.Held, LastChange: at(10)}, ran, false},
		{"changed, and deletions are held", pairing.Folder{State: pairing.Held, LastChange: at(20)}, ran, true},
		{"agent started anew and compared", pairing.Folder{State: pairing.InSync, InSyncSince: at(30)}, ran, true},
		{"reply to a push was lost", pairing.Folder{State: pairing.InSync, LastChange: at(10), InSyncSince: at(30)}, ran, true},
		{"changed after prod's clock was set back", pairing.Folder{State: pairing.InSync, LastChange: at(-20), InSyncSince: at(-19)}, ran, true},
		{"prod's clock was set back, times are cut to its now", pairing.Folder{State: pairing.InSync, LastChange: at(60), InSyncSince: at(60)}, ran, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hookDue(pairing.Agent{Time: *at(60)}, c.said, c.past); got != c.want {
				t.Errorf("due: %v", got)
			}
		})
	}
}

// hookBench is a folder with a hook, and what the hook did.
type hookBench struct {
	*testing.T
	dir    string
	rhythm hookRhythm
	told   []notify.Message
	hooks  *hooks
	folder ReplicaFolder
}

func newHookBench(t *testing.T, script string) *hookBench {
	b := &hookBench{T: t, dir: t.TempDir(), rhythm: hookRhythm{look: time.Millisecond, timeout: time.Minute}}
	b.folder = ReplicaFolder{Name: "web root", Path: "/srv/replica/web root"}
	b.script(script)
	b.folder.Hook = []string{"/bin/sh", filepath.Join(b.dir, "hook.sh"), b.dir} // no script of our own is executed: a fork elsewhere may hold it open
	b.restart()
	return b
}

func (b *hookBench) script(text string) { b.write("hook.sh", []byte(text)) }

func (b *hookBench) write(name string, text []byte) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o600); err != nil {
		b.Fatal(err)
	}
}

// restart has nothing remembered but what is on disk.
func (b *hookBench) restart() {
	log := slog.New(slog.DiscardHandler)
	tell := func(m notify.Message) error { b.told = append(b.told, m); return nil }
	st := store{b.dir}
	b.hooks = newHooks(Replica{Control: b.dir, Folders: []ReplicaFolder{b.folder, {Name: "other", Path: "/o"}}}, st, b.rhythm, now, newAlarms(st, now, tell, log), log)
}

// say leaves the agent's word of a change.
func (b *hookBench) say(state pairing.FolderState, change time.Time) {
	b.Helper()
	f := pairing.Folder{Name: b.folder.Name, State: state, LastChange: &change}
	if state == pairing.InSync {
		f.InSyncSince = &change
	}
	text, err := pairing.Agent{Sequence: 1, Time: change.Add(time.Second), Folders: []pairing.Folder{f}}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.write(pairing.AgentFile, text)
}

// look looks a few times, and wants the hook to have run so often since the beginning.
func (b *hookBench) look(want int) {
	b.Helper()
	for range 3 {
		b.hooks.look(b.Context(), b.folder)
	}
	if got := len(b.lines("ran")); got != want {
		b.Errorf("the hook ran %d times, want %d", got, want)
	}
}

func (b *hookBench) lines(name string) []string {
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

const goodHook = `echo ran >> $1/ran; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort > $1/env; cat > $1/stdin; pwd > $1/pwd`

// TestHookRunsOncePerChange, over restarts, and for a change that came while the watchdog was down.
func TestHookRunsOncePerChange(t *testing.T) {
	t.Setenv("RELEVE_TEST_SECRET", "swordfish")
	b := newHookBench(t, goodHook)
	b.look(0) // no word yet
	b.say(pairing.InSync, noon)
	b.look(1)
	want := []string{"PATH=" + hookPath, "RELEVE_FOLDER=web root", "RELEVE_PATH=/srv/replica/web root"}
	if got := b.lines("env"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("environment: %q", got)
	}
	if in, wd := b.lines("stdin"), b.lines("pwd"); in[0] != "" || wd[0] != "/" {
		t.Errorf("standard input %q, directory %q", in, wd)
	}
	b.restart()
	b.look(1)
	b.say(pairing.Syncing, noon.Add(time.Minute))
	b.look(1)
	b.say(pairing.Waiting, noon.Add(time.Minute))
	b.look(1)
	b.say(pairing.InSync, noon.Add(2*time.Minute))
	b.look(2)
	b.say(pairing.Held, noon.Add(2*time.Minute))
	b.look(2)
	b.say(pairing.Held, noon.Add(3*time.Minute))
	b.restart()
	b.look(3)
	b.write("hooks.json", []byte("torn"))
	b.restart()
	b.look(4) // what is not known is done again
	if len(b.told) > 0 {
		t.Errorf("told %v", b.told)
	}
}

// TestHookFails: it is tried again, after a restart too, and the owner told once.
func TestHookFails(t *testing.T) {
	b := newHookBench(t, `echo ran >> $1/ran; printf 'bad\033[1m\n  directive' >&2; test -e $1/mended`)
	b.say(pairing.InSync, noon)
	b.look(3)
	b.restart()
	b.look(6)
	st := b.hooks.status()
	if len(st) != 1 || st[0].OK || st[0].LastRun == nil || st[0].Error != "run /bin/sh: exit status 1: bad [1m directive" || !strings.HasPrefix(st[0].text(now()), "✗ failed ") {
		t.Errorf("status: %+v", st)
	}
	if len(b.told) != 1 || b.told[0].Event != EventHookFailed || !strings.Contains(b.told[0].Text, "exit status 1: bad [1m directive.\n") {
		t.Errorf("told %+v", b.told)
	}
	b.write("mended", nil)
	b.look(7)
	if st := b.hooks.status(); !st[0].OK || st[0].Error != "" || !strings.HasPrefix(st[0].text(now()), "✓ ran ") {
		t.Errorf("status: %+v", st)
	}
	if err := os.Remove(filepath.Join(b.dir, "mended")); err != nil {
		t.Fatal(err)
	}
	b.say(pairing.InSync, noon.Add(time.Minute))
	b.look(10)
	if len(b.told) != 2 {
		t.Errorf("told of the second trouble: %v", b.told)
	}
}

func TestHookPausesAfterFailures(t *testing.T) {
	b := newHookBench(t, `echo ran >> $1/ran; exit 1`)
	b.rhythm.retry, b.rhythm.retryMost = time.Hour, 3*time.Hour
	b.restart()
	b.say(pairing.InSync, noon)
	for i, want := range []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour, 3 * time.Hour} {
		b.look(i + 1)
		r := b.hooks.retries[b.folder.Name]
		if r.pause != want || time.Until(r.at) < want-time.Minute {
			t.Errorf("pause %d: %+v, want %s", i, r, want)
		}
		r.at = time.Time{} // the pause is over
		b.hooks.retries[b.folder.Name] = r
	}
}

// TestHookHangs: it is killed, and what it started.
func TestHookHangs(t *testing.T) {
	b := newHookBench(t, `echo ran >> $1/ran; sleep 1000 & echo $! > $1/child; echo waiting; wait`)
	b.rhythm.timeout, b.rhythm.retry, b.rhythm.retryMost = 300*time.Millisecond, time.Hour, time.Hour
	b.restart()
	b.say(pairing.InSync, noon)
	began := time.Now()
	b.look(1)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(b.told) != 1 || !strings.Contains(b.told[0].Text, "killed after 300ms: waiting") {
		t.Errorf("told %+v", b.told)
	}
	pid := b.lines("child")[0]
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err == nil && !strings.Contains(string(stat), ") Z ") { // a zombie waits for its new parent, that is all
		t.Errorf("its child lives: %s", stat)
	}
}

// TestHookLeavesAProcess that holds its output open: the hook itself was fine.
func TestHookLeavesAProcess(t *testing.T) {
	b := newHookBench(t, `echo ran >> $1/ran; sleep 3 & exit 0`)
	b.say(pairing.InSync, noon)
	b.look(1)
	if len(b.told) > 0 {
		t.Errorf("told %v", b.told)
	}
}
