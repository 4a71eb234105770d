package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// SSHD is OpenSSH's sshd on a host. It may be killed and started again.
type SSHD struct {
	Host    *Host
	Address string   // HOST:PORT it listens on
	Dir     string   // for its key, configuration and log
	Config  []string // lines of sshd_config(5)
	HostKey string   // its Ed25519 key's line "ssh-ed25519 …", after Start

	process *Process
}

// NoSSHD says why no sshd can be run here, or returns nil.
func NoSSHD() error {
	for _, program := range []string{"/usr/sbin/sshd", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			return errors.New("no OpenSSH server (packages openssh-server, openssh-client)")
		}
	}
	return nil
}

// Start starts the server, with the key of the last time if there was one.
func (s *SSHD) Start(ctx context.Context) error {
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd insists on its separation folder
			return err
		}
	}
	key := filepath.Join(s.Dir, "ssh_host_ed25519")
	public, err := KeyPair(ctx, key)
	if err != nil {
		return err
	}
	s.HostKey = strings.Join(strings.Fields(public)[:2], " ")
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	lines := append([]string{"ListenAddress " + host, "Port " + port, "HostKey " + key, "PidFile none", "UsePAM no",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "LogLevel VERBOSE"}, s.Config...)
	config := filepath.Join(s.Dir, "sshd_config")
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	if s.process, err = s.Host.Start(ctx, filepath.Join(s.Dir, "sshd.log"), "/usr/sbin/sshd", "-D", "-e", "-f", config); err != nil {
		return err
	}
	if err := s.Host.answers(ctx, s.Address, s.process.Exited()); err != nil {
		return errors.Join(fmt.Errorf("start sshd on %s: %w: %s", s.Host.Name, err, s.process.Output()), s.Kill())
	}
	return nil
}

// Kill ends the server and every process of its connections by SIGKILL, by number.
func (s *SSHD) Kill() error {
	if s.process == nil {
		return nil
	}
	err := s.process.Kill()
	<-s.process.Exited()
	return err
}

// Log is what the server said since it was first started.
func (s *SSHD) Log() string { return s.process.Output() }

// KeyPair makes an Ed25519 key pair in the files path and path.pub, unless it is there, and returns the public half's line.
func KeyPair(ctx context.Context, path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", filepath.Base(path), "-f", path).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(path + ".pub")
	return strings.TrimSpace(string(public)), err
}
