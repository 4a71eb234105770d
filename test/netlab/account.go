package netlab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// Account is an account of this machine without a password, a shell or a home: for the servers of the laboratory to
// let in with a key.
type Account struct {
	Name     string
	UID, GID int
}

// AddAccount makes an account. It lasts until Remove, or until Sweep finds that this process has ended.
func AddAccount(ctx context.Context, name string) (Account, error) {
	full := own(name)
	// "*" is no password's hash, as "!" is, but does not lock the account for sshd.
	out, err := exec.CommandContext(ctx, "useradd", "--system", "--user-group", "--no-create-home",
		"--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "--password", "*", full).CombinedOutput()
	if err != nil {
		return Account{}, fmt.Errorf("add account %s: %w: %s", full, err, strings.TrimSpace(string(out)))
	}
	u, err := user.Lookup(full)
	if err != nil {
		return Account{}, fmt.Errorf("add account %s: %w", full, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return Account{Name: full, UID: uid, GID: gid}, errors.Join(err1, err2)
}

// Remove removes the account.
func (a Account) Remove(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "userdel", a.Name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove account %s: %w: %s", a.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
