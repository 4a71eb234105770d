package syncagent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"releve/internal/report"
)

// program is one invocation of the program in this process.
type program struct {
	out, err bytes.Buffer
	code     int
}

func runProgram(ctx context.Context, args ...string) *program {
	p := &program{}
	p.code = mainContext(ctx, Env{
		Args: args, Stdin: strings.NewReader(""), Stdout: &p.out, Stderr: &p.err, Getenv: func(string) string { return "" },
	})
	return p
}

// writeConfig writes a configuration for the world a.
func (a *agentWorld) writeConfig(t *testing.T, extra string) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(a.state), "syncagent.toml")
	write(t, file, fmt.Sprintf(`
state_dir = %q
[[folder]]
name = "webroot"
source = %q
target = %q
[[backup]]
name = "home"
address = %q
user = %q
key = %q
known_hosts = %q
control = %q
[backup.bastion]
address = %q
user = %q
key = %q
known_hosts = %q
[status]
socket = %q
listen = ""
%s`, a.state, a.src, a.folder.Target, a.ssh.BackupName, a.ssh.BackupUser, a.ssh.BackupKey, a.ssh.KnownHosts,
		a.ssh.Remote("control"), a.ssh.BastionAddr, a.ssh.BastionUser, a.ssh.BastionKey, a.ssh.KnownHosts,
		filepath.Join(filepath.Dir(a.state), "agent.sock"), extra))
	must(t, os.MkdirAll(filepath.Join(a.ssh.Root, "control"), 0o755))
	return file
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // somewhere in what is printed
	}{
		{"version", []string{"version"}, 0, "syncagent "},
		{"help", []string{"--help"}, 0, "Let the held deletions"},
		{"no command", nil, 2, "syncagent: "},
		{"unknown command", []string{"jump"}, 2, `unexpected argument jump`},
		{"unknown flag", []string{"run", "--fast"}, 2, "unknown flag --fast"},
		{"missing config", []string{"check", "--config", "/nowhere/syncagent.toml"}, 2, "/nowhere/syncagent.toml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := runProgram(t.Context(), c.args...)
			if all := p.out.String() + p.err.String(); p.code != c.code || !strings.Contains(all, c.want) {
				t.Errorf("exit code %d, want %d; printed:\n%s", p.code, c.code, all)
			}
		})
	}
}

func TestCheckAndSync(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "index.html"), "hello")
	config := a.writeConfig(t, "[[notify]]\ntype = \"exec\"\ncommand = [\"/bin/true\"]\n")

	p := runProgram(t.Context(), "check", "--config", config)
	if p.code != 0 || strings.Contains(p.out.String(), "✗") {
		t.Fatalf("check: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
	p = runProgram(t.Context(), "sync", "--dry-run", "--config", config)
	if p.code != 0 || !strings.Contains(p.out.String(), `create  "index.html" (5 B)`) {
		t.Fatalf("sync --dry-run: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
	if _, err := os.Stat(filepath.Join(a.dst, "index.html")); err == nil {
		t.Fatal("a dry run has written to the replica")
	}
	p = runProgram(t.Context(), "--config", config, "sync") // flags may stand before the command
	if p.code != 0 || !strings.Contains(p.out.String(), "webroot on home: identical; sent 1 entry (5 B)") {
		t.Fatalf("sync: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
	if d := a.differences(t); len(d) > 0 {
		t.Fatal(d)
	}
}

// TestCheckNamesTheRemedy: each thing that can be wrong is one line with what to do below it, and exit code 1.
func TestCheckNamesTheRemedy(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, a *agentWorld)
		want  []string
	}{
		{"wrong host key", func(t *testing.T, a *agentWorld) {
			must(t, os.WriteFile(a.ssh.KnownHosts, nil, 0o600))
		}, []string{"✗ bastion", "has no key for it", "ssh-keygen -lf"}},
		{"open key", func(t *testing.T, a *agentWorld) {
			must(t, os.Chmod(a.ssh.BackupKey, 0o644))
		}, []string{"✗ backup home", "run: chmod 600 ", "must be a private key"}},
		{"missing target", func(t *testing.T, a *agentWorld) {
			must(t, os.Remove(a.dst))
		}, []string{"✗ target webroot", "does not exist on the backup", "→ on the backup, run: install -d"}},
		{"missing source", func(t *testing.T, a *agentWorld) {
			must(t, os.RemoveAll(a.src))
		}, []string{"✗ source webroot", "no such file or directory"}},
		{"bastion down", func(t *testing.T, a *agentWorld) {
			a.ssh.Bastion.Refuse()
		}, []string{"✗ bastion", "connection refused", "is the machine up"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgentWorld(t)
			config := a.writeConfig(t, "")
			c.spoil(t, a)
			p := runProgram(t.Context(), "check", "--config", config)
			if p.code != 1 {
				t.Errorf("exit code %d, want 1", p.code)
			}
			for _, want := range c.want {
				if !strings.Contains(p.out.String(), want) {
					t.Errorf("%q is not in:\n%s", want, p.out.String())
				}
			}
		})
	}
}

// TestRunAndStatus runs the whole daemon and asks it over its socket.
func TestRunAndStatus(t *testing.T) {
	a := newAgentWorld(t)
	for i := range 150 {
		write(t, filepath.Join(a.src, fmt.Sprintf("d/f%d", i)), "x")
	}
	config := a.writeConfig(t, "")
	if p := runProgram(t.Context(), "status", "--config", config); p.code != 1 || !strings.Contains(p.err.String(), "not running") {
		t.Errorf("status without a daemon: exit code %d, %s", p.code, p.err.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan *program)
	go func() { ended <- runProgram(ctx, "run", "--config", config) }()
	stop := func() *program { cancel(); return <-ended }

	status := func() statusReport {
		var r statusReport
		p := runProgram(t.Context(), "status", "--json", "--config", config)
		if p.code == 0 {
			must(t, json.Unmarshal(p.out.Bytes(), &r))
		}
		return r
	}
	eventually(t, "in sync", func() bool {
		r := status()
		return len(r.Folders) == 1 && r.Folders[0].State == stateInSync && r.State == report.OK
	})
	if p := runProgram(t.Context(), "sync", "--config", config); p.code != 1 || !strings.Contains(p.err.String(), "another syncagent is running") {
		t.Errorf("sync beside a daemon: exit code %d, %s", p.code, p.err.String())
	}
	must(t, os.RemoveAll(filepath.Join(a.src, "d")))
	eventually(t, "held", func() bool {
		r := status()
		return len(r.Folders) == 1 && r.Folders[0].State == stateHeld && r.State == report.Degraded
	})
	if p := runProgram(t.Context(), "approve", "nothing", "--config", config); p.code != 1 || !strings.Contains(p.err.String(), `there is no folder "nothing"`) {
		t.Errorf("approve of no folder: exit code %d, %s", p.code, p.err.String())
	}
	if p := runProgram(t.Context(), "approve", "webroot", "--config", config); p.code != 0 || !strings.Contains(p.out.String(), "goes to the trash") {
		t.Errorf("approve: exit code %d, %s%s", p.code, p.out.String(), p.err.String())
	}
	eventually(t, "deleted", func() bool { return status().Folders[0].State == stateInSync })
	if p := runProgram(t.Context(), "status", "--config", config); p.code != 0 || !strings.Contains(p.out.String(), "webroot") {
		t.Errorf("status: exit code %d, %s", p.code, p.out.String())
	}
	if p := stop(); p.code != 0 {
		t.Errorf("run: exit code %d\n%s", p.code, p.err.String())
	}
}

// TestDryRunSaysWhatItCannotSee: it may open no directory that keeps its owner out, and does not call it empty.
func TestDryRunSaysWhatItCannotSee(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "closed/page"), "x")
	must(t, os.Chmod(filepath.Join(a.src, "closed"), 0o600))
	t.Cleanup(func() { must(t, os.Chmod(filepath.Join(a.src, "closed"), 0o700)) })
	config := a.writeConfig(t, "")
	if p := runProgram(t.Context(), "sync", "--config", config); os.Geteuid() == 0 && p.code != 0 {
		t.Fatalf("sync: exit code %d\n%s%s", p.code, p.out.String(), p.err.String())
	}
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "opendir" && path == "target/closed" {
			return syscall.EACCES // a server that is not root
		}
		return nil
	})
	write(t, filepath.Join(a.src, "new"), "y")
	p := runProgram(t.Context(), "sync", "--dry-run", "--config", config)
	for want, times := range map[string]int{`create  "new"`: 1, `closed  "closed" (mode -rw------- keeps`: 1, `"closed/page"`: 0, "1 entry to send": 1} {
		if strings.Count(p.out.String(), want) != times {
			t.Errorf("%q is not %d times in (exit code %d):\n%s%s", want, times, p.code, p.out.String(), p.err.String())
		}
	}
}

// TestRunNamesAMissingSource: at once, and whether or not there is a backup to be reached.
func TestRunNamesAMissingSource(t *testing.T) {
	a := newAgentWorld(t)
	must(t, os.RemoveAll(a.src))
	a.ssh.Bastion.Refuse()
	var log syncBuffer
	e := newEngine(a.folder, newLink(Backup{Name: "home"}, slog.New(slog.DiscardHandler)), a.state, "t", slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx) }()
	defer func() { cancel(); <-done }()
	named := func() bool {
		return strings.Contains(log.String(), a.src) && strings.Contains(log.String(), "no such file or directory")
	}
	eventually(t, "the source is named", named)
	eventually(t, "the status says so", func() bool { s := e.snapshot(); return s.state == stateWaiting && s.err != nil })
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
