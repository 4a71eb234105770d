package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var (
	// ErrRootChanged means that the folder is no longer the one that was opened: gone, unmounted, mounted over, or
	// its path leads to another directory now. Nothing may be concluded about what it held. It never matches
	// [fs.ErrNotExist], which is said of entries only.
	ErrRootChanged = errors.New("not the folder that was opened")

	// ErrNotRegular means that a path is there and is no regular file.
	ErrNotRegular = errors.New("not a regular file")
)

// A Root is a source folder. It remembers which directory it was opened on and keeps no descriptor between calls, so
// that the file system can be unmounted and a changed root shows in the next call, whichever it is. A Root is safe for
// concurrent use.
type Root struct {
	path   string
	dev    uint64
	ino    uint64
	born   int64
	walk   bool // openat2(2) is refused here: resolve component by component
	closed atomic.Bool
}

// Open opens the directory at path, following symbolic links in path itself (current -> releases/7): which directory
// they lead to now is what the Root stands for.
func Open(path string) (*Root, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	r := &Root{path: abs}
	fd, err := openPath(abs)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", &fs.PathError{Op: "open", Path: abs, Err: err})
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open folder: %w", &fs.PathError{Op: "fstat", Path: abs, Err: err})
	}
	r.dev, r.ino = uint64(st.Dev), st.Ino //nolint:unconvert // narrower on some architectures
	r.born = bornAt(fd)
	r.walk = !haveOpenat2(fd)
	return r, nil
}

// Close ends the use of r: every later call fails with [fs.ErrClosed].
func (r *Root) Close() error {
	r.closed.Store(true)
	return nil
}

// Path is the absolute path r was opened by, symbolic links included.
func (r *Root) Path() string { return r.path }

// ID is the device and inode number of the directory r stands for.
func (r *Root) ID() (dev, ino uint64) { return r.dev, r.ino }

// Born is when that directory was made, in nanoseconds since the epoch; 0 where the file system does not tell. Inode
// number and birth together name a directory for longer than its device number, which may be another one after a reboot,
// and better than its inode number alone, which is the same for the root of every file system of a kind.
func (r *Root) Born() int64 { return r.born }

func bornAt(fd int) int64 {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}

// Check reports whether the folder's path still leads to the directory that was opened: nil or [ErrRootChanged].
// The other methods find out by themselves; Check is for a caller about to draw conclusions from what it read before.
func (r *Root) Check() error {
	fd, err := r.open()
	if err != nil {
		return err
	}
	closeFD(fd)
	return nil
}

// Lstat looks at path without following a link anywhere in it. The error matches [fs.ErrNotExist] when there is no such
// entry in the tree, which includes paths that lead through something that is no directory.
func (r *Root) Lstat(path string) (Entry, error) {
	root, err := r.open()
	if err != nil {
		return Entry{}, err
	}
	defer closeFD(root)
	e, err := r.lstatAt(root, path)
	if err != nil {
		return Entry{}, r.pathError("lstat", path, err)
	}
	return e, nil
}

// OpenFile opens the regular file at path for reading and looks at it. It does not block and has no effect on what it
// finds: a path that is something else fails with [ErrNotRegular] (a FIFO's writer is not woken, no device is opened),
// one that is not there, as for [Root.Lstat], with [fs.ErrNotExist].
func (r *Root) OpenFile(path string) (*os.File, Entry, error) {
	if !valid(path) {
		return nil, Entry{}, r.pathError("open", path, fs.ErrInvalid)
	}
	dir, name := Split(path)
	d, err := r.OpenDir(dir)
	if err != nil {
		return nil, Entry{}, err
	}
	defer d.Close()
	return d.OpenFile(name)
}

// Stat looks at an open file of [Root.OpenFile] again, to be compared with the first look by [Unchanged].
func Stat(f *os.File) (Entry, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return Entry{}, err
	}
	var st unix.Stat_t
	var statErr error
	if err := conn.Control(func(fd uintptr) { statErr = fstat(int(fd), &st) }); err != nil {
		return Entry{}, err
	}
	if statErr != nil {
		return Entry{}, &fs.PathError{Op: "fstat", Path: f.Name(), Err: statErr}
	}
	return entryOf(&st), nil
}

// open opens the folder by its path and makes sure that it is still the same.
func (r *Root) open() (int, error) {
	if r.closed.Load() {
		return -1, &fs.PathError{Op: "open", Path: r.path, Err: fs.ErrClosed}
	}
	fd, err := openPath(r.path)
	if err != nil {
		// %v: ENOENT of the folder must not pass for ENOENT of an entry, which would get the entry deleted.
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return -1, fmt.Errorf("open folder %q: %w: %v", r.path, ErrRootChanged, err)
		}
		return -1, fmt.Errorf("open folder: %w", &fs.PathError{Op: "open", Path: r.path, Err: err})
	}
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("open folder: %w", &fs.PathError{Op: "fstat", Path: r.path, Err: err})
	}
	if uint64(st.Dev) != r.dev || st.Ino != r.ino { //nolint:unconvert // narrower on some architectures
		closeFD(fd)
		return -1, fmt.Errorf("open folder %q: %w", r.path, ErrRootChanged)
	}
	return fd, nil
}

// lstatAt needs no permission on the entry itself, and sees mode, size and target of one and the same inode.
func (r *Root) lstatAt(root int, path string) (Entry, error) {
	fd, err := r.resolve(root, path, unix.O_PATH)
	if err != nil {
		return Entry{}, err
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return Entry{}, err
	}
	e := entryOf(&st)
	if e.Type == Link {
		if e.Link, err = readlinkat(fd, ""); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

func (r *Root) pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: filepath.Join(r.path, path), Err: err}
}

// valid is fs.ValidPath for names that need not be UTF-8.
func valid(path string) bool {
	if path == "." {
		return true
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return strings.IndexByte(path, 0) < 0
}
