package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/test/netlab"
	"releve/test/treecmp"
)

// pair is prod with its agent, and the way to the backup: two real SSH servers.
type pair struct {
	lab             *netlab.Lab // nil without root: everything is on loopback then
	prod            *netlab.Host
	bastion, backup *netlab.SSHD

	dir     string // for keys, configuration, logs
	disk    string // options of the replica's, if it has one of its own
	source  string // the webroot on prod
	replica string // the target, as the backup's file system shows it
	control string

	address, bastionAddress string // as the agent's configuration says
	target, controlTarget   string // the same, as SFTP shows them
	users                   [2]string

	agent *netlab.Process // the last one started
}

// newPair builds a pair whose replica is empty and whose agent does not run yet.
func newPair(t *testing.T, opts netlab.Options) *pair {
	t.Helper()
	return newPairOn(t, opts, "")
}

// newPairOn builds a pair whose replica lies on a disk of its own, with these options of [netlab.Disk].
func newPairOn(t *testing.T, opts netlab.Options, disk string) *pair {
	t.Helper()
	if suite.noSSHD != nil {
		t.Skipf("left out: %v", suite.noSSHD)
	}
	p := &pair{dir: folder(t), disk: disk}
	if suite.noLab == nil {
		p.inLab(t, opts)
	} else {
		p.onLoopback(t)
	}
	ctx := context.Background() // the servers outlive t.Context, and end by the clean-ups below
	for _, s := range []*netlab.SSHD{p.bastion, p.backup} {
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("sshd on %s:\n%s", s.Address, tail(s.Log(), 20))
			}
		})
	}
	write(t, p.path("known_hosts"), p.knownHosts(p.bastionAddress, p.bastion.HostKey)+p.knownHosts(p.address, p.backup.HostKey), 0o644)
	p.source = p.path("www")
	if err := os.Mkdir(p.source, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, p.path("syncagent.toml"), p.configuration(), 0o644)
	return p
}

func (p *pair) path(name string) string { return filepath.Join(p.dir, name) }

// inLab builds the servers as an owner would: a bastion without a shell that leads to the backup's SSH server and nowhere
// else, and a backup that knows nothing but SFTP in a chroot.
func (p *pair) inLab(t *testing.T, opts netlab.Options) {
	t.Helper()
	lab, err := netlab.New(context.Background(), strings.ToLower(strings.TrimPrefix(filepath.Base(p.dir), "Test")), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	p.lab, p.prod = lab, lab.Prod
	p.bastionAddress, p.address = netlab.HomeName+":22", netlab.BackupName+":22"
	p.users = [2]string{suite.jump.Name, suite.backup.Name}

	chroot := p.path("chroot")
	p.replica, p.target = filepath.Join(chroot, "replica/webroot"), "/replica/webroot"
	p.control, p.controlTarget = filepath.Join(chroot, "replica/.releve"), "/replica/.releve"
	for _, dir := range []string{chroot, filepath.Dir(p.replica), p.replica, p.control} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if p.disk != "" && dir == filepath.Dir(p.replica) {
			p.mount(t, dir)
		}
		if dir != chroot {
			if err := os.Chown(dir, suite.backup.UID, suite.backup.GID); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.bastion = &netlab.SSHD{Host: lab.Home, Address: netlab.HomeIPv4 + ":22", Dir: p.mkdir(t, "bastion"), Config: []string{
		"AllowUsers " + suite.jump.Name, "PermitRootLogin no", "AuthorizedKeysFile " + p.authorize(t, "bastion_ed25519"),
		"AllowTcpForwarding local", "PermitOpen " + p.address, "ForceCommand /usr/sbin/nologin", "PermitTTY no",
		"AllowAgentForwarding no", "X11Forwarding no", "GatewayPorts no",
	}}
	p.backup = &netlab.SSHD{Host: lab.Backup, Address: netlab.BackupIPv4 + ":22", Dir: p.mkdir(t, "backup"), Config: []string{
		"AllowUsers " + suite.backup.Name, "PermitRootLogin no", "AuthorizedKeysFile " + p.authorize(t, "backup_ed25519"),
		"Subsystem sftp internal-sftp", "ChrootDirectory " + chroot, "ForceCommand internal-sftp",
		"AllowTcpForwarding no", "AllowAgentForwarding no", "X11Forwarding no", "PermitTTY no",
	}}
}

func (p *pair) mount(t *testing.T, dir string) {
	t.Helper()
	unmount, err := netlab.Disk(dir, p.disk)
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
}

// onLoopback builds the same of an ordinary user's servers: no other accounts, and no chroot.
func (p *pair) onLoopback(t *testing.T) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	p.prod = &netlab.Host{}
	p.bastionAddress, p.address = freePort(t), freePort(t)
	p.users = [2]string{me.Username, me.Username}
	p.replica, p.control = p.path("replica"), p.path("control")
	p.target, p.controlTarget = p.replica, p.control
	for _, dir := range []string{p.replica, p.control} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// StrictModes minds the temporary folder that everybody may write to.
	p.bastion = &netlab.SSHD{Host: p.prod, Address: p.bastionAddress, Dir: p.mkdir(t, "bastion"), Config: []string{
		"StrictModes no", "AuthorizedKeysFile " + p.authorize(t, "bastion_ed25519"),
		"AllowTcpForwarding local", "PermitOpen " + p.address, "ForceCommand /bin/false", "PermitTTY no",
	}}
	p.backup = &netlab.SSHD{Host: p.prod, Address: p.address, Dir: p.mkdir(t, "backup"), Config: []string{
		"StrictModes no", "AuthorizedKeysFile " + p.authorize(t, "backup_ed25519"),
		"Subsystem sftp internal-sftp", "ForceCommand internal-sftp", "AllowTcpForwarding no", "PermitTTY no",
	}}
}

func (p *pair) mkdir(t *testing.T, name string) string {
	t.Helper()
	if err := os.Mkdir(p.path(name), 0o755); err != nil {
		t.Fatal(err)
	}
	return p.path(name)
}

// authorize makes a key pair for the agent and returns the file that lets it in.
func (p *pair) authorize(t *testing.T, key string) string {
	t.Helper()
	public, err := netlab.KeyPair(context.Background(), p.path(key))
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.path(key+".authorized"), public+"\n", 0o644)
	return p.path(key + ".authorized")
}

func (p *pair) knownHosts(address, key string) string {
	host, port, _ := net.SplitHostPort(address)
	if port != "22" {
		host = "[" + host + "]:" + port
	}
	return host + " " + key + "\n"
}

// configuration is syncagent.toml; extra lines go to the folder's table.
func (p *pair) configuration(extra ...string) string {
	return fmt.Sprintf(`state_dir = "%[1]s/state"

[[folder]]
name   = "webroot"
source = "%[2]s"
target = "%[3]s"
%[9]s

[[backup]]
name        = "home"
address     = "%[4]s"
user        = "%[6]s"
key         = "%[1]s/backup_ed25519"
known_hosts = "%[1]s/known_hosts"
control     = "%[8]s"

[backup.bastion]
address     = "%[5]s"
user        = "%[7]s"
key         = "%[1]s/bastion_ed25519"
known_hosts = "%[1]s/known_hosts"

[status]
socket = "%[1]s/syncagent.sock"
listen = ""

[[notify]]
type    = "exec"
command = ["%[1]s/tell"]
`, p.dir, p.source, p.target, p.address, p.bastionAddress, p.users[1], p.users[0], p.controlTarget, strings.Join(extra, "\n"))
}

// start starts the agent.
func (p *pair) start(t *testing.T) {
	t.Helper()
	write(t, p.path("tell"), "#!/bin/sh\n{ echo \"event $RELEVE_EVENT: $RELEVE_SUBJECT\"; cat; } >> "+p.path("told")+"\n", 0o755)
	agent, err := p.prod.Start(context.Background(), p.path("syncagent.log"), binary(t, "syncagent"), "run", "--config", p.path("syncagent.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p.agent = agent
	t.Cleanup(func() {
		if err := agent.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
		if t.Failed() && agent == p.agent {
			t.Logf("syncagent:\n%s", tail(agent.Output(), 60))
		}
	})
}

// killAgent ends the agent as kill -9 does.
func (p *pair) killAgent(t *testing.T) {
	t.Helper()
	if err := p.agent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.agent.Exited()
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command of a program on a host, to its end.
func runProgram(t *testing.T, h *netlab.Host, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := h.Command(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%s %v: %v: %v\n%s%s", program, args, err, ctx.Err(), &stdout, &stderr)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// syncagent runs one of the agent's commands.
func (p *pair) syncagent(t *testing.T, args ...string) result {
	t.Helper()
	return runProgram(t, p.prod, binary(t, "syncagent"), append(args, "--config", p.path("syncagent.toml"))...)
}

// agentStatus is what we read of `syncagent status --json`.
type agentStatus struct {
	State    string   `json:"state"`
	Problems []string `json:"problems"`
	Folders  []struct {
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Pending   int      `json:"pending"`
		LastError string   `json:"last_error"`
		Problems  []string `json:"problems"`
		Files     int      `json:"sent_files"`
		Held      []struct {
			Path    string `json:"path"`
			Entries int    `json:"entries"`
		} `json:"held"`
	} `json:"folders"`
	Backups []struct {
		Connected bool   `json:"connected"`
		LastError string `json:"last_error"`
	} `json:"backups"`
}

// status asks the running agent; the error is that of one that does not run, or not yet.
func (p *pair) status(t *testing.T) (agentStatus, error) {
	t.Helper()
	r := p.syncagent(t, "status", "--json")
	var s agentStatus
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		return s, fmt.Errorf("exit code %d: %w: %s", r.code, err, r.stderr)
	}
	return s, nil
}

// told is how many messages of an event the owner got.
func (p *pair) told(event string) int {
	text, _ := os.ReadFile(p.path("told"))
	return strings.Count("\n"+string(text), "\nevent "+event+":")
}

// inSync waits until the agent says that all is in sync.
func (p *pair) inSync(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	return eventually(t, within, 100*time.Millisecond, func() (bool, string) {
		s, err := p.status(t)
		if err != nil {
			return false, err.Error()
		}
		for _, f := range s.Folders {
			if f.State != "in_sync" || f.Pending > 0 {
				return false, fmt.Sprintf("folder %s: %+v; backups %+v; %q", f.Name, f, s.Backups, s.Problems)
			}
		}
		return true, ""
	})
}

// identical compares source and replica, and wants no difference within the given time. What it returns is when the
// comparison began that found none.
func (p *pair) identical(t *testing.T, within time.Duration) time.Time {
	t.Helper()
	return p.identicalBut(t, within, "")
}

// identicalBut leaves a name out of the comparison.
func (p *pair) identicalBut(t *testing.T, within time.Duration, but string) time.Time {
	t.Helper()
	skip := func(name string) bool { return name == but || ours(name) }
	var began time.Time
	eventually(t, within, 50*time.Millisecond, func() (bool, string) {
		began = time.Now()
		differ, err := treecmp.Compare(p.source, p.replica, skip)
		if err != nil {
			return false, err.Error() // something was removed, or became another thing, while it was compared
		}
		return len(differ) == 0, fmt.Sprintf("%d differences:\n%s", len(differ), strings.Join(differ[:min(len(differ), 20)], "\n"))
	})
	return began
}

// ours are the names that are no content.
func ours(name string) bool { return strings.HasPrefix(name, ".releve") }

// noLitter wants no temporary file on the replica.
func (p *pair) noLitter(t *testing.T) {
	t.Helper()
	eventually(t, 10*time.Second, 100*time.Millisecond, func() (bool, string) {
		litter, err := p.litter()
		if err != nil {
			return false, err.Error()
		}
		return len(litter) == 0, fmt.Sprintf("%d of our files stayed: %q", len(litter), litter[:min(len(litter), 10)])
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
