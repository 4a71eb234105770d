package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// own makes a name that says whose it is, so that it can be told from what a killed process left.
func own(name string) string { return prefix + strconv.Itoa(os.Getpid()) + "-" + name }

// ownName matches the names of own.
var ownName = regexp.MustCompile(`^` + prefix + `([0-9]+)-`)

// orphan reports whether name is of own, and its process has ended.
func orphan(name string) bool {
	m := ownName.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	pid, err := strconv.Atoi(m[1])
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// scratch is where Scratch makes its folders: sshd's ChrootDirectory wants root to own every folder above, and nobody
// else to write there, which rules the temporary folders out.
const scratch = "/var/lib"

// Scratch makes a folder that is fit to hold a ChrootDirectory, readable by all. It lasts until it is removed, or until
// Sweep finds that this process has ended.
func Scratch() (string, error) {
	dir, err := os.MkdirTemp(scratch, own(""))
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// Sweep removes what processes left behind that were killed: namespaces and what runs in them, control groups, accounts,
// folders.
func Sweep(ctx context.Context) error {
	var errs []error
	groups := cgroups() + "/"
	for _, pattern := range []string{"/run/netns/", "/etc/netns/", scratch + "/", groups} {
		left, err := filepath.Glob(pattern + prefix + "*")
		errs = append(errs, err)
		for _, path := range left {
			switch {
			case !orphan(filepath.Base(path)):
			case pattern == "/run/netns/":
				errs = append(errs, remove(filepath.Base(path)))
			case pattern == groups:
				errs = append(errs, os.Remove(path))
			case pattern == scratch+"/":
				if err := unmountBelow(path); err != nil {
					errs = append(errs, err)
					continue
				}
				fallthrough
			default:
				errs = append(errs, os.RemoveAll(path))
			}
		}
	}
	accounts, err := os.ReadFile("/etc/passwd")
	errs = append(errs, err)
	for line := range strings.Lines(string(accounts)) {
		if name, _, _ := strings.Cut(line, ":"); orphan(name) {
			errs = append(errs, Account{Name: name}.Remove(ctx))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep up: %w", err)
	}
	return nil
}
