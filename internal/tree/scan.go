package tree

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Problem is a path that is there and could not be read. What lies below it is not known: nothing there may be
// taken for deleted.
type Problem struct {
	Path string
	Err  error
}

func (p Problem) Error() string { return fmt.Sprintf("read %q: %v", p.Path, p.Err) }
func (p Problem) Unwrap() error { return p.Err }

// Scan puts sub and everything below it into the tree, by several goroutines, and returns what could not be read.
// What filter excludes is left out and not descended into; a nil filter excludes names with [Prefix] only. Entries on
// other file systems mounted inside the tree are read like any other. A sub that is not there, or excluded, puts
// nothing: a name that vanishes while being looked at is no problem. Scan does not remove what the tree held before.
//
// The error is of ctx or of the root itself ([ErrRootChanged], also when it changed during the scan); the tree is
// incomplete then, and nothing may be concluded from what it lacks. Even without error a name that is moved while its
// directory is read can be missed, as readdir(3) has it: look again with [Root.Lstat] before acting on an absence.
func (r *Root) Scan(ctx context.Context, sub string, filter *Filter, into Tree) ([]Problem, error) {
	root, err := r.open()
	if err != nil {
		return nil, err
	}
	defer closeFD(root)
	e, err := r.lstatAt(root, sub)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, r.Check()
	case errors.Is(err, fs.ErrInvalid):
		return nil, r.pathError("scan", sub, err)
	case err != nil && sub == ".":
		return nil, r.pathError("scan", sub, err)
	case err != nil:
		return []Problem{{sub, err}}, r.Check()
	}
	if filter.Prunes(sub, e.Type == Dir) {
		return nil, nil
	}
	if e.Type != Dir {
		into[sub] = e
		return nil, r.Check()
	}

	s := &scan{root: r, fd: root, filter: filter, into: into, todo: []found{{sub, e}}, open: 1}
	s.wake.L = &s.mu
	stop := context.AfterFunc(ctx, s.abort)
	defer stop()
	var wg sync.WaitGroup
	for range workers() {
		wg.Go(func() { s.work(ctx) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("scan folder %q: %w", r.path, context.Cause(ctx))
	}
	slices.SortFunc(s.problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return s.problems, r.Check()
}

// workers: more than processors, since a cold disk answers several questions at once.
func workers() int { return min(max(2*runtime.GOMAXPROCS(0), 4), 16) }

// A scan is one walk: its goroutines take folders from a shared stack until all are read.
type scan struct {
	root   *Root
	fd     int
	filter *Filter

	mu       sync.Mutex
	wake     sync.Cond
	todo     []found // a stack: depth first keeps it short
	open     int     // folders in todo or being read
	aborted  bool
	into     Tree
	problems []Problem
}

// A found is a path and what it stood for.
type found struct {
	path  string
	entry Entry
}

// A listing is what reading one folder gave.
type listing struct {
	found    []found
	problems []Problem
	folders  []found
}

func (l *listing) reset() {
	l.found, l.problems, l.folders = l.found[:0], l.problems[:0], l.folders[:0]
}

func (s *scan) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = true
	s.wake.Broadcast()
}

func (s *scan) work(ctx context.Context) {
	buf := make([]byte, 64<<10)
	var l listing
	for {
		s.mu.Lock()
		for len(s.todo) == 0 && s.open > 0 && !s.aborted {
			s.wake.Wait()
		}
		if s.aborted || s.open == 0 {
			s.mu.Unlock()
			return
		}
		next := s.todo[len(s.todo)-1]
		s.todo = s.todo[:len(s.todo)-1]
		s.mu.Unlock()

		s.read(ctx, next, buf, &l)

		s.mu.Lock()
		for _, f := range l.found {
			s.into[f.path] = f.entry
		}
		s.problems = append(s.problems, l.problems...)
		s.todo = append(s.todo, l.folders...)
		s.open += len(l.folders) - 1
		if len(l.folders) > 1 || s.open == 0 {
			s.wake.Broadcast()
		}
		s.mu.Unlock()
	}
}

// read fills l with the folder itself and the names in it; its sub-folders are left for a later turn.
func (s *scan) read(ctx context.Context, f found, buf []byte, l *listing) {
	l.reset()
	fd, err := s.root.resolve(s.fd, f.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			s.again(f.path, l)
			return
		}
		l.found = append(l.found, f)
		l.problems = append(l.problems, Problem{f.path, err})
		return
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if err := fstat(fd, &st); err == nil {
		f.entry = entryOf(&st) // newer than what its parent saw, and of the directory that is read
	}
	l.found = append(l.found, f)
	err = s.list(ctx, fd, f.path, buf, l)
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		l.reset()
	case err != nil:
		l.problems = append(l.problems, Problem{f.path, err})
	}
}

// again is for a path that was a directory a moment ago and is none now.
func (s *scan) again(path string, l *listing) {
	e, err := s.root.lstatAt(s.fd, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		l.problems = append(l.problems, Problem{path, err})
	case e.Type == Dir: // moved away and back, or made anew
		l.folders = append(l.folders, found{path, e})
	case s.filter.Excluded(path, false):
	default:
		l.found = append(l.found, found{path, e})
	}
}

func (s *scan) list(ctx context.Context, fd int, dir string, buf []byte, l *listing) error {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	for {
		n, err := unix.Getdents(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n <= 0:
			return nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var name []byte
			name, rest = dirent(rest)
			if len(name) == 0 || string(name) == "." || string(name) == ".." {
				continue
			}
			s.look(fd, prefix+string(name), len(prefix), l)
		}
		if ctx.Err() != nil {
			return nil // Scan says so
		}
	}
}

// look adds the entry at path, whose name in fd begins at byte base.
func (s *scan) look(fd int, path string, base int, l *listing) {
	var st unix.Stat_t
	for {
		err := fstatat(fd, path[base:], &st)
		if err == unix.ENOENT {
			return
		}
		if err != nil {
			l.problems = append(l.problems, Problem{path, err})
			return
		}
		e := entryOf(&st)
		if s.filter.Excluded(path, e.Type == Dir) {
			return
		}
		switch e.Type {
		case Dir:
			l.folders = append(l.folders, found{path, e})
			return
		case Link:
			e.Link, err = readlinkat(fd, path[base:])
			if err == unix.ENOENT || err == unix.EINVAL { // replaced since
				continue
			}
			if err != nil {
				l.problems = append(l.problems, Problem{path, err})
				return
			}
		}
		l.found = append(l.found, found{path, e})
		return
	}
}

// dirent cuts the first record off what getdents64(2) gave: ino 8, off 8, reclen 2, type 1, name.
func dirent(b []byte) (name, rest []byte) {
	const header = 19
	size := int(binary.NativeEndian.Uint16(b[16:18]))
	name = b[header:size]
	for i, c := range name {
		if c == 0 {
			name = name[:i]
			break
		}
	}
	return name, b[size:]
}
