package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Directory is one of a [Root], open so that many of its files can be: the way there is gone and checked once. It
// stays the same directory wherever that is moved meanwhile, and keeps its file system from being unmounted; so it is
// not to be held for long. A Directory is safe for concurrent use until it is closed.
type Directory struct {
	path string // absolute
	fd   int
}

// OpenDir opens the directory at path. The error is as of [Root.OpenFile].
func (r *Root) OpenDir(path string) (*Directory, error) {
	root, err := r.open()
	if err != nil {
		return nil, err
	}
	d := &Directory{path: filepath.Join(r.path, path), fd: root}
	if path == "." {
		return d, nil
	}
	defer closeFD(root)
	if d.fd, err = r.resolve(root, path, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, r.pathError("open", path, err)
	}
	return d, nil
}

// OpenFile is [Root.OpenFile] for the file with that name in d.
func (d *Directory) OpenFile(name string) (*os.File, Entry, error) {
	path := d.path + "/" + name
	fd, e, err := d.open(name)
	if err != nil {
		return nil, Entry{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), e, nil
}

func (d *Directory) open(name string) (fd int, _ Entry, err error) {
	if !valid(name) || strings.Contains(name, "/") {
		return -1, Entry{}, fs.ErrInvalid
	}
	// The look before keeps us from opening a device or FIFO, which may have effects of its own; the one after, on
	// the descriptor, is what holds if the name was given to something else in between.
	var st unix.Stat_t
	if err := fstatat(d.fd, name, &st); err != nil {
		return -1, Entry{}, err
	}
	if err := regular(&st); err != nil {
		return -1, Entry{}, err
	}
	fd, err = openat(d.fd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ELOOP) {
		err = fs.ErrNotExist // a link has taken its place: there is no such file in the tree
	}
	if err != nil {
		return -1, Entry{}, err
	}
	defer func() {
		if err != nil {
			closeFD(fd)
		}
	}()
	if err := fstat(fd, &st); err != nil {
		return -1, Entry{}, err
	}
	if err := regular(&st); err != nil {
		return -1, Entry{}, err
	}
	// Blocking, or os.NewFile would want to poll it. O_NONBLOCK is the one flag of those above that can be changed.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0); err != nil {
		return -1, Entry{}, err
	}
	return fd, entryOf(&st), nil
}

// regular is ErrNotRegular for what is no regular file.
func regular(st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%w: %v", ErrNotRegular, entryOf(st).Type)
	}
	return nil
}

// Close ends the use of d.
func (d *Directory) Close() { closeFD(d.fd) }
