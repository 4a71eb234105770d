package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"releve/test/netlab"
)

// world is the two servers and the ways of the contenders: syncagent to an account that knows nothing but SFTP in a
// chroot, the others to one with a shell.
type world struct {
	lab                 *netlab.Lab
	scratch             string
	dir, far            string // the disks of prod (and of the bastion) and of the backup
	jump, replica, peer netlab.Account
	bastion, backup     *netlab.SSHD
	agent               string // the binary
	serial              int
	disk                string                  // in words: what they are
	mounted             map[string]func() error // by folder: what unmounts it
}

// diskSize is what each disk holds; it takes up what is written.
const diskSize = 32 << 30

func newWorld(ctx context.Context, o options) (_ *world, err error) {
	w := &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.scratch, err = netlab.Scratch(); err != nil {
		return nil, err
	}
	if err := w.makeDisks(ctx); err != nil {
		return nil, err
	}
	for name, account := range map[string]*netlab.Account{"jump": &w.jump, "sftp": &w.replica, "shell": &w.peer} {
		if *account, err = netlab.AddAccount(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := command(exec.CommandContext(ctx, "usermod", "--shell", "/bin/sh", w.peer.Name)); err != nil {
		return nil, err
	}
	if w.lab, err = netlab.New(ctx, "bench", netlab.Options{Account: true}); err != nil {
		return nil, err
	}
	for _, dir := range []string{w.path("bastion"), w.path("cm"), w.home("sshd"), w.home("chroot")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for account, dir := range map[netlab.Account]string{w.replica: w.home("chroot/data"), w.peer: w.home("peer")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, account.UID, account.GID); err != nil {
			return nil, err
		}
	}
	if err := w.serve(ctx); err != nil {
		return nil, err
	}
	if w.agent = o.agent; w.agent == "" {
		w.agent = w.path("syncagent")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", w.agent, "releve/cmd/syncagent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := command(build); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// makeDisks gives each server a disk as Debian makes it: what one writes, and waits for, is nothing to the other. A file
// system without a journal, which virtual machines often have, is no ground for a benchmark: ext4 then steps around each
// inode that was freed in the last minutes, and the second run takes three times as long as the first.
func (w *world) makeDisks(ctx context.Context) error {
	w.disk, w.mounted = "each server on an ext4 of its own, on a loop device", map[string]func() error{}
	for at, name := range map[*string]string{&w.dir: "prod", &w.far: "backup"} {
		*at = filepath.Join(w.scratch, name)
		if err := os.Mkdir(*at, 0o755); err != nil {
			return err
		}
		unmount, err := netlab.DiskImage(ctx, *at, diskSize)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: on the machine's own file system:", err)
			w.disk = "the machine's own file system"
			continue
		}
		w.mounted[*at] = unmount
	}
	return nil
}

// trim gives back what has been deleted from the disks.
func (w *world) trim() {
	for disk := range w.mounted {
		_ = exec.Command("fstrim", disk).Run() // without it the images grow
	}
}

// path and home name what lies on prod's disk, and what lies at home, on the backup's.
func (w *world) path(name string) string { return filepath.Join(w.dir, name) }
func (w *world) home(name string) string { return filepath.Join(w.far, name) }

// serve starts the two SSH servers and writes what the clients need to reach them.
func (w *world) serve(ctx context.Context) error {
	authorize := func(key string) (string, error) {
		public, err := netlab.KeyPair(ctx, w.path(key))
		if err != nil {
			return "", err
		}
		return w.path(key + ".authorized"), os.WriteFile(w.path(key+".authorized"), []byte(public+"\n"), 0o644)
	}
	forBastion, err1 := authorize("bastion_ed25519")
	forBackup, err2 := authorize("backup_ed25519")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	const bastion, backup = netlab.HomeName + ":22", netlab.BackupName + ":22"
	w.bastion = &netlab.SSHD{Host: w.lab.Home, Address: netlab.HomeIPv4 + ":22", Dir: w.path("bastion"), Config: []string{
		"AllowUsers " + w.jump.Name, "AuthorizedKeysFile " + forBastion, "AllowTcpForwarding local", "PermitOpen " + backup,
		"ForceCommand /usr/sbin/nologin", "PermitTTY no",
	}}
	w.backup = &netlab.SSHD{Host: w.lab.Backup, Address: netlab.BackupIPv4 + ":22", Dir: w.home("sshd"), Config: []string{
		"AllowUsers " + w.replica.Name + " " + w.peer.Name, "AuthorizedKeysFile " + forBackup, "Subsystem sftp internal-sftp",
		"Match User " + w.replica.Name, "ChrootDirectory " + w.home("chroot"), "ForceCommand internal-sftp",
	}}
	if err := errors.Join(w.bastion.Start(ctx), w.backup.Start(ctx)); err != nil {
		return err
	}
	known := netlab.HomeName + " " + w.bastion.HostKey + "\n" + netlab.BackupName + " " + w.backup.HostKey + "\n"
	client := fmt.Sprintf(`UserKnownHostsFile %[1]s/known_hosts
StrictHostKeyChecking yes
IdentitiesOnly yes
BatchMode yes
Host bastion
	HostName %[2]s
	User %[3]s
	IdentityFile %[1]s/bastion_ed25519
Host backup backup-cm
	HostName %[4]s
	User %[5]s
	IdentityFile %[1]s/backup_ed25519
	ProxyJump bastion
Host backup-cm
	ControlMaster auto
	ControlPath %[1]s/cm/%%C
	ControlPersist 60s
`, w.dir, netlab.HomeName, w.jump.Name, netlab.BackupName, w.peer.Name)
	return errors.Join(
		os.WriteFile(w.path("known_hosts"), []byte(known), 0o644),
		os.WriteFile(w.path("ssh_config"), []byte(client), 0o644),
	)
}

// fresh makes a folder on prod.
func (w *world) fresh(name string) (string, error) {
	w.serial++
	dir := w.path(fmt.Sprintf("%s-%d", name, w.serial))
	return dir, os.Mkdir(dir, 0o755)
}

// target makes an empty folder on the backup, the account's own.
func (w *world) target(account netlab.Account) (string, error) {
	w.serial++
	base := "peer"
	if account == w.replica {
		base = "chroot/data"
	}
	dir := filepath.Join(w.home(base), fmt.Sprintf("replica-%d", w.serial))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chown(dir, account.UID, account.GID)
}

// sent is what has travelled from prod to the backup so far, in bytes of IP.
func (w *world) sent() int64 {
	up, _ := w.lab.WAN.Bytes()
	return up
}

func (w *world) close() error {
	var errs []error
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	for _, a := range []netlab.Account{w.jump, w.replica, w.peer} {
		if a.Name != "" {
			errs = append(errs, a.Remove(context.Background()))
		}
	}
	for _, unmount := range w.mounted {
		errs = append(errs, unmount())
	}
	if w.scratch != "" {
		errs = append(errs, os.RemoveAll(w.scratch))
	}
	return errors.Join(errs...)
}

// cost is processor time, by host. The link's is this process's own: it carries the packets.
type cost struct{ prod, bastion, backup, link time.Duration }

func (c cost) minus(d cost) cost {
	return cost{c.prod - d.prod, c.bastion - d.bastion, c.backup - d.backup, c.link - d.link}
}

// meter is what has been spent so far: time, bytes from prod to the backup, processor time.
type meter struct {
	at       time.Time
	sent     int64
	up, down int64 // packets
	cost     cost
}

// read reads the meter. Where processor time is not counted it stands still.
func (w *world) read() meter {
	m := meter{sent: w.sent()}
	m.up, m.down = w.lab.WAN.Packets()
	for h, used := range map[*netlab.Host]*time.Duration{w.lab.Prod: &m.cost.prod, w.lab.Home: &m.cost.bastion, w.lab.Backup: &m.cost.backup} {
		*used, _ = h.CPU()
	}
	var self unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &self) == nil {
		m.cost.link = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	}
	m.at = time.Now()
	return m
}

// run runs a command on prod to its end.
func (w *world) run(ctx context.Context, name string, args ...string) error {
	return command(w.lab.Prod.Command(ctx, name, args...))
}

// command runs cmd; its error repeats what that printed.
func command(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
