package syncagent

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reader reads the replica all the time, as a web server's visitors do, and keeps what they must never see.
type reader struct {
	src  *source
	dir  string
	bad  chan string
	read int
}

// watchReplica reads until stop is called, which says how many files were read and reports what was wrong.
func watchReplica(t testing.TB, src *source, dir string) (stop func() int) {
	r := &reader{src: src, dir: dir, bad: make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			r.pass()
			<-time.After(time.Since(began)) // or many readers would leave no time to what they look at
		}
	}()
	return func() int {
		cancel()
		<-done
		close(r.bad)
		for b := range r.bad {
			t.Error(b)
		}
		return r.read
	}
}

func (r *reader) complain(format string, args ...any) {
	select {
	case r.bad <- time.Now().Format("05.000 ") + fmt.Sprintf(format, args...):
	default:
	}
}

// pass reads the whole replica once. Each path is resolved by itself, and through directories alone: what is read was
// at that path, whatever is exchanged meanwhile.
func (r *reader) pass() {
	root, err := unix.Open(r.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(root)
	r.folder(root, ".")
}

func (r *reader) open(root int, p string, flags int) (*os.File, unix.Stat_t, bool) {
	var st unix.Stat_t
	fd, err := unix.Openat2(root, p, &unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, st, false
	}
	f := os.NewFile(uintptr(fd), p)
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, st, false
	}
	return f, st, true
}

func (r *reader) folder(root int, dir string) {
	f, _, ok := r.open(root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if !ok {
		return
	}
	names, _ := f.Readdirnames(-1)
	f.Close()
	for _, name := range names {
		p := filepath.Join(dir, name)
		f, st, ok := r.open(root, p, unix.O_PATH)
		if !ok {
			continue
		}
		mode := fs.FileMode(st.Mode & 0o777)
		kind := st.Mode & unix.S_IFMT
		var to string
		if kind == unix.S_IFLNK {
			buf := make([]byte, 4096)
			n, _ := unix.Readlinkat(int(f.Fd()), "", buf)
			to = string(buf[:max(n, 0)])
		}
		f.Close()
		switch {
		case strings.HasPrefix(name, ".releve"):
			if kind != unix.S_IFLNK && mode&^0o700 != 0 && !r.ours(mode) {
				r.complain("%q is open to others: %v", p, mode)
			}
		case kind == unix.S_IFDIR:
			r.mode(p, mode)
			r.folder(root, p)
		case kind == unix.S_IFREG:
			r.file(root, p)
		case kind == unix.S_IFLNK:
			r.link(p, to)
		default:
			r.complain("%q has the type %o", p, kind)
		}
	}
}

// ours: a temporary file or directory has its final mode just before it is renamed. It must not be wider than what the
// source's was anywhere; which path it is for cannot be told, so any mode that the source ever had will do.
func (r *reader) ours(mode fs.FileMode) bool {
	r.src.mu.Lock()
	defer r.src.mu.Unlock()
	for _, was := range r.src.seen {
		if mode&^was.mode == 0 {
			return true
		}
	}
	return false
}

func (r *reader) mode(p string, mode fs.FileMode) {
	r.src.mu.Lock()
	defer r.src.mu.Unlock()
	was := r.src.seen[p]
	if was == nil {
		r.complain("%q was never at the source", p)
		return
	}
	if wide := mode &^ (was.mode | 0o700); wide != 0 {
		r.complain("%q has mode %v on the replica, and had no more than %v at the source", p, mode, was.mode)
	}
}

func (r *reader) file(root int, p string) {
	f, st, ok := r.open(root, p, unix.O_RDONLY|unix.O_NONBLOCK)
	if !ok {
		return
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	r.mode(p, fs.FileMode(st.Mode&0o777))
	content, err := io.ReadAll(f)
	if err != nil {
		return
	}
	r.read++
	if ok, what := r.src.whole(p, content); !ok {
		r.complain("torn: %q holds what was never there at the source: %s", p, what)
	}
}

func (r *reader) link(p, to string) {
	r.src.mu.Lock()
	defer r.src.mu.Unlock()
	if was := r.src.seen[p]; was == nil || !was.links[to] {
		r.complain("%q leads to %q, which it never did at the source", p, to)
	}
}
