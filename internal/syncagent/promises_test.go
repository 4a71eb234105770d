package syncagent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
)

// TestS1WholeWhileItIsWritten changes a file in place after the first part of it was read: what arrives is one state of it.
func TestS1WholeWhileItIsWritten(t *testing.T) {
	s := newSmall(t)
	const half = 2 << 20
	name := filepath.Join(s.src, "large")
	write(t, name, strings.Repeat("a", 2*half))
	then := time.Now().Add(-time.Minute)
	must(t, os.Chtimes(name, then, then))
	<-time.After(30 * time.Millisecond) // or the change of a moment ago would have it read twice anyway
	s.engine.forget()
	client, _ := serve(t, filepath.Dir(s.dst), -1, -1)
	r := push.New(push.Lanes{Small: client}, s.folder.Target, "whole", time.Hour)
	must(t, s.engine.begin(t.Context(), r))
	l, err := s.engine.look(t.Context(), everythingScope())
	must(t, err)
	change := sync.OnceFunc(func() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte(strings.Repeat("b", 2*half)), 0)
		must(t, err)
	})
	_, err = r.Apply(t.Context(), s.engine.root, diffOf(s.engine, l), s.engine.known, time.Now(), func(_ int, bytes int64) {
		if bytes > 0 && bytes < 2*half {
			change()
		}
	})
	must(t, err)
	content, err := os.ReadFile(filepath.Join(s.dst, "large"))
	if err == nil && strings.Count(string(content), "a") != 0 && strings.Count(string(content), "b") != 0 {
		t.Error("torn: two versions in one file")
	}
}

// TestS2DeletedWithoutTrash: somebody empties the trash by hand, and deletions still are carried out.
func TestS2DeletedWithoutTrash(t *testing.T) {
	a := newAgentWorld(t)
	for i := range 9 {
		write(t, filepath.Join(a.src, fmt.Sprint("d/f", i)), "x")
	}
	a.start(t)
	a.identical(t)
	for i := range 3 {
		must(t, os.Remove(filepath.Join(a.src, fmt.Sprint("d/f", i))))
		a.identical(t)
		must(t, os.RemoveAll(filepath.Join(a.dst, ".releve-trash")))
		now := time.Now()
		must(t, os.Chtimes(a.dst, now, statOf(t, a.src).ModTime()))
	}
}

func statOf(t *testing.T, name string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info
}

// TestS3PrivateAtEveryStep looks at the replica before each request that the server carries out: no file is ever within
// reach of others that was not at the source.
func TestS3PrivateAtEveryStep(t *testing.T) {
	a := newAgentWorld(t)
	at := func(p string) string { return filepath.Join(a.src, p) }
	write(t, at("was-open/page"), "public")
	write(t, at("moved-open/page"), "public")
	write(t, at("grown"), "public")
	a.start(t)
	a.identical(t)
	var mu sync.Mutex
	var seen []string
	a.ssh.Backup.SetFault(func(op, path string) error {
		filepath.WalkDir(a.dst, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			info, err := d.Info()
			if err == nil && info.IsDir() && info.Mode().Perm()&0o001 == 0 {
				return filepath.SkipDir // nobody gets in
			}
			if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
				if content, _ := os.ReadFile(name); strings.Contains(string(content), "secret") {
					mu.Lock()
					defer mu.Unlock()
					seen = append(seen, fmt.Sprintf("before %s %s: %s is open to others", op, path, name))
				}
			}
			return nil
		})
		return nil
	})
	steps := []func(){
		func() { // a folder becomes private, and a secret comes to lie in it
			must(t, os.Chmod(at("was-open"), 0o700))
			write(t, at("was-open/new"), "a secret")
		},
		func() { // a new one that was never anything else
			must(t, os.Mkdir(at("private"), 0o700))
			write(t, at("private/key"), "a secret")
		},
		func() { // renamed and shut in one go
			must(t, os.Chmod(at("moved-open"), 0o700))
			must(t, os.Rename(at("moved-open"), at("moved-shut")))
			write(t, at("moved-shut/key"), "a secret")
		},
		func() { // a file that becomes private before its content does
			must(t, os.Chmod(at("grown"), 0o600))
			write(t, at("grown"), "a secret")
		},
		func() { // and what is replaced goes where nobody looks
			write(t, at("grown"), "another secret")
			must(t, os.Remove(at("private/key")))
		},
	}
	for i, step := range steps {
		step()
		a.identical(t)
		mu.Lock()
		for _, s := range seen {
			t.Errorf("step %d: %s", i, s)
		}
		seen = nil
		mu.Unlock()
	}
}

// TestS3PrivateInOneBatch: a directory becomes private and a secret comes to lie in it in one batch.
func TestS3PrivateInOneBatch(t *testing.T) {
	s := newSmall(t)
	s.engine.forget()
	open := false
	client, _ := serve(t, filepath.Dir(s.dst), -1, -1, func() {
		_, err := os.Stat(filepath.Join(s.dst, "shut/secret"))
		info, statErr := os.Stat(filepath.Join(s.dst, "shut"))
		open = open || err == nil && statErr == nil && info.Mode().Perm()&0o077 != 0
	})
	must(t, s.push(t, client))
	s.same(t)
	if open {
		t.Error("the secret lay open for an instant")
	}
}

// TestS4ContainedWhileFlickering exchanges a directory for a link to outside and back while it is pushed: nothing that is
// outside is ever read, nothing outside is ever written.
func TestS4ContainedWhileFlickering(t *testing.T) {
	a := newAgentWorld(t)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, filepath.Join(outside, "page"), "OUTSIDE")
	far := filepath.Join(a.ssh.Root, "outside") // what the link leads to on the backup
	must(t, os.MkdirAll(far, 0o755))
	dir := filepath.Join(a.src, "dir")
	write(t, filepath.Join(dir, "page"), "inside")
	a.start(t)
	a.identical(t)
	for i := range 60 {
		to := outside
		if i%2 == 0 {
			to = "../outside" // within the server's chroot
		}
		aside := filepath.Join(a.src, "aside")
		must(t, os.Rename(dir, aside))
		must(t, os.Symlink(to, dir))
		write(t, filepath.Join(aside, "page"), fmt.Sprint("inside ", i))
		<-time.After(time.Duration(i%7) * time.Millisecond)
		must(t, os.Remove(dir))
		must(t, os.Rename(aside, dir))
		write(t, filepath.Join(dir, fmt.Sprint("new", i%5)), fmt.Sprint("inside ", i))
		<-time.After(time.Duration(i%5) * time.Millisecond)
	}
	a.identical(t)
	for _, place := range []string{a.dst, far} {
		must(t, filepath.WalkDir(place, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if place == far && name != far {
				t.Errorf("written outside the target: %s", name)
			}
			if d.Type().IsRegular() {
				if content, _ := os.ReadFile(name); strings.Contains(string(content), "OUTSIDE") {
					t.Errorf("read outside the source: %s", name)
				}
			}
			return nil
		}))
	}
}

// TestS5DeletionsAreSuspectAfterErrors: a directory that cannot be read stops deletions, and nothing else; when it can be
// read again, they are carried out without another event.
func TestS5DeletionsAreSuspectAfterErrors(t *testing.T) {
	s := newSmall(t)
	s.engine.forget()
	client, _ := serve(t, filepath.Dir(s.dst), -1, -1)
	must(t, s.push(t, client))
	s.same(t)
	must(t, os.Remove(filepath.Join(s.src, "same")))
	write(t, filepath.Join(s.src, "new/sub/another"), "deep down")
	e := s.engine
	l, err := e.look(t.Context(), everythingScope())
	must(t, err)
	l.problems = []tree.Problem{{Path: "shut", Err: syscall.EIO}} // as a broken disk has it
	p := e.believe(diffOf(e, l), l)
	pushed := slices.ContainsFunc(p.Files, func(put plan.Put) bool { return put.Path == "new/sub/another" })
	if len(p.Deletes) != 0 || !pushed {
		t.Errorf("after a read error: %d deletions, want none; the new file goes out: %v, want true", len(p.Deletes), pushed)
	}
	if e.todo.pending() < 2 {
		t.Errorf("%d paths will be looked at again, want what could not be read and what was not deleted", e.todo.pending())
	}
}

// TestS6DegradedNeverDead: whatever the server refuses, the agent goes on with the rest, says what is wrong, and makes good
// for it when the server lets it.
func TestS6DegradedNeverDead(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "d/f"), "one")
	a.pace = pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 100 * time.Millisecond}
	a.start(t)
	a.identical(t)
	for i, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EACCES, syscall.EROFS, syscall.ENAMETOOLONG} {
		refused := fmt.Sprint("refused", i)
		a.ssh.Backup.SetFault(func(op, path string) error {
			if strings.HasSuffix(path, refused) || op == "symlink" {
				return errno
			}
			return nil
		})
		write(t, filepath.Join(a.src, refused), "x")
		must(t, os.Symlink("x", filepath.Join(a.src, "link-"+refused)))
		write(t, filepath.Join(a.src, "e", fmt.Sprint("passes", i)), "y")
		eventually(t, "the rest is pushed, and the problem named", func() bool {
			_, err := os.Stat(filepath.Join(a.dst, "e", fmt.Sprint("passes", i)))
			s := a.engine.snapshot()
			return err == nil && strings.Contains(strings.Join(s.problems, "\n"), "link-"+refused) && s.state != stateInSync
		})
		a.ssh.Backup.SetFault(nil)
		a.identical(t)
		if s := a.engine.snapshot(); len(s.problems) > 0 {
			t.Errorf("%v is over, and still told of: %q", errno, s.problems)
		}
	}
}
