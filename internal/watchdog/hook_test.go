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

// hook gives webroot a hook that runs script, whose $1 is the directory of the test, and returns the control folder.
func (w *world) hook(script string) (control string) {
	w.Helper()
	control = filepath.Join(w.dir, "control")
	if err := os.Mkdir(control, 0o700); err != nil {
		w.Fatal(err)
	}
	file := w.write("hook.sh", script)
	w.set("listen", fmt.Sprintf("\"\"\n[replica]\ncontrol = %q\n[[replica.folder]]\nname = \"webroot\"\npath = \"/srv/replica/webroot\"\nhook = [\"/bin/sh\", %q, %q]",
		control, file, w.dir))
	return control
}

// changed is the word of an agent that has just pushed.
func (w *world) changed(control string) {
	w.Helper()
	at := time.Now().Add(-time.Second)
	text, err := pairing.Agent{Sequence: 1, Time: time.Now(), Folders: []pairing.Folder{
		{Name: "webroot", State: pairing.InSync, LastChange: &at, InSyncSince: &at},
	}}.Encode()
	if err != nil {
		w.Fatal(err)
	}
	name := filepath.Join(control, pairing.AgentFile)
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		w.Fatal(err)
	}
}

// hookRan waits for the hook to have run n times.
func (w *world) hookRan(n int) {
	w.Helper()
	count := func() int {
		text, _ := os.ReadFile(filepath.Join(w.dir, "ran"))
		return strings.Count(string(text), "\n")
	}
	w.eventually(fmt.Sprintf("%d runs of the hook", n), func() bool { return count() >= n })
	if got := count(); got != n {
		w.Errorf("the hook ran %d times, want %d", got, n)
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.hook(`echo ran >> $1/ran; echo oops; test ! -e $1/spoilt`)
	stop := w.start()
	w.ready()
	w.changed(control)
	w.hookRan(1)
	w.eventually("the run shown", func() bool { return strings.Contains(w.mustCommand("status"), "hook of webroot   ✓ ran ") })
	stop()
	stop = w.start()
	w.rounds(3)
	w.hookRan(1)
	stop()
	w.changed(control)
	w.write("spoilt", "")
	w.start()
	w.hookRan(2)
	if m := w.told("hook_failed"); !strings.Contains(m.Subject, "webroot") || !strings.Contains(m.Text, "exit status 1: oops") {
		t.Errorf("told %+v", m)
	}
	w.until("the failure shown", func(st status) bool {
		return st.State == "degraded" && strings.Contains(strings.Join(st.Problems, "\n"), "the hook of webroot failed: run /bin/sh: exit status 1: oops")
	})
}

// TestHookHangs: prod is probed and the standby switched to while a hook goes on for ever, and it dies with the daemon.
func TestHookHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	control := w.hook(`echo ran >> $1/ran; sleep 1000`)
	stop := w.start()
	w.changed(control)
	w.hookRan(1)
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	began := time.Now()
	if stop(); time.Since(began) > 10*time.Second {
		t.Errorf("it took %s to end", time.Since(began))
	}
}

func TestCheckHook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("prod", `["127.0.0.1"]`)
	w.ovh.Edit(zone, onlyIPv4)
	control := w.hook("")
	w.check(0, "✓ hook of webroot: /bin/sh can be run")
	w.changed(control)
	w.check(0, "✓ hook of webroot: /bin/sh can be run")
	path := w.configFile()
	text := string(must(os.ReadFile(path)))
	for hook, want := range map[string]string{
		"/bin/nowhere":                  "no such file",
		filepath.Join(w.dir, "hook.sh"): "permission denied",
		filepath.Join(w.dir, "control"): "it is no file",
	} {
		w.write("watchdog.toml", strings.Replace(text, `"/bin/sh"`, fmt.Sprintf("%q", hook), 1))
		w.check(1, "✗ hook of webroot: "+hook, want, "chmod +x "+hook)
	}
	w.write("watchdog.toml", strings.Replace(text, `name = "webroot"`, `name = "webrot"`, 1))
	w.check(1, "✗ hook of webrot never runs: syncagent knows no folder of that name (it has webroot)")
}
