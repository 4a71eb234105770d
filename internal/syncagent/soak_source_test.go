package syncagent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// source is a real folder to which random things happen, and the memory of everything that was ever in it: each state
// of each file, each mode, each link. Contents describe themselves: they are the beginning of an endless stream that
// its first bytes determine, so that a mixture of two versions is recognised as such.
type source struct {
	dir string
	rng *rand.Rand
	// recklessly allows what only the record can find: another content of the same size in the same second.
	recklessly bool

	mu   sync.Mutex
	seen map[string]*past // by path
	had  map[int]bool     // the sizes that files had
	next uint64
	log  []string
}

// past is what was ever seen at one path.
type past struct {
	contents map[string]bool
	links    map[string]bool
	mode     fs.FileMode // all permission bits it ever had
	dir      bool
}

func newSource(dir string, seed uint64) *source {
	s := &source{dir: dir, rng: rand.New(rand.NewPCG(seed, 1)), seen: map[string]*past{}, had: map[int]bool{}, recklessly: seed%3 != 0}
	s.remember()
	return s
}

// stream is the first size bytes of the content with this number.
func stream(number uint64, size int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, size+16), number)
	r := rand.New(rand.NewPCG(number, 7))
	for len(b) < size {
		b = binary.BigEndian.AppendUint64(b, r.Uint64())
	}
	return b[:size]
}

func (s *source) at(p string) *past {
	if s.seen[p] == nil {
		s.seen[p] = &past{contents: map[string]bool{}, links: map[string]bool{}}
	}
	return s.seen[p]
}

// remember notes what the folder holds at this instant. The caller holds s.mu, or is alone.
func (s *source) remember() {
	_ = filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		p, _ := filepath.Rel(s.dir, name)
		info, err := d.Info()
		if err != nil {
			return nil
		}
		was := s.at(p)
		switch {
		case info.IsDir():
			was.dir = true
			was.mode |= info.Mode().Perm()
		case info.Mode().IsRegular():
			was.mode |= info.Mode().Perm()
			content, _ := os.ReadFile(name)
			was.contents[string(content)] = true
		case info.Mode().Type() == fs.ModeSymlink:
			to, _ := os.Readlink(name)
			was.links[to] = true
		}
		return nil
	})
}

// inherit gives a new name, and everything below it, the past of the old one: who renames a folder and changes what is
// in it must expect to find the old content under the new name for a moment.
func (s *source) inherit(from, to string) {
	for p, was := range s.seen {
		rest, ok := strings.CutPrefix(p, from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		is := s.at(to + rest)
		for c := range was.contents {
			is.contents[c] = true
		}
		for l := range was.links {
			is.links[l] = true
		}
		is.mode |= was.mode
		is.dir = is.dir || was.dir
	}
}

// oddNames are few, so that operations meet; some are as odd as names can be.
var oddNames = []string{"a", "b", "c", "index.html", "sp ace", "new\nline", "\xff\xfe", "ümlaut", "-rf", "*", strings.Repeat("n", 255)}

var sizes = []int{0, 1, 9, 100, 100, 100, 5000, 5000, 70_000, 300_000}

// each calls f for every path there is, in their order.
func (s *source) each(f func(p string, info fs.FileInfo)) {
	_ = filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != s.dir {
			p, _ := filepath.Rel(s.dir, name)
			if info, err := d.Info(); err == nil {
				f(p, info)
			}
		}
		return nil
	})
}

// some returns an existing path for which ok holds, or "".
func (s *source) some(ok func(p string, info fs.FileInfo) bool) string {
	var found []string
	s.each(func(p string, info fs.FileInfo) {
		if ok(p, info) {
			found = append(found, p)
		}
	})
	if len(found) == 0 {
		return ""
	}
	return found[s.rng.IntN(len(found))]
}

func anyFile(_ string, i fs.FileInfo) bool  { return i.Mode().IsRegular() }
func anyDir(_ string, i fs.FileInfo) bool   { return i.IsDir() }
func anything(_ string, _ fs.FileInfo) bool { return true }
func smallFile(_ string, i fs.FileInfo) bool {
	return i.Mode().IsRegular() && i.Size() <= 4096 && i.Size() > 8
}

// newPath is a path in an existing directory, at most four deep.
func (s *source) newPath() string {
	dir := s.some(func(p string, i fs.FileInfo) bool { return i.IsDir() && strings.Count(p, "/") < 3 })
	if dir == "" || s.rng.IntN(4) == 0 {
		dir = "."
	}
	return filepath.Join(dir, oddNames[s.rng.IntN(len(oddNames))])
}

func (s *source) abs(p string) string { return filepath.Join(s.dir, p) }

// version is a new content.
func (s *source) version(size int) []byte {
	s.next++
	return stream(s.next, s.size(size))
}

// size is one that no file has had: without its record the agent goes by size and second.
func (s *source) size(size int) int {
	for !s.recklessly && s.had[size] {
		size++
	}
	s.had[size] = size > 0 // all empty files are the same
	return size
}

// step does one random thing to the folder, and remembers all that was to be seen meanwhile.
func (s *source) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ops := s.ops()
	op := ops[s.rng.IntN(len(ops))]
	before := s.names()
	what, err := op()
	s.tellOthers(before)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) && !anyErrno(err, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.ENAMETOOLONG) {
		what += ": " + err.Error()
	}
	s.log = append(s.log, fmt.Sprintf("%s %s", time.Now().Format("05.000"), what))
	s.remember()
}

// names are the paths of each file that has several.
func (s *source) names() map[uint64][]string {
	names := map[uint64][]string{}
	s.each(func(p string, i fs.FileInfo) {
		if st := i.Sys().(*syscall.Stat_t); i.Mode().IsRegular() && st.Nlink > 1 {
			names[st.Ino] = append(names[st.Ino], p)
		}
	})
	return names
}

// tellOthers has something happen to the other names of files that have lost one: inotify tells of what happens to a file
// under the name by which it happened, and nobody can know of whom a name was that is gone before it was looked at.
func (s *source) tellOthers(before map[uint64][]string) {
	if len(before) == 0 {
		return
	}
	s.each(func(p string, i fs.FileInfo) {
		st := i.Sys().(*syscall.Stat_t)
		if names := before[st.Ino]; i.Mode().IsRegular() && int(st.Nlink) < len(names) {
			_ = os.Chmod(s.abs(p), i.Mode())
		}
	})
}

func anyErrno(err error, of ...syscall.Errno) bool {
	return slices.ContainsFunc(of, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// whole reports whether content is a state that the file at p ever had, and says what it is if it is not.
func (s *source) whole(p string, content []byte) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.seen[p]
	if was == nil {
		return false, "nothing was ever there"
	}
	if was.contents[string(content)] {
		return true, ""
	}
	// The kernel writes page by page: while a write is under way, its first pages are to be seen.
	for c := range was.contents {
		if len(content)%4096 == 0 && bytes.HasPrefix([]byte(c), content) {
			return true, ""
		}
	}
	number := uint64(0)
	if len(content) >= 8 {
		number = binary.BigEndian.Uint64(content)
	}
	at := 0
	for want := stream(number, len(content)); at < len(content) && content[at] == want[at]; at++ {
	}
	return false, fmt.Sprintf("%d bytes that begin as version %d and go on as something else from byte %d on", len(content), number, at)
}
