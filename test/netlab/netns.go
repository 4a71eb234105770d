package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is a machine of the laboratory: a network namespace, with its own /etc/hosts and /etc/resolv.conf. The zero Host
// is this machine itself.
type Host struct {
	Name  string // "" is this machine itself
	netns string
	group *os.File // its control group; nil where nothing is counted
}

// Command is exec.CommandContext on this host.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if h.netns == "" {
		return exec.CommandContext(ctx, name, args...)
	}
	// ip(8) becomes the command, so that its process id is the command's.
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.netns, name}, args...)...)
	cmd.SysProcAttr = h.counted(&syscall.SysProcAttr{})
	return cmd
}

// Run runs a command on this host and returns what it printed; its error repeats that.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := h.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s on %s: %w: %s", name, h.Name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Do runs f with the sockets that it opens in its own goroutine belonging to this host. So a server of the test's own
// process listens there.
func (h *Host) Do(f func() error) error {
	if h.netns == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked where the way back fails: the thread then ends with the goroutine.
		runtime.LockOSThread()
		result <- h.within(f)
	}()
	return <-result
}

func (h *Host) within(f func() error) error {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	defer here.Close()
	there, err := os.Open(filepath.Join("/run/netns", h.netns))
	if err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	ferr := f()
	if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
		return errors.Join(ferr, fmt.Errorf("leave %s: %w", h.Name, err))
	}
	runtime.UnlockOSThread()
	return ferr
}

// Listen listens on this host.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Dial connects from this host. address holds an IP address: names would be resolved elsewhere.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// etc writes a file that this host sees as /etc/NAME.
func (h *Host) etc(name, text string) error {
	dir := filepath.Join("/etc/netns", h.netns)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}

// pids lists the processes of a namespace.
func pids(netns string) ([]int, error) {
	out, err := exec.Command("ip", "netns", "pids", netns).Output()
	if err != nil {
		return nil, err
	}
	var all []int
	for _, field := range strings.Fields(string(out)) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err == nil && pid != os.Getpid() {
			all = append(all, pid)
		}
	}
	return all, nil
}

// remove ends what runs in a namespace and deletes it.
func remove(netns string) error {
	running, err := pids(netns)
	if err != nil {
		return fmt.Errorf("list processes of %s: %w", netns, err)
	}
	for _, pid := range running {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if out, err := exec.Command("ip", "netns", "delete", netns).CombinedOutput(); err != nil {
		return fmt.Errorf("delete namespace %s: %w: %s", netns, err, out)
	}
	if err := os.RemoveAll(filepath.Join("/etc/netns", netns)); err != nil {
		return err
	}
	_ = os.Remove("/etc/netns") // empty if nobody else uses it
	return nil
}
