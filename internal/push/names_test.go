package push_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
	"releve/test/memnet"
	"releve/test/sshworld"
)

// dialStrict connects to the server in this process, which lacks some extensions and asks fault first.
func dialStrict(t *testing.T, without []string, fault func(op, path string) error) *sftpipe.Client {
	t.Helper()
	far, err := os.OpenRoot("/")
	must(t, err)
	ours, theirs := memnet.Pipe(memnet.Addr("agent"), memnet.Addr("server"))
	done := make(chan error, 1)
	go func() { done <- sshworld.ServeSFTP(theirs, far, without, fault) }()
	client, err := sftpipe.NewClient(t.Context(), ours)
	must(t, err)
	t.Cleanup(func() {
		client.Close()
		theirs.Close()
		<-done
		far.Close()
	})
	return client
}

// pushes wants a push to send that many files and to end identical, with nothing left lying about.
func (w *world) pushes(t *testing.T, what string, files int, bytes int64) {
	t.Helper()
	out := w.push(t)
	if len(out.Failed)+len(out.Again)+len(out.Apart) > 0 || out.Stale || out.Files != files || out.Bytes != bytes {
		t.Errorf("%s: got %+v, want %d files of %d bytes", what, out, files, bytes)
	}
	w.identical(t)
	if left := w.leftovers(t); len(left) > 0 {
		t.Errorf("%s: left behind: %q", what, left)
	}
}

// TestHardLinks (S2): what is one file with several names at the source is that on the replica, and is sent once.
func TestHardLinks(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	src := func(p string) string { return filepath.Join(w.src, p) }
	const size = 100_000
	content := strings.Repeat("a", size)
	for i := range 20 {
		must(t, os.MkdirAll(src(fmt.Sprint("new/d", i)), 0o755))
		if i == 0 {
			must(t, os.WriteFile(src("new/d0/f"), []byte(content), 0o600))
		} else {
			must(t, os.Link(src("new/d0/f"), src(fmt.Sprintf("new/d%d/f", i))))
		}
	}
	w.pushes(t, "first sync", 1, size)

	must(t, os.Link(src("new/d0/f"), src("later")))
	w.pushes(t, "another name", 0, 0)
	must(t, os.WriteFile(src("new/d7/f"), []byte(strings.ToUpper(content)), 0o600))
	w.pushes(t, "written through one name", 1, size)
	must(t, os.Chmod(src("later"), 0o640))
	w.pushes(t, "mode", 0, 0)
	must(t, os.WriteFile(src("temp"), []byte(content), 0o644))
	must(t, os.Rename(src("temp"), src("later")))
	w.pushes(t, "one name becomes a file of its own", 1, size)
	must(t, os.Rename(src("new/d1/f"), src("moved1")))
	must(t, os.Rename(src("new/d2/f"), src("moved2")))
	must(t, os.Remove(src("new/d3/f")))
	w.pushes(t, "names move and go", 0, 0)
	must(t, os.Rename(src("new/d4"), src("d4")))
	w.pushes(t, "a directory moves", 0, 0)
	must(t, os.Remove(src("later")))
	must(t, os.Link(src("moved1"), src("later")))
	w.pushes(t, "one name joins again", 0, 0)
	must(t, os.RemoveAll(src("new/d5")))
	must(t, os.Link(src("moved1"), src("new/d5")))
	w.pushes(t, "a name where a directory was", 0, 0)

	// The same content and time, and another file: nothing to send, as far as content goes, but a link to break.
	st, err := os.Stat(src("moved2"))
	must(t, err)
	must(t, os.WriteFile(src("temp"), []byte(strings.ToUpper(content)), 0o640))
	must(t, os.Chmod(src("temp"), 0o640))
	must(t, os.Chtimes(src("temp"), st.ModTime(), st.ModTime()))
	must(t, os.Rename(src("temp"), src("moved2")))
	w.pushes(t, "a link that breaks unseen", 1, size)

	// A listing cannot tell which names are linked.
	w.read(t)
	w.pushes(t, "nothing remembered", 0, 0)
	listed, err := w.replica.Read(t.Context(), w.filter)
	must(t, err)
	w.known.Recall(listed)
	known := plan.NewKnown(listed)
	now := tree.Tree{}
	_, err = w.root.Scan(t.Context(), ".", w.filter, now)
	must(t, err)
	if p := plan.Diff(now, known, plan.Scope{All: true}); len(p.Files) > 0 {
		t.Errorf("though remembered, to be linked: %+v", p.Files)
	}

	// Copies, as an agent that knew no links would have left them.
	for _, p := range []string{"later", "new/d7/f"} {
		p = filepath.Join(w.dst, p)
		content, err := os.ReadFile(p)
		must(t, err)
		info, err := os.Stat(p)
		must(t, err)
		must(t, os.Remove(p))
		must(t, os.WriteFile(p, content, info.Mode()))
		must(t, os.Chmod(p, info.Mode()))
		must(t, os.Chtimes(p, info.ModTime(), info.ModTime()))
	}
	w.read(t)
	w.pushes(t, "copies become links", 0, 0)
}

// TestTrashOfHardLinks (S5): what was kept of one name never changes again, whatever is done to the names that live on.
func TestTrashOfHardLinks(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	src := func(p string) string { return filepath.Join(w.src, p) }
	must(t, os.WriteFile(src("a"), []byte("old"), 0o644))
	must(t, os.Link(src("a"), src("b")))
	must(t, os.Link(src("a"), src("c")))
	w.push(t)
	minute := func() string {
		w.at = w.at.Add(time.Minute)
		return filepath.Join(w.dst, ".releve-trash", w.at.Format("20060102T1504Z")+"-test")
	}
	type kept struct{ path, content string }
	var all []kept
	keeps := func(dir, name, content string) {
		t.Helper()
		w.push(t)
		w.identical(t)
		all = append(all, kept{filepath.Join(dir, name), content})
		for _, k := range all {
			if got, err := os.ReadFile(k.path); string(got) != k.content {
				t.Errorf("%s: the trash holds %q (%v), want %q", k.path, got, err, k.content)
			}
		}
	}
	dir := minute()
	must(t, os.WriteFile(src("temp"), []byte("alone"), 0o644))
	must(t, os.Rename(src("temp"), src("a")))
	keeps(dir, "a", "old")
	dir = minute()
	must(t, os.WriteFile(src("b"), []byte("written in place"), 0o644))
	keeps(dir, "b", "old")
	keeps(dir, "c", "old")
	dir = minute()
	must(t, os.Chmod(src("c"), 0o600))
	must(t, os.Remove(src("b")))
	keeps(dir, "b", "written in place")
	dir = minute()
	must(t, os.Truncate(src("c"), 0))
	keeps(dir, "c", "written in place")
	dir = minute()
	must(t, os.Remove(src("c")))
	must(t, os.Link(src("a"), src("c")))
	keeps(dir, "c", "")
}

// TestHardLinksRefused: where the server cannot link, or its file system will not, each name is a file of its own.
func TestHardLinksRefused(t *testing.T) {
	for name, c := range map[string]struct {
		without []string
		apart   int
	}{
		"no extension":   {without: []string{"hardlink@openssh.com"}},
		"no file system": {apart: 1},
	} {
		t.Run(name, func(t *testing.T) {
			refuse := true
			client := dialStrict(t, c.without, func(op, _ string) error {
				if refuse && op == "hardlink" {
					return syscall.EMLINK
				}
				return nil
			})
			w := newWorld(t, client, t.TempDir(), 0)
			src := func(p string) string { return filepath.Join(w.src, p) }
			sync := func(what string, files int) {
				t.Helper()
				now := tree.Tree{}
				_, err := w.root.Scan(t.Context(), ".", w.filter, now)
				must(t, err)
				p := plan.Diff(now, w.known, plan.Scope{All: true, Apart: !w.replica.Links()})
				out, err := w.replica.Apply(t.Context(), w.root, p, w.known, w.at, nil)
				must(t, err)
				if len(out.Failed)+len(out.Again) > 0 || len(out.Apart) != c.apart || out.Files != files || p.Apart+c.apart == 0 {
					t.Errorf("%s: got %+v, and %d apart", what, out, p.Apart)
				}
				for _, name := range []string{"a", "d/b"} {
					want, err := os.ReadFile(src(name))
					must(t, err)
					if got, err := os.ReadFile(filepath.Join(w.dst, name)); string(got) != string(want) {
						t.Errorf("%s: %s holds %q (%v), want %q", what, name, got, err, want)
					}
				}
			}
			must(t, os.Mkdir(src("d"), 0o755))
			must(t, os.WriteFile(src("a"), []byte("one"), 0o644))
			must(t, os.Link(src("a"), src("d/b")))
			sync("first", 2)
			sync("again", 0)
			must(t, os.WriteFile(src("a"), []byte("three"), 0o644))
			sync("change", 2)
			must(t, os.Chmod(src("a"), 0o600))
			sync("mode", 0)
			if c.without == nil {
				refuse = false
				w.pushes(t, "no longer refused", 0, 0)
			}
		})
	}
}

// TestS3HardLinkOfPrivateFile: a file that becomes private and gets a name in a public place is never to be read by it.
func TestS3HardLinkOfPrivateFile(t *testing.T) {
	var looking atomic.Pointer[world]
	var loose atomic.Int32
	client := dialStrict(t, nil, func(op, p string) error {
		w := looking.Load()
		if w == nil || op == "hardlink" {
			return nil
		}
		for _, pattern := range []string{"public/*", "public/.releve-tmp-*"} {
			names, _ := filepath.Glob(filepath.Join(w.dst, pattern))
			for _, name := range names {
				if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o077 != 0 {
					loose.Add(1)
				}
			}
		}
		return nil
	})
	w := newWorld(t, client, t.TempDir(), 0)
	looking.Store(w)
	src := func(p string) string { return filepath.Join(w.src, p) }
	must(t, os.Mkdir(src("private"), 0o700))
	must(t, os.Mkdir(src("public"), 0o755))
	must(t, os.WriteFile(src("private/key"), []byte("secret"), 0o644))
	w.push(t)
	must(t, os.Chmod(src("private/key"), 0o600))
	must(t, os.Link(src("private/key"), src("public/key")))
	w.pushes(t, "linked", 0, 0)
	if n := loose.Load(); n > 0 {
		t.Errorf("readable by everybody at %d looks", n)
	}
}

// TestHardLinkOfAnotherTime (S1): a name that leads to another file by the time the file is read gets nothing of it.
func TestHardLinkOfAnotherTime(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), 0)
	src := func(p string) string { return filepath.Join(w.src, p) }
	must(t, os.WriteFile(src("a"), []byte("first"), 0o644))
	must(t, os.Link(src("a"), src("b")))
	now := tree.Tree{}
	_, err := w.root.Scan(t.Context(), ".", w.filter, now)
	must(t, err)
	must(t, os.WriteFile(src("temp"), []byte("b alone"), 0o644))
	must(t, os.Rename(src("temp"), src("b")))
	must(t, os.WriteFile(src("a"), []byte("a alone"), 0o644))
	out, err := w.replica.Apply(t.Context(), w.root, plan.Diff(now, w.known, plan.Scope{All: true}), w.known, w.at, nil)
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(w.dst, "b")); err == nil {
		t.Errorf("b holds %q, which it never did; %+v", got, out)
	}
	w.pushes(t, "then", 1, 7)
}
