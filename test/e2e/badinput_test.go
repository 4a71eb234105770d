package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
	"releve/test/treecmp"
)

// TestBadInput: what is wrong with the configuration or the world gets one clear sentence and the right exit code, from
// each command that can meet it, and nothing on either side is touched.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := newPair(t, netlab.Options{})
	tree := newTree(p.source, 9)
	if err := tree.grow(5, 30); err != nil {
		t.Fatal(err)
	}
	good := p.configuration()
	if r := p.syncagent(t, "sync"); r.code != 0 {
		t.Fatalf("sync: %+v", r)
	}
	p.identical(t, 0)
	before := p.path("before")
	copyTree(t, p.replica, before)
	stranger, err := netlab.KeyPair(context.Background(), p.path("stranger_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	strangerKey := strings.Join(strings.Fields(stranger)[:2], " ")

	for _, c := range []struct {
		name    string
		config  string           // instead of the good one
		prepare func(*testing.T) // makes the world bad; t.Cleanup mends it
		says    []string         // of one line
		code    int
	}{
		{
			name: "bastion's host key is another", says: []string{"bastion", "host key", "known_hosts"}, code: 1,
			prepare: func(t *testing.T) {
				rewrite(t, p.path("known_hosts"), p.knownHosts(p.bastionAddress, strangerKey)+p.knownHosts(p.address, p.backup.HostKey))
			},
		},
		{
			name: "backup's host key is another", says: []string{"backup home", "host key", "known_hosts"}, code: 1,
			prepare: func(t *testing.T) {
				rewrite(t, p.path("known_hosts"), p.knownHosts(p.bastionAddress, p.bastion.HostKey)+p.knownHosts(p.address, strangerKey))
			},
		},
		{
			name: "host is unknown", says: []string{"bastion", "host key", "has no key for it"}, code: 1,
			prepare: func(t *testing.T) { rewrite(t, p.path("known_hosts"), "") },
		},
		{
			name: "key is not let in", says: []string{"backup home", "authentication"}, code: 1,
			config: strings.Replace(good, "/backup_ed25519", "/stranger_ed25519", 1),
		},
		{
			name: "forward is refused", says: []string{"forward"}, code: 1,
			config: strings.Replace(good, `address     = "`+p.address+`"`, `address     = "192.0.2.1:22"`, 1),
		},
		{
			name: "target is missing", says: []string{"target", "does not exist"}, code: 1,
			config: strings.Replace(good, `target = "`+p.target+`"`, `target = "`+p.target+`-nowhere"`, 1),
		},
		{
			name: "key is readable by all", says: []string{"bastion_ed25519", "0644"}, code: 1,
			prepare: func(t *testing.T) {
				chmod(t, p.path("bastion_ed25519"), 0o644)
				t.Cleanup(func() { chmod(t, p.path("bastion_ed25519"), 0o600) })
			},
		},
		{
			name: "source is missing", says: []string{"www-nowhere", "no such file"}, code: 1,
			config: strings.Replace(good, `source = "`+p.source+`"`, `source = "`+p.source+`-nowhere"`, 1),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.config != "" {
				if c.config == good {
					t.Fatal("the configuration was not changed")
				}
				// With a state of its own: a record of another source or target is worth a sentence, too.
				rewrite(t, p.path("syncagent.toml"), strings.Replace(c.config, "/state\"", "/state-of-this\"", 1))
			}
			if c.prepare != nil {
				c.prepare(t)
			}
			for _, command := range []string{"check", "sync"} {
				r := p.syncagent(t, command)
				if r.code != c.code {
					t.Errorf("%s: exit code %d, want %d", command, r.code, c.code)
				}
				if line := lineWith(r.stdout+r.stderr, c.says...); line == "" {
					t.Errorf("%s: no line says %q:\n%s%s", command, c.says, r.stdout, r.stderr)
				} else {
					t.Logf("%s: %s", command, line)
				}
				if command == "sync" && strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
					t.Errorf("sync: more than one sentence:\n%s", r.stderr)
				}
			}
			p.start(t) // the daemon goes on trying, and says so
			eventually(t, 20*time.Second, 50*time.Millisecond, func() (bool, string) {
				r := p.syncagent(t, "status", "--json")
				return lineWith(strings.ReplaceAll(r.stdout, "\n", " "), append(c.says, "failing")...) != "", r.stdout + r.stderr
			})
			if err := p.agent.Stop(5 * time.Second); err != nil {
				t.Error(err)
			}
			if code := p.agent.ExitCode(); code != 0 {
				t.Errorf("run: exit code %d after SIGTERM", code)
			}
			differ, err := treecmp.Compare(before, p.replica, nil)
			if err != nil || len(differ) > 0 {
				t.Errorf("the replica was touched: %q, %v", differ, err)
			}
		})
	}
	if r := p.syncagent(t, "sync"); r.code != 0 {
		t.Errorf("mended, sync: %+v", r)
	}
	p.identical(t, 0)
}

// TestTenMistakes: a configuration with ten mistakes gets ten lines, each with its place, from each command, and exit
// code 2.
func TestTenMistakes(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	config := filepath.Join(dir, "syncagent.toml")
	write(t, config, `state_dir = "state"
[[folder]]
name = "web root"
source = "/var/www"
target = "replica"
setle = "1s"
keep = "7"
max_delete = -1
[[folder]]
name = "letsencrypt"
kind = "certbot"
source = "/etc/letsencrypt"
target = "/srv/replica/letsencrypt"
[[backup]]
name = "home"
address = "backup.lan:ssh:22"
user = ""
key = "/etc/releve/backup_ed25519"
known_hosts = "/etc/releve/known_hosts"
control = "/srv/replica/.releve"
[status]
listen = "9811"
`, 0o644)
	for _, command := range []string{"run", "check", "sync"} {
		r := runProgram(t, &netlab.Host{}, binary(t, "syncagent"), command, "--config", config)
		lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
		if r.code != 2 || len(lines) != 10 {
			t.Errorf("%s: exit code %d, %d lines, want 2 and 10:\n%s", command, r.code, len(lines), r.stderr)
		}
		for _, l := range lines {
			if !strings.HasPrefix(l, config+":") {
				t.Errorf("%s: a line without its place: %s", command, l)
			}
		}
		if command == "run" {
			t.Logf("\n%s", r.stderr)
		}
	}
}

// lineWith is the first line that holds all words.
func lineWith(text string, words ...string) string {
lines:
	for line := range strings.Lines(text) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		return strings.TrimSpace(line)
	}
	return ""
}

// rewrite changes a file for the rest of a test.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, text, 0o644)
	t.Cleanup(func() { write(t, path, string(old), 0o644) })
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// copyTree copies a tree with everything that treecmp compares.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if r := runProgram(t, &netlab.Host{}, "cp", "-a", from, to); r.code != 0 {
		t.Fatalf("cp: %s", r.stderr)
	}
}
