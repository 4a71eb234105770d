package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// content makes the content of a file that describes itself: whoever reads it can tell whether it is whole, and how
// widely it may be readable at most. It is never empty.
func content(r *rand.Rand, mode fs.FileMode, size int) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = "abcdefghijklmnopqrstuvwxyz 012345"[r.IntN(33)]
	}
	return fmt.Appendf(nil, "releve %04o %d %x\n%s", mode.Perm(), len(body), sha256.Sum256(body), body)
}

var errTorn = errors.New("content that never was at the source")

// describes reads content again: the widest mode of such a file, or errTorn.
func describes(text []byte) (fs.FileMode, error) {
	head, body, ok := bytes.Cut(text, []byte("\n"))
	var mode fs.FileMode
	var size int
	var sum []byte
	if !ok {
		return 0, fmt.Errorf("%w: %d bytes, no first line", errTorn, len(text))
	}
	if _, err := fmt.Sscanf(string(head), "releve %o %d %x", &mode, &size, &sum); err != nil {
		return 0, fmt.Errorf("%w: first line %q", errTorn, head)
	}
	if got := sha256.Sum256(body); len(body) != size || !bytes.Equal(got[:], sum) {
		return 0, fmt.Errorf("%w: %d bytes of %d", errTorn, len(body), size)
	}
	return mode, nil
}

// modeOfHead is the widest mode of a file of which only the beginning is there: that of its first line. It has its mode, and
// will never be whole, where the disk was full. Of an empty one nobody learns anything.
func modeOfHead(text []byte) fs.FileMode {
	if len(text) == 0 {
		return 0o777
	}
	var mode fs.FileMode
	if _, err := fmt.Sscanf(string(text), "releve %o", &mode); err != nil {
		return 0
	}
	return mode
}

// sourceTree makes trees of self-describing files and changes them at random. Its errors are those of the source's file
// system.
type sourceTree struct {
	root  string
	r     *rand.Rand
	files []string // relative; some may be gone
	dirs  []string // relative, without the root
	made  int
}

func newTree(root string, seed uint64) *sourceTree {
	return &sourceTree{root: root, r: rand.New(rand.NewPCG(seed, seed))}
}

// oddNames are legal, all of them.
var oddNames = []string{
	"with space", " lead", "trail ", "new\nline", "tab\t", "quote'\"`", "back\\slash", "-rf", "--", "*", "?[a-z]", "%s%d", "$HOME", "#x#",
	"é", "日本語", "\xff\xfe", "a:b", "semi;colon", "..x", "x..", "...", "CON", "~", "file~", ".hidden", strings.Repeat("n", 255), "emoji😀",
}

// grow makes dirs directories and files files in them: of all modes, some with odd names, and a symbolic link for every
// hundredth.
func (s *sourceTree) grow(dirs, files int) error {
	modes := []fs.FileMode{0o755, 0o755, 0o755, 0o700, 0o750, 0o775, 0o2755, 0o1777}
	if os.Geteuid() == 0 { // who may write there, as the backup's user may not
		modes = append(modes, 0o555)
	}
	for i := range dirs {
		parent := ""
		if len(s.dirs) > 0 && s.r.IntN(8) > 0 {
			parent = s.dirs[s.r.IntN(min(len(s.dirs), 1+dirs/4))]
		}
		name := fmt.Sprintf("d%d", i)
		if i < len(oddNames) {
			name = oddNames[i]
		}
		dir := filepath.Join(parent, name)
		if err := s.mkdir(dir, modes[s.r.IntN(len(modes))]); err != nil {
			return err
		}
	}
	for i := range files {
		name := s.fresh()
		if i < len(oddNames) {
			name = filepath.Join(filepath.Dir(name), oddNames[i])
		}
		err := s.create(name, s.size())
		if errors.Is(err, fs.ErrExist) { // a directory has this odd name
			err = s.create(s.fresh(), s.size())
		}
		if err != nil {
			return err
		}
		if i%100 == 0 {
			if err := os.Symlink(s.target(), filepath.Join(s.root, s.fresh()+".link")); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdir, create and target work on relative paths.
func (s *sourceTree) mkdir(dir string, mode fs.FileMode) error {
	path := filepath.Join(s.root, dir)
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	s.dirs = append(s.dirs, dir)
	special := fs.FileMode(0)
	if mode&0o2000 != 0 {
		special |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		special |= fs.ModeSticky
	}
	return os.Chmod(path, mode.Perm()|special)
}

func (s *sourceTree) create(name string, size int) error {
	mode := s.mode()
	path := filepath.Join(s.root, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.files = append(s.files, name)
	return errors.Join(s.fill(f, mode, size), f.Chmod(mode), f.Close())
}

// fill writes in several pieces, as programs do, so that a reader could see a part of it.
func (s *sourceTree) fill(f *os.File, mode fs.FileMode, size int) error {
	text := content(s.r, mode, size)
	for len(text) > 0 {
		n := min(len(text), 1+s.r.IntN(8192))
		if _, err := f.Write(text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

func (s *sourceTree) mode() fs.FileMode {
	modes := []fs.FileMode{0o644, 0o644, 0o644, 0o600, 0o640, 0o755, 0o400, 0o666}
	if os.Geteuid() == 0 {
		modes = append(modes, 0)
	}
	return modes[s.r.IntN(len(modes))]
}

// size is log-normal by and large: most are small, a few are not.
func (s *sourceTree) size() int { return 1 << s.r.IntN(12) * (1 + s.r.IntN(3)) }

// fresh is a name that is not taken, in any directory.
func (s *sourceTree) fresh() string {
	s.made++
	return filepath.Join(s.dir(), fmt.Sprintf("f%d", s.made))
}

func (s *sourceTree) dir() string {
	if len(s.dirs) == 0 || s.r.IntN(100) == 0 {
		return ""
	}
	return s.dirs[s.r.IntN(len(s.dirs))]
}

// target is where a link may lead: to a file, nowhere, out of the tree.
func (s *sourceTree) target() string {
	return []string{"f1", "../nowhere", "/etc/hostname", ".", "a b\nc"}[s.r.IntN(5)]
}

// change does one random operation. Where it hits upon something that has gone, another is tried.
func (s *sourceTree) change() error {
	for range 1000 {
		err := s.operation()
		if !notNow(err) {
			return err
		}
	}
	return errors.New("no operation was possible")
}

var errNotNow = errors.New("does not apply")

// notNow reports whether an operation met what earlier ones did: its file has gone or is a directory now, its directory
// would move into itself, its name grew too long, it is read-only and we are not root.
func notNow(err error) bool {
	for _, e := range []error{errNotNow, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *sourceTree) operation() error {
	if len(s.files) == 0 || len(s.dirs) == 0 {
		return s.create(s.fresh(), s.size())
	}
	name := s.files[s.r.IntN(len(s.files))]
	path := filepath.Join(s.root, name)
	fi, err := os.Lstat(path)
	if err == nil && !fi.Mode().IsRegular() {
		err = errNotNow
	}
	if err != nil {
		return err
	}
	switch n := s.r.IntN(100); {
	case n < 20:
		return s.create(s.fresh(), s.size())
	case n < 35: // written over, from the start
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return errors.Join(s.fill(f, fi.Mode(), s.size()), f.Close())
	case n < 50: // replaced, as careful programs do
		temp := path + ".new"
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		mode := s.mode()
		return errors.Join(s.fill(f, mode, s.size()), f.Chmod(mode), f.Close(), os.Rename(temp, path))
	case n < 58: // narrower, so that the first line stays true
		return os.Chmod(path, fi.Mode().Perm()&fs.FileMode(s.r.IntN(0o1000)|0o400))
	case n < 63:
		t := fi.ModTime().Add(-1000 * time.Second)
		return os.Chtimes(path, t, t)
	case n < 73:
		return os.Remove(path)
	case n < 82:
		to := s.fresh()
		if err := os.Rename(path, filepath.Join(s.root, to)); err != nil {
			return err
		}
		s.files = append(s.files, to)
		return nil
	case n < 86:
		return os.Symlink(s.target(), filepath.Join(s.root, s.fresh()+".link"))
	case n < 90: // a tree at once
		top := s.fresh()
		for _, d := range []string{top, top + "/a", top + "/a/b"} {
			if err := s.mkdir(d, 0o755); err != nil {
				return err
			}
			if err := s.create(d+"/x", s.size()); err != nil {
				return err
			}
		}
		return nil
	case n < 93: // a directory elsewhere
		from, to := s.dirs[s.r.IntN(len(s.dirs))], s.fresh()
		if strings.HasPrefix(to, from+"/") {
			return errNotNow
		}
		if err := os.Rename(filepath.Join(s.root, from), filepath.Join(s.root, to)); err != nil {
			return err
		}
		s.dirs = append(s.dirs, to)
		return nil
	case n < 95: // a file becomes a directory
		if err := os.Remove(path); err != nil {
			return err
		}
		if err := s.mkdir(name, 0o755); err != nil {
			return err
		}
		return s.create(name+"/y", s.size())
	case n < 97: // a file becomes a link
		return errors.Join(os.Remove(path), os.Symlink("f1", path))
	case n < 98: // a link becomes a file
		link := s.fresh()
		full := filepath.Join(s.root, link)
		if err := os.Symlink(s.target(), full); err != nil {
			return err
		}
		if err := os.Remove(full); err != nil {
			return err
		}
		return s.create(link, s.size())
	default: // a small directory goes
		dir := filepath.Join(s.root, s.dirs[s.r.IntN(len(s.dirs))])
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				return errNotNow
			}
		}
		return os.RemoveAll(dir)
	}
}
