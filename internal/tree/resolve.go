package tree

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath: the path must not leave the root, and must not lead through a symbolic link of any kind.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// haveOpenat2 asks the kernel (5.6 or later has it) and the seccomp filter of a container (which may say EPERM).
func haveOpenat2(root int) bool {
	fd, err := openat2(root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	closeFD(fd)
	return true
}

// resolve opens path beneath root with flags. The last component is not followed either: with O_PATH a link itself is
// opened, otherwise it is refused. A path that leads through something other than directories is fs.ErrNotExist: there
// is no such entry in the tree.
func (r *Root) resolve(root int, path string, flags int) (int, error) {
	if !valid(path) {
		return -1, fs.ErrInvalid
	}
	var fd int
	var err error
	if r.walk {
		fd, err = openWalk(root, path, flags)
	} else {
		fd, err = openat2(root, path, flags)
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		err = fs.ErrNotExist
	}
	return fd, err
}

func openat2(dir int, path string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: beneath}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if err == unix.EINTR {
			continue
		}
		return fd, err
	}
}

// openWalk is openat2 for kernels without it: each component is opened by itself, and none may be a link.
func openWalk(dir int, path string, flags int) (int, error) {
	parent := dir
	for {
		name, rest, more := strings.Cut(path, "/")
		if !more {
			break
		}
		fd, err := openat(parent, name, unix.O_PATH|unix.O_DIRECTORY)
		if parent != dir {
			closeFD(parent)
		}
		if err != nil {
			return -1, err
		}
		parent, path = fd, rest
	}
	fd, err := openat(parent, path, flags)
	if parent != dir {
		closeFD(parent)
	}
	return fd, err
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err == unix.EINTR {
			continue
		}
		return fd, err
	}
}

// openPath opens the directory at an absolute path, following links.
func openPath(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		return fd, err
	}
}

func fstat(fd int, st *unix.Stat_t) error {
	for {
		if err := unix.Fstat(fd, st); err != unix.EINTR {
			return err
		}
	}
}

func fstatat(dir int, name string, st *unix.Stat_t) error {
	for {
		if err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); err != unix.EINTR {
			return err
		}
	}
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(dir, name, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n < len(buf):
			return string(buf[:n]), nil
		default:
			buf = make([]byte, 2*len(buf))
		}
	}
}

// closeFD closes a descriptor that was opened for reading alone: close(2) has nothing to say about those.
func closeFD(fd int) { _ = unix.Close(fd) }
