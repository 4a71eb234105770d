package netlab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk mounts a small disk of its own on the folder dir: a tmpfs(5) with these options, "size=48m". Mount it before the
// servers start that are to see it. It lasts until unmount, or until Sweep finds that this process has ended.
func Disk(dir, options string) (unmount func() error, err error) {
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, fmt.Errorf("mount a disk on %s: %w", dir, err)
	}
	return func() error { return unmountFrom(dir) }, nil
}

// DiskImage mounts a disk of its own on the folder dir: ext4(5) as mkfs.ext4(8) makes it, with a journal, in a file of
// size bytes that takes up what is written to it. What has been deleted is given back by fstrim(8). It lasts as Disk does.
func DiskImage(ctx context.Context, dir string, size int64) (unmount func() error, err error) {
	image := dir + ".img"
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(image) // the mount holds it
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	// Nothing is left to be done lazily, by whoever comes first or behind his back.
	const eager = "lazy_itable_init=0,lazy_journal_init=0"
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", "-E", eager, image}, {"mount", "-o", "loop,nosuid,nodev", image, dir}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a disk on %s: %s: %w: %s", dir, args[0], err, bytes.TrimSpace(out))
		}
	}
	return func() error { return unmountFrom(dir) }, nil
}

func unmountFrom(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// unmountBelow unmounts every disk below the folder dir, the deepest first.
func unmountBelow(dir string) error {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer mounts.Close()
	var below []string
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		// ID PARENT MAJOR:MINOR ROOT MOUNTPOINT …, see proc(5); ours have no blank in their names.
		if f := strings.Fields(lines.Text()); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			below = append(below, f[4])
		}
	}
	for _, point := range slices.Backward(below) {
		if err := unmountFrom(point); err != nil {
			return err
		}
	}
	return nil
}
