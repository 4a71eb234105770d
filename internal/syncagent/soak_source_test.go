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
	s := &source{dir: dir, rng: rand.New(rand.NewPCG(seed, 1)), seen: map[string]*past{}, recklessly: seed%3 != 0}
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

// some returns an existing path for which ok holds, or "".
func (s *source) some(ok func(p string, info fs.FileInfo) bool) string {
	var found []string
	_ = filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != s.dir {
			p, _ := filepath.Rel(s.dir, name)
			if info, err := d.Info(); err == nil && ok(p, info) {
				found = append(found, p)
			}
		}
		return nil
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
	if !s.recklessly {
		size += int(s.next) // no two of the same size: without its record the agent goes by size and second
	}
	return stream(s.next, size)
}

// step does one random thing to the folder, and remembers all that was to be seen meanwhile.
func (s *source) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ops := s.ops()
	op := ops[s.rng.IntN(len(ops))]
	what, err := op()
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) && !anyErrno(err, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.ENAMETOOLONG) {
		what += ": " + err.Error()
	}
	s.log = append(s.log, fmt.Sprintf("%s %s", time.Now().Format("05.000"), what))
	s.remember()
}

func anyErrno(err error, of ...syscall.Errno) bool {
	return slices.ContainsFunc(of, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

type sourceOp func() (what string, err error)

func (s *source) ops() []sourceOp {
	return []sourceOp{s.write, s.write, s.write, s.replace, s.replace, s.append, s.truncate, s.mkdir, s.mkdir, s.deploy, s.rename, s.rename,
		s.rename, s.swap, s.removeAll, s.remove, s.chmod, s.chtimes, s.symlink, s.symlink, s.retype, s.rewrite, s.rewrite, s.fifo, s.log1, s.hardlink,
		s.restore, s.flicker}
}

// write writes a file in place, in several writes.
func (s *source) write() (string, error) {
	p := s.newPath()
	content := s.version(sizes[s.rng.IntN(len(sizes))])
	f, err := os.OpenFile(s.abs(p), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, []fs.FileMode{0o644, 0o600, 0o755, 0o400}[s.rng.IntN(4)])
	if err != nil {
		return fmt.Sprintf("write %q", p), err
	}
	defer f.Close()
	was := s.at(p)
	was.contents[""] = true
	for done := 0; done < len(content); {
		n := min(len(content)-done, max(1, len(content)/(1+s.rng.IntN(3))))
		done += n
		was.contents[string(content[:done])] = true
		if _, err := f.Write(content[done-n : done]); err != nil {
			return "write", err
		}
	}
	return fmt.Sprintf("write %q %d", p, len(content)), nil
}

// replace exchanges a file atomically, as editors do.
func (s *source) replace() (string, error) {
	p := s.some(anyFile)
	if p == "" || s.rng.IntN(3) == 0 {
		p = s.newPath()
	}
	temp := filepath.Join(filepath.Dir(p), ".editor~")
	content := s.version(sizes[s.rng.IntN(len(sizes))])
	for _, at := range []string{p, temp} {
		was := s.at(at)
		was.contents[string(content)], was.contents[""] = true, true
		was.mode |= 0o644
	}
	if err := os.WriteFile(s.abs(temp), content, 0o644); err != nil {
		return "replace", err
	}
	if err := os.Rename(s.abs(temp), s.abs(p)); err != nil {
		return "replace", errors.Join(err, os.Remove(s.abs(temp)))
	}
	return fmt.Sprintf("replace %q %d", p, len(content)), nil
}

func (s *source) append() (string, error) {
	p := s.some(anyFile)
	if p == "" {
		return "append nothing", nil
	}
	old, err := os.ReadFile(s.abs(p))
	if err != nil || len(old) > 1<<20 {
		return "append", err
	}
	more := s.version(50)
	s.at(p).contents[string(old)+string(more)] = true
	f, err := os.OpenFile(s.abs(p), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return "append", err
	}
	defer f.Close()
	_, err = f.Write(more)
	return fmt.Sprintf("append %q", p), err
}

func (s *source) truncate() (string, error) {
	p := s.some(anyFile)
	if p == "" {
		return "truncate nothing", nil
	}
	content, err := os.ReadFile(s.abs(p))
	if err != nil {
		return "truncate", err
	}
	n := s.rng.IntN(len(content) + 1)
	s.at(p).contents[string(content[:n])] = true
	return fmt.Sprintf("truncate %q %d", p, n), os.Truncate(s.abs(p), int64(n))
}

func (s *source) mkdir() (string, error) {
	p := s.newPath()
	mode := []fs.FileMode{0o755, 0o755, 0o700, 0o555}[s.rng.IntN(4)]
	err := os.Mkdir(s.abs(p), 0o700)
	if err == nil {
		err = os.Chmod(s.abs(p), mode)
	}
	return fmt.Sprintf("mkdir %q %v", p, mode), err
}

// deploy makes a directory with files in it.
func (s *source) deploy() (string, error) {
	p := s.newPath()
	if err := os.Mkdir(s.abs(p), 0o755); err != nil {
		return "deploy", err
	}
	for i := range 2 + s.rng.IntN(6) {
		q := filepath.Join(p, fmt.Sprint("f", i))
		if i%3 == 2 {
			q = filepath.Join(p, "sub", fmt.Sprint("f", i))
			if err := os.MkdirAll(s.abs(filepath.Dir(q)), 0o755); err != nil {
				return "deploy", err
			}
		}
		content := s.version(sizes[s.rng.IntN(len(sizes)-2)])
		was := s.at(q)
		was.contents[string(content)], was.contents[""] = true, true
		was.mode |= 0o644
		if err := os.WriteFile(s.abs(q), content, 0o644); err != nil {
			return "deploy", err
		}
	}
	return fmt.Sprintf("deploy %q", p), nil
}

func (s *source) rename() (string, error) {
	from, to := s.some(anything), s.newPath()
	if from == "" || from == to {
		return "rename nothing", nil
	}
	what := fmt.Sprintf("rename %q %q", from, to)
	s.inherit(from, to)
	return what, os.Rename(s.abs(from), s.abs(to))
}

func (s *source) swap() (string, error) {
	a, b := s.some(anything), s.some(anything)
	if a == "" || a == b || below(a, b) || below(b, a) {
		return "swap nothing", nil
	}
	temp := s.abs("swapping~")
	s.inherit(a, "swapping~")
	s.inherit(b, a)
	s.inherit("swapping~", b)
	return fmt.Sprintf("swap %q %q", a, b), errors.Join(os.Rename(s.abs(a), temp), os.Rename(s.abs(b), s.abs(a)), os.Rename(temp, s.abs(b)))
}

func (s *source) removeAll() (string, error) {
	p := s.some(anyDir)
	if p == "" {
		return "rm -rf nothing", nil
	}
	return fmt.Sprintf("rm -rf %q", p), os.RemoveAll(s.abs(p))
}

func (s *source) remove() (string, error) {
	p := s.some(anyFile)
	if p == "" {
		return "rm nothing", nil
	}
	return fmt.Sprintf("rm %q", p), os.Remove(s.abs(p))
}

func (s *source) chmod() (string, error) {
	p := s.some(func(_ string, i fs.FileInfo) bool { return i.IsDir() || i.Mode().IsRegular() })
	if p == "" || s.rng.IntN(6) == 0 {
		p = "."
	}
	mode := []fs.FileMode{0o755, 0o700, 0o555, 0o644, 0o600, 0o444, 0o500}[s.rng.IntN(7)]
	s.at(p).mode |= mode
	return fmt.Sprintf("chmod %q %v", p, mode), os.Chmod(s.abs(p), mode)
}

func (s *source) chtimes() (string, error) {
	p := s.some(func(_ string, i fs.FileInfo) bool { return i.IsDir() || i.Mode().IsRegular() })
	if p == "" {
		return "touch nothing", nil
	}
	when := time.Unix(1_000_000_000+int64(s.rng.IntN(3)), int64(s.rng.IntN(1e9)))
	return fmt.Sprintf("touch %q %v", p, when.Unix()), os.Chtimes(s.abs(p), when, when)
}

func (s *source) symlink() (string, error) {
	p := s.newPath()
	to := []string{"a", "../b", ".", "/etc", "/etc/passwd", "../../../../etc", "nowhere"}[s.rng.IntN(7)]
	s.at(p).links[to] = true
	return fmt.Sprintf("ln -s %q %q", to, p), os.Symlink(to, s.abs(p))
}

// retype makes something else of a path: the directory of a site becomes a link to /etc, and back.
func (s *source) retype() (string, error) {
	p := s.some(anything)
	if p == "" {
		return "retype nothing", nil
	}
	if err := os.RemoveAll(s.abs(p)); err != nil {
		return "retype", err
	}
	switch s.rng.IntN(3) {
	case 0:
		s.at(p).links["/etc"] = true
		return fmt.Sprintf("retype %q link", p), os.Symlink("/etc", s.abs(p))
	case 1:
		err := os.Mkdir(s.abs(p), 0o755)
		content := s.version(100)
		was := s.at(filepath.Join(p, "passwd"))
		was.contents[string(content)], was.contents[""] = true, true
		was.mode |= 0o644
		return fmt.Sprintf("retype %q dir", p), errors.Join(err, os.WriteFile(s.abs(filepath.Join(p, "passwd")), content, 0o644))
	default:
		content := s.version(100)
		was := s.at(p)
		was.contents[string(content)], was.contents[""] = true, true
		was.mode |= 0o644
		return fmt.Sprintf("retype %q file", p), os.WriteFile(s.abs(p), content, 0o644)
	}
}

// rewrite writes another content of the same size, and gives the file the time it had, to the second or exactly.
func (s *source) rewrite() (string, error) {
	p := s.some(smallFile)
	if p == "" || !s.recklessly {
		return "rewrite nothing", nil
	}
	info, err := os.Lstat(s.abs(p))
	if err != nil {
		return "rewrite", err
	}
	content := s.version(int(info.Size()))
	s.at(p).contents[string(content)] = true
	f, err := os.OpenFile(s.abs(p), os.O_WRONLY, 0)
	if err != nil {
		return "rewrite", err
	}
	_, err = f.Write(content)
	f.Close()
	when := info.ModTime()
	if s.rng.IntN(2) == 0 {
		when = time.Unix(when.Unix(), int64(s.rng.IntN(1e9)))
	}
	return fmt.Sprintf("rewrite %q %d", p, len(content)), errors.Join(err, os.Chtimes(s.abs(p), when, when))
}

func (s *source) fifo() (string, error) {
	p := s.newPath()
	return fmt.Sprintf("mkfifo %q", p), syscall.Mkfifo(s.abs(p), 0o644)
}

// log1 rotates a file: it gets another name, and a new one is begun.
func (s *source) log1() (string, error) {
	p := s.some(anyFile)
	if p == "" || len(filepath.Base(p)) > 200 {
		return "rotate nothing", nil
	}
	s.inherit(p, p+".1")
	if err := os.Rename(s.abs(p), s.abs(p+".1")); err != nil {
		return "rotate", err
	}
	content := s.version(30)
	was := s.at(p)
	was.contents[string(content)], was.contents[""] = true, true
	was.mode |= 0o644
	return fmt.Sprintf("rotate %q", p), os.WriteFile(s.abs(p), content, 0o644)
}

func (s *source) hardlink() (string, error) {
	from, to := s.some(anyFile), s.newPath()
	if from == "" {
		return "ln nothing", nil
	}
	s.inherit(from, to)
	return fmt.Sprintf("ln %q %q", from, to), os.Link(s.abs(from), s.abs(to))
}

// restore replaces a file by another of the same size and second, and then brings the first one back.
func (s *source) restore() (string, error) {
	p := s.some(smallFile)
	if p == "" || !s.recklessly || len(filepath.Base(p)) > 200 {
		return "restore nothing", nil
	}
	info, err := os.Lstat(s.abs(p))
	if err != nil {
		return "restore", err
	}
	content := s.version(int(info.Size()))
	for _, at := range []string{p, p + "~"} {
		s.inherit(p, at)
		s.at(at).contents[string(content)] = true
		s.at(at).contents[""] = true
		s.at(at).mode |= 0o644
	}
	when := info.ModTime()
	err = errors.Join(os.Rename(s.abs(p), s.abs(p+"~")), os.WriteFile(s.abs(p), content, 0o644), os.Chtimes(s.abs(p), when, when),
		os.Chmod(s.abs(p), info.Mode()))
	if s.rng.IntN(2) == 0 {
		s.remember()
		s.mu.Unlock()
		<-time.After(time.Duration(s.rng.IntN(60)) * time.Millisecond)
		s.mu.Lock()
	}
	return fmt.Sprintf("restore %q", p), errors.Join(err, os.Rename(s.abs(p+"~"), s.abs(p)))
}

// flicker exchanges a directory for a link to outside and back, several times.
func (s *source) flicker() (string, error) {
	p := s.some(anyDir)
	if p == "" {
		return "flicker nothing", nil
	}
	s.at(p).links["/etc"] = true
	s.inherit(p, "aside~")
	var errs []error
	for range 1 + s.rng.IntN(5) {
		errs = append(errs, os.Rename(s.abs(p), s.abs("aside~")), os.Symlink("/etc", s.abs(p)), os.Remove(s.abs(p)), os.Rename(s.abs("aside~"), s.abs(p)))
	}
	return fmt.Sprintf("flicker %q", p), errors.Join(errs...)
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
