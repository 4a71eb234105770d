package sshworld

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHD is OpenSSH's sshd, running on a port of 127.0.0.1.
type SSHD struct {
	Addr    string
	HostKey ssh.PublicKey // its Ed25519 key; it has an RSA and an ECDSA key as well

	cmd    *exec.Cmd
	exited chan struct{}
}

// ErrNoSSHD says why [StartSSHD] cannot work here; tests skip with its text.
var ErrNoSSHD = errors.New("needs OpenSSH's sshd, and to be root")

// StartSSHD runs sshd, keeping its files in dir. Each line of config goes into
// its configuration before those needed for it to run. root may log in with the
// key whose public half is in the file authorized. It is killed when ctx ends, and by
// Close.
func StartSSHD(ctx context.Context, dir, authorized string, config ...string) (*SSHD, error) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil || os.Geteuid() != 0 {
		return nil, ErrNoSSHD
	}
	// sshd insists on its separation folder.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return nil, err
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		name := filepath.Join(dir, "ssh_host_"+kind)
		config = append(config, "HostKey "+name)
		if _, err := os.Stat(name); err == nil {
			continue
		}
		args := []string{"-q", "-t", kind, "-N", "", "-f", name}
		if kind == "rsa" {
			args = append(args, "-b", "2048") // larger ones take seconds
		}
		if out, err := exec.CommandContext(ctx, "ssh-keygen", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "ssh_host_ed25519.pub"))
	if err != nil {
		return nil, err
	}
	s := &SSHD{exited: make(chan struct{})}
	if s.HostKey, _, _, _, err = ssh.ParseAuthorizedKey(public); err != nil {
		return nil, err
	}
	if s.Addr, err = freePort(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	config = append(config, "ListenAddress 127.0.0.1", "Port "+port, "AuthorizedKeysFile "+authorized,
		"UsePAM no", "StrictModes no", "PidFile none", "PermitRootLogin prohibit-password", "LogLevel VERBOSE")
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(strings.Join(config, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "sshd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.CommandContext(ctx, sshd, "-D", "-e", "-f", file)
	s.cmd.Stderr = log
	s.cmd.Cancel = s.kill
	// A test that runs out of time ends without Close.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.answers(ctx); err != nil {
		text, _ := os.ReadFile(log.Name())
		s.Close()
		return nil, fmt.Errorf("start sshd: %w: %s", err, text)
	}
	return s, nil
}

// answers waits until the server accepts connections.
func (s *SSHD) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		}
	}
}

// Stop halts the server and its connections, which the kernel keeps open: a black
// hole.
func (s *SSHD) Stop() error { return s.signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (s *SSHD) Continue() error { return s.signal(syscall.SIGCONT) }

// Close kills the server and every process of its connections.
func (s *SSHD) Close() {
	_ = s.kill()
	<-s.exited
}

func (s *SSHD) kill() error { return s.signal(syscall.SIGKILL) }

// signal reaches the processes of connections, too, which sessions of their own
// keep out of the reach of a signal to the process group. They are looked up
// first: those of a process that is gone cannot be found.
func (s *SSHD) signal(sig syscall.Signal) error {
	select {
	case <-s.exited:
		return os.ErrProcessDone // and its number may be another's
	default:
	}
	connections := descendants(s.cmd.Process.Pid)
	err := s.cmd.Process.Signal(sig)
	for _, pid := range connections {
		_ = syscall.Kill(pid, sig)
	}
	return err
}

// descendants lists the children of a process, and theirs, from proc(5).
func descendants(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for _, field := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// freePort asks the kernel for a port and gives it back.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
