package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A fileID names an inode.
type fileID struct{ dev, ino uint64 }

func idOf(path string) (id fileID, mode uint32, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileID{}, 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Mode, nil
}

func isDir(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }

// A root is the folder as it was when the watches were set up.
type root struct {
	path string // as configured
	real string // with its symbolic links resolved
	id   fileID
	err  error // why there is none
}

func findRoot(path string) root {
	r := root{path: path}
	if r.real, r.err = filepath.EvalSymlinks(path); r.err != nil {
		return r
	}
	var mode uint32
	if r.id, mode, r.err = idOf(r.real); r.err == nil && !isDir(mode) {
		r.err = &os.PathError{Op: "watch", Path: path, Err: unix.ENOTDIR}
	}
	return r
}

// changed says in what the folder is not the one it was; "" when it is.
func (r root) changed(now root) string {
	switch {
	case r.err == nil && now.err != nil:
		return fmt.Sprintf("the folder is gone: %v", now.err)
	case r.err != nil && now.err == nil:
		return "the folder is there"
	case r.err != nil:
		return ""
	case r.real != now.real:
		return fmt.Sprintf("the folder is now %s", now.real)
	case r.id != now.id:
		return "another folder took its place, or another file system was mounted there"
	}
	return ""
}

var errRootChanged = errors.New("the folder is not the one that was watched")

// open opens the folder if it still is the same. It is not kept open for long: that would keep its file system
// from being unmounted.
func (r root) open() (*os.Root, error) {
	if now := findRoot(r.path); now.err != nil {
		return nil, now.err
	} else if r.changed(now) != "" {
		return nil, errRootChanged
	}
	return os.OpenRoot(r.real)
}

// relative turns the name of an event into a path relative to the root; ok is false for a name outside of it.
func (r root) relative(name string) (path string, ok bool) {
	if name == r.real {
		return ".", true
	}
	path, ok = strings.CutPrefix(name, strings.TrimSuffix(r.real, "/")+"/")
	return strings.TrimLeft(path, "/"), ok && path != ""
}

func (r root) absolute(path string) string {
	if path == "." {
		return r.real
	}
	return strings.TrimSuffix(r.real, "/") + "/" + path
}
