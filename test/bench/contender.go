package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"releve/test/netlab"
	"releve/test/treecmp"
)

// place is a source with its replica, and who keeps them equal.
type place struct {
	who             string
	source, replica string
	daemon          *netlab.Process // nil for what runs once
}

// identical compares the two ends.
func (p *place) identical() error {
	ours := func(name string) bool { return strings.HasPrefix(name, ".releve") }
	diffs, err := treecmp.Compare(p.source, p.replica, ours)
	if err != nil {
		return err
	}
	if len(diffs) > 0 {
		return fmt.Errorf("%s: %d paths differ, the first: %s", p.who, len(diffs), diffs[0])
	}
	return nil
}

// stop ends the daemon of a place, if it has one.
func (p *place) stop() error {
	if p.daemon == nil {
		return nil
	}
	return p.daemon.Stop(20 * time.Second)
}

// agentAt is syncagent with a source and an empty replica; it does not run yet.
type agentAt struct {
	place
	w      *world
	config string
	socket string
	log    string
}

func (w *world) agentAt(source string) (*agentAt, error) {
	replica, err := w.target(w.replica)
	if err != nil {
		return nil, err
	}
	dir, err := w.fresh("agent")
	if err != nil {
		return nil, err
	}
	a := &agentAt{place: place{who: "syncagent", source: source, replica: replica}, w: w}
	a.config, a.socket, a.log = filepath.Join(dir, "syncagent.toml"), filepath.Join(dir, "socket"), filepath.Join(dir, "log")
	target := strings.TrimPrefix(replica, w.home("chroot"))
	text := fmt.Sprintf(`state_dir = "%[1]s/state"
[[folder]]
name = "web"
source = "%[2]s"
target = "%[3]s"
[[backup]]
name = "home"
address = "%[4]s:22"
user = "%[5]s"
key = "%[8]s/backup_ed25519"
known_hosts = "%[8]s/known_hosts"
control = "/data/.releve"
[backup.bastion]
address = "%[6]s:22"
user = "%[7]s"
key = "%[8]s/bastion_ed25519"
known_hosts = "%[8]s/known_hosts"
[status]
socket = "%[9]s"
listen = ""
[[notify]]
type = "exec"
command = ["/bin/true"]
`, dir, source, target, netlab.BackupName, w.replica.Name, netlab.HomeName, w.jump.Name, w.dir, a.socket)
	return a, os.WriteFile(a.config, []byte(text), 0o600)
}

// sync runs `syncagent sync` once.
func (a *agentAt) sync(ctx context.Context) error {
	return a.w.run(ctx, a.w.agent, "sync", "--config", a.config)
}

// start starts `syncagent run` and waits until the replica is equal.
func (a *agentAt) start(ctx context.Context) (err error) {
	a.daemon, err = a.w.lab.Prod.Start(ctx, a.log, a.w.agent, "run", "--config", a.config)
	if err != nil {
		return err
	}
	return wait(ctx, 10*time.Minute, 20*time.Millisecond, func() (bool, error) {
		select {
		case <-a.daemon.Exited():
			return false, fmt.Errorf("syncagent ended: %s", a.daemon.Output())
		default:
		}
		out, _ := a.w.lab.Prod.Command(ctx, a.w.agent, "status", "--json", "--config", a.config).Output()
		var status struct{ Folders []struct{ State string } }
		err := json.Unmarshal(out, &status)
		return err == nil && len(status.Folders) == 1 && status.Folders[0].State == "in_sync", nil
	})
}

// peerAt is a source with an empty replica for a tool that runs once.
func (w *world) peerAt(who, source string) (*place, error) {
	replica, err := w.target(w.peer)
	return &place{who: who, source: source, replica: replica}, err
}

// rsync runs rsync -a over a connection of its own, or over a shared one that stands.
func (w *world) rsync(ctx context.Context, p *place, host string, args ...string) error {
	args = append([]string{"-a", "-e", "ssh -F " + w.path("ssh_config")}, args...)
	return w.run(ctx, "rsync", append(args, p.source+"/", host+":"+p.replica+"/")...)
}

// rclone copies one file. It knows no jump host: ssh makes it a way, as its users do by hand. Its check of the hash, for
// which it would log in once more and read the file again, is left out.
func (w *world) rclone(ctx context.Context, p *place, name string) (err error) {
	const local = "127.0.0.1:2022"
	ssh := func(args ...string) error {
		return w.run(ctx, "ssh", append([]string{"-F", w.path("ssh_config"), "-S", w.path("cm/rclone")}, args...)...)
	}
	if err := ssh("-M", "-f", "-N", "-o", "ExitOnForwardFailure=yes", "-L", local+":"+netlab.BackupName+":22", "bastion"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ssh("-O", "exit", "bastion")) }()
	known := w.path("rclone_known_hosts")
	if err := os.WriteFile(known, []byte("[127.0.0.1]:2022 "+w.backup.HostKey+"\n"), 0o644); err != nil {
		return err
	}
	remote := fmt.Sprintf(":sftp,host=127.0.0.1,port=2022,user=%s,key_file=%s,known_hosts_file=%s,disable_hashcheck=true:%s",
		w.peer.Name, w.path("backup_ed25519"), known, filepath.Join(p.replica, name))
	return w.run(ctx, "rclone", "--config", "", "copyto", filepath.Join(p.source, name), remote)
}

// lsyncd starts lsyncd and waits for the end of its start-up sync. layer is "rsync" or "rsyncssh".
func (w *world) lsyncd(ctx context.Context, source, layer, host string, delay int) (*place, error) {
	replica, err := w.target(w.peer)
	if err != nil {
		return nil, err
	}
	who := fmt.Sprintf("lsyncd %s, delay %d", layer, delay)
	if strings.HasSuffix(host, "-cm") {
		who += ", ControlMaster"
	}
	p := &place{who: who, source: source, replica: replica}
	dir, err := w.fresh("lsyncd")
	if err != nil {
		return nil, err
	}
	ssh := fmt.Sprintf(`rsync = { archive = true, rsh = "/usr/bin/ssh -F %s" }`, w.path("ssh_config"))
	to := fmt.Sprintf(`target = "%s:%s/"`, host, replica)
	if layer == "rsyncssh" {
		to = fmt.Sprintf(`host = "%s", targetdir = "%s/", ssh = { _extra = { "-F", "%s" } }`, host, replica, w.path("ssh_config"))
	}
	text := fmt.Sprintf(`settings { nodaemon = true, logfile = "%[1]s/log", statusFile = "%[1]s/status", statusInterval = 1, insist = true }
sync { default.%[2]s, source = "%[3]s", %[4]s, delay = %[5]d, delete = true, %[6]s }
`, dir, layer, source, to, delay, ssh)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	if p.daemon, err = w.lab.Prod.Start(ctx, filepath.Join(dir, "out"), "lsyncd", filepath.Join(dir, "conf")); err != nil {
		return nil, err
	}
	return p, w.caughtUp(ctx, p)
}

// inotifywait starts what people build by hand: rsync of the whole tree after each event, over a standing connection.
func (w *world) inotifywait(ctx context.Context, source string) (*place, error) {
	p, err := w.peerAt("inotifywait + rsync, ControlMaster", source)
	if err != nil {
		return nil, err
	}
	dir, err := w.fresh("inotifywait")
	if err != nil {
		return nil, err
	}
	rsync := fmt.Sprintf(`rsync -a --delete -e "ssh -F %s" %s/ backup-cm:%s/`, w.path("ssh_config"), source, p.replica)
	script := rsync + `
inotifywait -m -q -r -e close_write,move,create,delete,attrib ` + source + ` | while read -r line; do
	while read -r -t 0.001 line; do :; done
	` + rsync + `
done
`
	file := filepath.Join(dir, "loop")
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		return nil, err
	}
	if p.daemon, err = w.lab.Prod.Start(ctx, filepath.Join(dir, "out"), "bash", file); err != nil {
		return nil, err
	}
	return p, w.caughtUp(ctx, p)
}

// caughtUp waits until a daemon's replica equals its source, and does so again after a change.
func (w *world) caughtUp(ctx context.Context, p *place) error {
	var last error
	err := wait(ctx, 10*time.Minute, 300*time.Millisecond, func() (bool, error) {
		select {
		case <-p.daemon.Exited():
			return false, fmt.Errorf("%s ended: %s", p.who, p.daemon.Output())
		default:
		}
		last = p.identical()
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	// Its watches are in place when a change arrives; until then, make another.
	probe := filepath.Join(p.source, "caught-up")
	err = wait(ctx, time.Minute, 2*time.Second, func() (bool, error) {
		data := []byte(time.Now().String())
		if err := os.WriteFile(probe, data, 0o644); err != nil {
			return false, err
		}
		return p.arrives(ctx, 4*time.Second, "caught-up", data) == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s does not follow: %w", p.who, err)
	}
	pause(ctx, 2*time.Second)
	return nil
}

// wait polls until ok.
func wait(ctx context.Context, within, every time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %v", within))
	defer cancel()
	for {
		good, err := ok()
		if good || err != nil {
			return err
		}
		if !pause(ctx, every) {
			return context.Cause(ctx)
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// version is the first line of what a program says of itself.
func version(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
