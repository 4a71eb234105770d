package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups is where control groups are, see cgroups(7), version 2; "" where there are none.
func cgroups() string {
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer mounts.Close()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	return ""
}

// account has what runs on the host from now on counted.
func (h *Host) account() error {
	root := cgroups()
	if root == "" {
		return errors.New("no control groups of version 2")
	}
	group := filepath.Join(root, h.netns)
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(group)
	if err != nil {
		return errors.Join(err, os.Remove(group))
	}
	h.group = dir
	return nil
}

// counted has a process that is about to be started counted.
func (h *Host) counted(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	if h.group != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(h.group.Fd())
	}
	return attr
}

// CPU is the processor time of everything that was started on the host, what has ended included. It needs
// [Options.Account].
func (h *Host) CPU() (time.Duration, error) {
	if h.group == nil {
		return 0, fmt.Errorf("processor time of %s: it is not counted", h.Name)
	}
	stat, err := os.ReadFile(filepath.Join(h.group.Name(), "cpu.stat"))
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", h.Name, err)
	}
	for line := range strings.Lines(string(stat)) {
		if used, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(used), 10, 64)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("processor time of %s: the kernel does not say", h.Name)
}

// uncount ends account, when nothing runs on the host any more.
func (h *Host) uncount() error {
	if h.group == nil {
		return nil
	}
	group := h.group.Name()
	err := h.group.Close()
	h.group = nil
	return errors.Join(err, retry(func() error { return os.Remove(group) }))
}

// retry gives what was killed a moment to be gone.
func retry(f func() error) error {
	for range 50 {
		if err := f(); !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return f()
}
