package watchdog_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/ovhworld"
)

// process runs the daemon in a process of its own, to be killed.
func (w *world) process() (kill func()) {
	w.Helper()
	cmd := exec.Command(must(os.Executable()), "run", "--config", w.configFile())
	cmd.Env = append(os.Environ(), "RELEVE_TEST_WATCHDOG=1")
	cmd.Stdout, cmd.Stderr = w.log, w.log
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	w.Cleanup(kill)
	return kill
}

// TestKilledAtEachCall kills the daemon in the middle of each call of a switch, carried out by OVH or not, and starts
// it again: the switch is made, once, and the way back leads to exactly the same records.
func TestKilledAtEachCall(t *testing.T) {
	calls := []ovhworld.Fault{
		{Method: "GET", Path: "/domain/zone/example.net/record"},
		{Method: "PUT", Path: "/domain/zone/example.net/record/*"},
		{Method: "DELETE", Path: "/domain/zone/example.net/record/*"},
		{Method: "POST", Path: "/domain/zone/example.net/refresh"},
	}
	for _, c := range calls {
		for _, effect := range []ovhworld.Effect{ovhworld.Nothing, ovhworld.Happens} {
			t.Run(fmt.Sprintf("%s %s %d", c.Method, filepath.Base(filepath.Dir(c.Path)), effect), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				kill := w.process()
				w.ready()
				fault := c
				fault.Effect, fault.Hang = effect, 30*time.Second
				mend := w.ovh.Fail(fault)
				w.prod.Stop()
				w.eventually("the call", func() bool { return played(w.ovh) })
				kill()
				mend()
				w.start()
				w.in("failed_over", "standby")
				w.zoneIs(switched)
				w.told("failed_over")
				w.failback()
				w.zoneIs(before)
				if st := w.in("normal", "prod"); st.Sites[0].LastSwitch.Term != 2 {
					t.Errorf("%d switches", st.Sites[0].LastSwitch.Term)
				}
			})
		}
	}
}

func played(w *ovhworld.World) bool {
	for _, c := range w.Calls() {
		if c.Fault {
			return true
		}
	}
	return false
}

// TestRestartKeepsItsWord restarts where nothing is under way: what was so stays so.
func TestRestartKeepsItsWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("mode", `"auto"`)
	stop := w.start()
	w.ready()
	w.mustCommand("failover", name)
	w.until("the message delivered", func(st status) bool { return st.Pending == 0 && w.phone.count("failed_over") == 1 })
	if code := stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	w.ovh.ForgetCalls()
	w.start()
	w.rounds(8)
	st := w.in("failed_over", "standby")
	if st.Sites[0].Forced != "standby" {
		t.Errorf("forced: %q", st.Sites[0].Forced)
	}
	for _, c := range w.ovh.Calls() {
		if c.Method != "GET" {
			t.Errorf("a restart wrote: %v", c)
		}
	}
	w.told("failed_over")
}

// TestDamagedState: the file is set aside, the owner told, and the zone believed.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("mode", `"auto"`)
	stop := w.start()
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	stop()
	path := filepath.Join(w.dir, "state", "site-"+name+".json")
	if err := os.WriteFile(path, []byte(`{"version":1,`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.prod.Resume(); err != nil {
		t.Fatal(err)
	}
	w.start()
	m := w.told("state_lost")
	if !strings.Contains(m.Text, ".damaged-") {
		t.Errorf("it does not say where the file is:\n%s", m.Text)
	}
	st := w.in("failed_over", "standby")
	w.rounds(8)
	if st = w.in("failed_over", "standby"); st.Sites[0].Forced != "standby" {
		t.Errorf("forced: %q", st.Sites[0].Forced)
	}
	if aside := must(filepath.Glob(path + ".damaged-*")); len(aside) != 1 {
		t.Errorf("set aside: %v", aside)
	}
	w.failback()
	if got := w.served(); got != "A 127.0.0.1 60, AAAA 2001:db8::10 60" {
		t.Errorf("the zone serves %s", got)
	}
}

// TestNewerState: a state from a newer version is left alone, and the program says what to do.
func TestNewerState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := `{"version":99}`
	path := w.write("state/site-"+name+".json", text)
	code, _, errs := w.command("run")
	if code != 1 || !strings.Contains(errs, "install that version again") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if got := string(must(os.ReadFile(path))); got != text {
		t.Errorf("the state is now %s", got)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	code, _, errs := w.command("run")
	if code != 1 || !strings.Contains(errs, "another watchdog is at work") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
}

// TestStateCannotBeWritten: without its word on disk the daemon writes nothing to the zone, and says so.
func TestStateCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	state := filepath.Join(w.dir, "state")
	if err := os.Rename(state, state+".away"); err != nil {
		t.Fatal(err)
	}
	w.prod.Stop()
	w.until("a failing state", func(st status) bool {
		return st.State == "failing" && strings.Contains(strings.Join(st.Problems, "\n"), "cannot be kept")
	})
	w.rounds(6)
	w.zoneIs(before)
	if err := errors.Join(os.RemoveAll(state), os.Rename(state+".away", state)); err != nil {
		t.Fatal(err)
	}
	w.in("failed_over", "standby")
	w.zoneIs(switched)
}
