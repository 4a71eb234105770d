package syncagent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"releve/internal/tree"
)

type sourceOp func() (what string, err error)

func (s *source) ops() []sourceOp {
	return []sourceOp{s.write, s.write, s.write, s.replace, s.replace, s.append, s.truncate, s.mkdir, s.mkdir, s.deploy, s.rename, s.rename,
		s.rename, s.swap, s.removeAll, s.remove, s.chmod, s.chtimes, s.symlink, s.symlink, s.retype, s.rewrite, s.rewrite, s.fifo, s.log1, s.hardlink,
		s.restore, s.flicker, s.sparse, s.hardlink}
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
		s.had[done] = true
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
	s.next++
	more := stream(s.next, s.size(len(old)+50)-len(old))
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
	n := s.size(s.rng.IntN(len(content) + 1))
	if n > len(content) {
		return "truncate nothing", nil
	}
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
	if a == "" || a == b || tree.Within(a, b) || tree.Within(b, a) {
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

// sparse makes a file that is mostly a hole.
func (s *source) sparse() (string, error) {
	p := s.newPath()
	data, size := s.version(100), s.size(300_000)
	content := make([]byte, size)
	was := s.at(p)
	was.mode |= 0o644
	was.contents[""], was.contents[string(content)] = true, true
	copy(content[150_000:], data)
	was.contents[string(content)], was.contents[string(content[:150_000+len(data)])] = true, true
	f, err := os.OpenFile(s.abs(p), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return "sparse", err
	}
	defer f.Close()
	fill := func() error { _, err := f.WriteAt(data, 150_000); return err }
	if !s.recklessly { // or there would be two contents of that size
		s.had[150_000+len(data)] = true
		err = fill()
	}
	if err == nil {
		err = f.Truncate(int64(size))
	}
	if err == nil && s.recklessly {
		err = fill()
	}
	return fmt.Sprintf("sparse %q %d", p, size), err
}
