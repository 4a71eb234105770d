package netlab

import (
	"bufio"
	"fmt"
	"os"
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
	return func() error {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return nil
	}, nil
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
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}
