package syncagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"releve/internal/notify"
	"releve/internal/probe"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
	"releve/pkg/sshjump"
)

type checkCmd struct{}

// Run tries everything, from here to the far end, and goes on after each failure as far as that makes sense.
func (checkCmd) Run(a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	c := &checker{app: a, cfg: cfg}
	c.pass("config", "%s: %s, %s", a.config, plural(len(cfg.Folders), "folder", "folders"), plural(len(cfg.Backups), "backup", "backups"))
	c.state()
	watches := 0
	for _, f := range cfg.Folders {
		watches += c.source(f) * len(cfg.Backups)
	}
	c.inotify(watches)
	for _, b := range cfg.Backups {
		c.backup(b)
	}
	c.notifications()
	if c.failed > 0 {
		printLines(a.env.Stdout, fmt.Sprintf("%s to mend.", plural(c.failed, "thing", "things")))
		return silent{exitFailed}
	}
	printLines(a.env.Stdout, "All is well.")
	return nil
}

// checker prints one line for each thing that was tried.
type checker struct {
	app    *app
	cfg    *Config
	failed int
}

func (c *checker) pass(what, format string, args ...any) {
	printLines(c.app.env.Stdout, fmt.Sprintf("✓ %-22s %s", what, fmt.Sprintf(format, args...)))
}

// fail prints what is wrong and, below it, what to do.
func (c *checker) fail(what string, err error, remedy string) {
	c.failed++
	printLines(c.app.env.Stdout, fmt.Sprintf("✗ %-22s %v", what, err))
	if remedy != "" {
		printLines(c.app.env.Stdout, "  → "+remedy)
	}
}

func (c *checker) state() {
	dir := c.cfg.StateDir
	lock, err := lockState(dir)
	switch {
	case errors.Is(err, errLocked):
		c.pass("state_dir", "%s, in use by the running agent", dir)
	case err != nil:
		c.fail("state_dir", err, fmt.Sprintf("make %s writable for the user that runs syncagent", dir))
	default:
		lock.Close()
		c.pass("state_dir", "%s", dir)
	}
}

// source reads a folder and returns how many directories it has.
func (c *checker) source(f Folder) int {
	what := "source " + f.Name
	root, err := tree.Open(f.Source)
	if err != nil {
		c.fail(what, err, "correct source in the configuration, or run syncagent as a user that may read it")
		return 0
	}
	defer root.Close()
	t := tree.Tree{}
	problems, err := root.Scan(c.app.ctx, ".", f.Filter, t)
	if err != nil {
		c.fail(what, err, "")
		return 0
	}
	dirs, bytes := 0, int64(0)
	for _, e := range t {
		if e.Type == tree.Dir {
			dirs++
		}
		bytes += e.Size
	}
	for _, p := range problems[:min(len(problems), 5)] {
		c.fail(what, p, "let the user that runs syncagent read it, or exclude it: as long as it cannot be read, no deletion in this folder is carried out")
	}
	if len(problems) == 0 {
		c.pass(what, "%s: %s in %s, %s", f.Source, entries(len(t)), plural(dirs, "directory", "directories"), humanize.IBytes(uint64(bytes)))
	}
	return dirs
}

// inotify compares the watches needed with what the kernel allows to one user.
func (c *checker) inotify(need int) {
	const name = "/proc/sys/fs/inotify/max_user_watches"
	text, err := os.ReadFile(name)
	if err != nil {
		c.fail("inotify", err, "")
		return
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		c.fail("inotify", err, "")
		return
	}
	if need > limit {
		c.fail("inotify", fmt.Errorf("%s directories to watch, the kernel allows %s watches", humanize.Comma(int64(need)), humanize.Comma(int64(limit))),
			fmt.Sprintf("run: sysctl fs.inotify.max_user_watches=%d, and put that line into /etc/sysctl.d/; until then the rest is polled", roundUp(need*2)))
		return
	}
	c.pass("inotify", "%s watches needed, %s allowed", humanize.Comma(int64(need)), humanize.Comma(int64(limit)))
}

// roundUp gives the next power of two: a limit with room to grow.
func roundUp(n int) int {
	p := 8192
	for p < n {
		p *= 2
	}
	return p
}

// backup goes the whole way: bastion, backup, SFTP, targets, control folder, and the standby's site.
func (c *checker) backup(b Backup) {
	defer c.standby(b)
	if len(b.Hops) > 1 && !c.bastion(b) {
		return
	}
	last := b.Hops[len(b.Hops)-1]
	began := time.Now()
	s, err := connect(c.app.ctx, b)
	if err != nil {
		c.fail("backup "+b.Name, err, remedy(err, b))
		return
	}
	defer s.close()
	c.pass("backup "+b.Name, "%s@%s: host key and login accepted, %v to connect, %v round trip",
		last.User, last.Address, time.Since(began).Round(time.Millisecond), s.rtt.Round(time.Millisecond/10))
	if !c.extensions(s.lanes.Small) {
		return
	}
	id, err := processID()
	if err != nil {
		c.fail("write", err, "")
		return
	}
	for _, f := range c.cfg.Folders {
		c.target("target "+f.Name, s.lanes, f.Target, id)
	}
	c.target("control folder", s.lanes, b.Control, id)
	c.watchdog(b, s)
}

// bastion connects to the first hop alone, so that it is clear at which door we were turned away.
func (c *checker) bastion(b Backup) bool {
	hop := b.Hops[0]
	ctx, cancel := context.WithTimeout(c.app.ctx, dialTimeout)
	defer cancel()
	conn, err := sshjump.Dial(ctx, hop)
	if err != nil {
		c.fail("bastion", err, remedy(err, b))
		return false
	}
	conn.Close()
	c.pass("bastion", "%s@%s: host key and login accepted", hop.User, hop.Address)
	return true
}

// extensions lists what of OpenSSH's SFTP server is there.
func (c *checker) extensions(client *sftpipe.Client) bool {
	if !client.HasExtension(push.RequiredExtension) {
		c.fail("SFTP", push.ErrNoExtension, "use OpenSSH's own SFTP server on the backup (Subsystem sftp internal-sftp), without -p or -P lists that deny it")
		return false
	}
	missing := []string{}
	for name, why := range map[string]string{
		"lsetstat@openssh.com": "times of symbolic links are not replicated",
		"hardlink@openssh.com": "replaced files are not kept in the trash",
		"statvfs@openssh.com":  "a full disk cannot be told from other failures",
	} {
		if !client.HasExtension(name) {
			missing = append(missing, fmt.Sprintf("without %s %s", name, why))
		}
	}
	detail := "posix-rename@openssh.com and all that is of use"
	if len(missing) > 0 {
		detail = "posix-rename@openssh.com; " + strings.Join(missing, "; ")
	}
	c.pass("SFTP", "%s", detail)
	return true
}

// target writes to a directory as a push does.
func (c *checker) target(what string, lanes push.Lanes, dir, id string) {
	ctx := c.app.ctx
	err := push.New(lanes, dir, id, 0).Check(ctx)
	if err == nil {
		err = push.Probe(ctx, lanes.Small, dir, id)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.fail(what, err, fmt.Sprintf("on the backup, run: install -d -o USER %s; or, if the account has a chroot, write the path as it is from inside", dir))
	case errors.Is(err, fs.ErrPermission):
		c.fail(what, err, fmt.Sprintf("make %s writable for the SFTP user; the root of a chroot cannot be, a folder in it can", dir))
	case err != nil:
		c.fail(what, err, "")
	default:
		c.pass(what, "%s: written, replaced, removed%s", dir, room(ctx, lanes.Small, dir))
	}
}

// room says how much fits into a file system, where the server tells.
func room(ctx context.Context, client *sftpipe.Client, dir string) string {
	st, err := client.StatVFS(ctx, dir)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; %s free", humanize.IBytes(st.Available()))
}

func (c *checker) standby(b Backup) {
	if b.Probe == nil {
		return
	}
	what := "standby's site"
	target, err := b.Probe.target()
	if err != nil {
		c.fail(what, err, "")
		return
	}
	r := probe.Check(c.app.ctx, target)
	if !r.OK {
		c.fail(what, fmt.Errorf("%s at %s: %s", target.URL, target.Address, r.Detail),
			"look at the standby's web server, its certificate, and the port forwarding at home")
		return
	}
	detail := fmt.Sprintf("%s at %s: status %d in %v", target.URL, target.Address, r.Status, r.Total.Round(time.Millisecond))
	if !r.NotAfter.IsZero() {
		detail += fmt.Sprintf(", certificate good for %d days", int(time.Until(r.NotAfter).Hours()/24))
	}
	c.pass(what, "%s", detail)
}

func (c *checker) notifications() {
	if len(c.cfg.Notify) == 0 {
		c.fail("notify", errors.New("nobody is told when something goes wrong"), "add a [[notify]] table; mail from this server needs no account anywhere")
		return
	}
	if _, err := notify.Channels("syncagent", c.cfg.Notify); err != nil {
		c.fail("notify", err, "")
		return
	}
	names := make([]string, len(c.cfg.Notify))
	for i, n := range c.cfg.Notify {
		names[i] = n.ChannelName()
	}
	c.pass("notify", "%s (try: syncagent notify-test)", strings.Join(names, ", "))
}

// remedy says what to do about a connection that could not be made.
func remedy(err error, b Backup) string {
	var e *sshjump.Error
	if !errors.As(err, &e) {
		return ""
	}
	hop := b.Hops[e.Hop]
	switch e.Kind {
	case sshjump.Network:
		return fmt.Sprintf("is %s the right address, is the machine up, does the router forward the port?", hop.Address)
	case sshjump.HostKey:
		return fmt.Sprintf("compare with the host itself (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then correct %s", strings.Join(hop.KnownHosts, ", "))
	case sshjump.Auth:
		return fmt.Sprintf("put the content of %s.pub into ~%s/.ssh/authorized_keys there; wait 30 s before the next try, sshd locks insistent addresses out",
			hop.KeyFile, hop.User)
	case sshjump.Forward:
		return fmt.Sprintf("on the bastion: AllowTcpForwarding must be local or yes, PermitOpen must name %s exactly, and it must be reachable from there", hop.Address)
	case sshjump.Key:
		return fmt.Sprintf("%[1]s must be a private key (ssh-keygen -t ed25519 -N '' -f %[1]s makes one) that the user of syncagent can read, and nobody else; a passphrase is given by key_passphrase_file",
			filepath.Clean(hop.KeyFile))
	case sshjump.Protocol:
		return fmt.Sprintf("is that an SSH server with SFTP enabled at %s?", hop.Address)
	}
	return ""
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}
