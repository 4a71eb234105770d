package syncagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"releve/internal/pairing"
	"releve/internal/plan"
	"releve/internal/watch"
)

// still wants n not to move for a while.
func still(t *testing.T, what string, n *atomic.Int64) {
	t.Helper()
	<-time.After(100 * time.Millisecond) // what was under way
	before := n.Load()
	<-time.After(200 * time.Millisecond)
	if now := n.Load(); now != before {
		t.Errorf("%d beats while %s", now-before, what)
	}
}

func moves(t *testing.T, what string, n *atomic.Int64) {
	t.Helper()
	before := n.Load()
	eventually(t, "beats while "+what, func() bool { return n.Load() > before+3 })
}

// TestBeatsAreTheEnginesOwn: an engine beats while it follows its folder, and not while it hangs, waits for its source or
// for a connection, although everything else in the process goes on.
func TestBeatsAreTheEnginesOwn(t *testing.T) {
	a := newAgentWorld(t)
	a.pace = normalPace()
	a.pace.beat, a.pace.fail, a.pace.failMax = 5*time.Millisecond, 5*time.Millisecond, 5*time.Millisecond
	var n atomic.Int64
	a.beat = func() { n.Add(1) }
	write(t, filepath.Join(a.src, "index.html"), "hello")
	a.start(t)
	a.identical(t)
	moves(t, "nothing changes", &n)

	release := make(chan struct{})
	var reached sync.Once
	hung := make(chan struct{})
	a.ssh.Backup.SetFault(func(op, path string) error { // the word goes on, this file does not
		if strings.Contains(path, "target") {
			reached.Do(func() { close(hung) })
			<-release
		}
		return nil
	})
	write(t, filepath.Join(a.src, "index.html"), "hello again")
	<-hung
	still(t, "a push hangs", &n)
	a.ssh.Backup.SetFault(nil)
	close(release)
	a.identical(t)
	moves(t, "nothing changes", &n)

	must(t, os.Rename(a.src, a.src+".away"))
	eventually(t, "the folder waits", func() bool { return a.engine.snapshot().state == stateWaiting })
	still(t, "the source is gone", &n)
	must(t, os.Rename(a.src+".away", a.src))
	a.identical(t)
	moves(t, "nothing changes", &n)

	a.watchdogSays(t, pairing.Standby)
	eventually(t, "the folder is held", func() bool { return a.engine.snapshot().isHeld() })
	moves(t, "the standby serves", &n)

	a.ssh.Bastion.Refuse()
	a.ssh.Bastion.Kill()
	eventually(t, "the connection is lost", func() bool { connected, _, _ := a.link.state(); return !connected })
	still(t, "the backup is out of reach", &n)
}

// TestDeadman: the agent as a whole pings, and shows that it does; what goes wrong with it is shown without the URL.
func TestDeadman(t *testing.T) {
	a := newAgentWorld(t)
	came := make(chan string, 100)
	var status atomic.Int64
	status.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		came <- r.URL.Path
	}))
	defer server.Close()
	for _, c := range []struct {
		status int64
		error  string
	}{{200, ""}, {404, "404 Not Found"}} {
		status.Store(c.status)
		config := a.writeConfig(t, fmt.Sprintf("[deadman]\nurl = %q\ninterval = \"1h\"\n", server.URL+"/5bf66975-d4c7"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan *program, 1)
		go func() { ended <- runProgram(ctx, "run", "--config", config) }()
		if path := <-came; path != "/5bf66975-d4c7" {
			t.Errorf("pinged %s", path)
		}
		var report statusReport
		eventually(t, "a status that tells of the ping", func() bool {
			p := runProgram(t.Context(), "status", "--json", "--config", config)
			report = statusReport{}
			return json.Unmarshal(p.out.Bytes(), &report) == nil && report.Deadman != nil && (report.Deadman.LastPing != nil || report.Deadman.Error != "")
		})
		cancel()
		if p := <-ended; p.code != 0 || strings.Contains(p.err.String(), "5bf66975") {
			t.Errorf("run: exit code %d\n%s", p.code, p.err.String())
		}
		if got := report.Deadman.Error; (got == "") != (c.error == "") || !strings.Contains(got, c.error) || strings.Contains(fmt.Sprint(report), "5bf66975") {
			t.Errorf("%+v", report)
		}
	}
}

func TestNotifyTest(t *testing.T) {
	a := newAgentWorld(t)
	got := filepath.Join(t.TempDir(), "got")
	for _, c := range []struct {
		extra string
		code  int
		want  string
	}{
		{"", 1, "nobody would be told"},
		{fmt.Sprintf("[[notify]]\ntype = \"exec\"\nevents = [\"held\"]\ncommand = [\"/bin/sh\", \"-c\", \"cat > %s\"]\n", got), 0, "✓ exec: delivered in "},
		{"[[notify]]\ntype = \"exec\"\nname = \"a\"\ncommand = [\"/bin/false\"]\n[[notify]]\ntype = \"exec\"\nname = \"b\"\ncommand = [\"/bin/true\"]\n", 1, "✗ a: run /bin/false: exit status 1: \n✓ b: delivered"},
	} {
		p := runProgram(t.Context(), "notify-test", "--config", a.writeConfig(t, c.extra))
		if all := p.out.String() + p.err.String(); p.code != c.code || !strings.Contains(all, strings.ReplaceAll(c.want, "1: \n", "1:\n")) {
			t.Errorf("exit code %d, want %d; printed:\n%s", p.code, c.code, all)
		}
	}
	text, err := os.ReadFile(got)
	must(t, err)
	if s := string(text); !strings.HasPrefix(s, "If you can read this, syncagent can reach you here. Nothing to do.\n\nsyncagent on ") {
		t.Errorf("sent: %q", s)
	}
}

// TestGivesBackOnceItIsIdle: after a comparison of everything the memory it took is given back, once, and not before nothing
// has happened for a while. It counts collections of the whole process, so it does not run beside others.
func TestGivesBackOnceItIsIdle(t *testing.T) {
	dir := t.TempDir()
	w, err := watch.New(watch.Config{Root: dir})
	must(t, err)
	defer w.Close()
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	e := &engine{known: plan.NewKnown(nil), full: time.Now(), pace: pace{beat: time.Millisecond}}
	for range 2 { // comparisons
		before := collections()
		for _, idle := range []int{0, 1, 5} {
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			e.beat = func() {
				if n++; n > idle {
					cancel()
				}
			}
			_, err := e.next(ctx, w)
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if got, want := collections()-before, uint32(min(idle, 1)); got != want {
				t.Errorf("given back %d times after %d idle beats, want %d", got, idle, want)
			}
		}
		e.full = e.full.Add(time.Hour)
	}
}
