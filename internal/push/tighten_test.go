package push_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
	"releve/test/memnet"
	"releve/test/sshworld"
)

// newFaultyWorld is a world with a server of our own, which asks fault before it does anything.
func newFaultyWorld(t *testing.T, keep time.Duration, fault func(op, path string) error) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{src: filepath.Join(dir, "src"), dst: filepath.Join(dir, "dst"), at: time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)}
	for _, d := range []string{w.src, w.dst} {
		must(t, os.Mkdir(d, 0o755))
	}
	far, err := os.OpenRoot(dir)
	must(t, err)
	ours, theirs := memnet.Pipe(memnet.Addr("agent"), memnet.Addr("server"))
	done := make(chan error, 1)
	go func() { done <- sshworld.ServeSFTP(theirs, far, nil, fault) }()
	client, err := sftpipe.NewClient(t.Context(), ours)
	must(t, err)
	w.root, err = tree.Open(w.src)
	must(t, err)
	t.Cleanup(func() {
		client.Close()
		theirs.Close()
		<-done
		w.root.Close()
		far.Close()
	})
	w.filter, err = tree.ParseFilter(nil)
	must(t, err)
	w.replica = push.New(push.Lanes{Small: client}, "/dst", "test", keep)
	must(t, w.replica.Check(t.Context()))
	w.read(t)
	return w
}

// TestS3PrivateThoughChmodIsRefused: a server that will not take rights away from what it has must not bring it, or
// anything beside it, within the reach of others. What was moved is made anew; what cannot be kept private is named.
func TestS3PrivateThoughChmodIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(at func(string) string)
		change func(at func(string) string)
		stuck  string // the path that stays behind for as long as chmod is refused; "" if all of it arrives
	}{
		{
			name:   "file",
			before: func(at func(string) string) { put(t, at("a"), 0o644, "was public") },
			change: func(at func(string) string) {
				must(t, os.Chmod(at("a"), 0o600))
				must(t, os.Rename(at("a"), at("b")))
			},
		},
		{
			name:   "file that is linked",
			before: func(at func(string) string) { put(t, at("log"), 0o644, "was public") },
			change: func(at func(string) string) {
				must(t, os.Chmod(at("log"), 0o600))
				must(t, os.Rename(at("log"), at("log.1")))
				put(t, at("log"), 0o644, "begun anew")
			},
		},
		{
			name:   "directory",
			before: func(at func(string) string) { put(t, at("d/page"), 0o644, "was public") },
			change: func(at func(string) string) {
				must(t, os.Chmod(at("d"), 0o700))
				must(t, os.Rename(at("d"), at("e")))
			},
		},
		{
			name:   "file in a directory",
			before: func(at func(string) string) { put(t, at("d/page"), 0o644, "was public") },
			change: func(at func(string) string) {
				must(t, os.Chmod(at("d/page"), 0o600))
				must(t, os.Rename(at("d"), at("e")))
			},
		},
		{
			name:   "directory in a directory",
			before: func(at func(string) string) { put(t, at("d/sub/page"), 0o644, "was public") },
			change: func(at func(string) string) {
				must(t, os.Chmod(at("d/sub"), 0o700))
				must(t, os.Rename(at("d"), at("e")))
			},
		},
		{
			name:   "file in a directory, changed as well",
			before: func(at func(string) string) { put(t, at("d/page"), 0o644, "was public") },
			change: func(at func(string) string) {
				put(t, at("d/page"), 0o600, "another")
				must(t, os.Rename(at("d"), at("e")))
			},
		},
		{
			name:   "directory that stays",
			before: func(at func(string) string) { put(t, at("d/page"), 0o644, "was public") },
			change: func(at func(string) string) {
				must(t, os.Chmod(at("d"), 0o700))
				put(t, at("d/secret"), 0o644, "private by its directory")
				put(t, at("d/sub/secret"), 0o644, "private by its directory")
				must(t, os.Symlink("secret", at("d/link")))
			},
			stuck: "d/secret",
		},
		{
			name: "moved into one that stays",
			before: func(at func(string) string) {
				put(t, at("d/page"), 0o644, "was public")
				put(t, at("private/secret"), 0o644, "private by its directory")
				must(t, os.Chmod(at("private"), 0o700))
			},
			change: func(at func(string) string) {
				must(t, os.Chmod(at("d"), 0o700))
				must(t, os.Rename(at("private/secret"), at("d/secret")))
			},
			stuck: "d/secret",
		},
	} {
		t.Run(c.name+", let", func(t *testing.T) {
			var w *world
			looking := false
			var wide []string
			w = newFaultyWorld(t, time.Hour, func(string, string) error {
				if looking {
					wide = append(wide, w.wider()...)
				}
				return nil
			})
			at := func(p string) string { return filepath.Join(w.src, p) }
			c.before(at)
			w.push(t)
			c.change(at)
			looking = true
			w.push(t)
			looking = false
			for _, s := range wide {
				t.Error(s)
			}
			w.push(t)
			w.identical(t)
		})
		t.Run(c.name, func(t *testing.T) {
			var w *world
			refuse := false
			var wide []string
			w = newFaultyWorld(t, time.Hour, func(op, path string) error {
				if !refuse {
					return nil
				}
				wide = append(wide, w.wider()...)
				if (op == "setstat" || op == "lsetstat") && !strings.Contains(path, ".releve-tmp") {
					return syscall.EPERM
				}
				return nil
			})
			at := func(p string) string { return filepath.Join(w.src, p) }
			c.before(at)
			w.push(t)
			w.identical(t)
			c.change(at)
			refuse = true
			for range 3 {
				out := w.push(t)
				for _, f := range out.Failed {
					t.Log(f.Path, f.Err)
				}
				if out.Stale {
					w.read(t)
				}
			}
			for _, s := range append(wide, w.wider()...) {
				t.Error(s)
			}
			if c.stuck != "" {
				out := w.push(t)
				named := false
				for _, f := range out.Failed {
					named = named || f.Path == c.stuck && strings.Contains(f.Err.Error(), "open to more than at the source")
				}
				if !named {
					t.Errorf("%s is not named: %v", c.stuck, out.Failed)
				}
			}
			refuse = false
			w.read(t)
			for range 2 {
				w.push(t)
			}
			w.identical(t)
		})
	}
}

func put(t fataler, name string, mode os.FileMode, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(content), mode))
	must(t, os.Chmod(name, mode))
}

// wider lists what others may read on the replica, all directories above it considered, but not at the source under the
// same name.
func (w *world) wider() []string {
	var bad []string
	reach := func(root, p string) bool {
		for q := p; ; q = filepath.Dir(q) {
			info, err := os.Lstat(filepath.Join(root, q))
			if err != nil || q != p && info.Mode().Perm()&0o001 == 0 || q == p && info.Mode().Perm()&0o004 == 0 {
				return false
			}
			if q == "." {
				return true
			}
		}
	}
	_ = filepath.WalkDir(w.dst, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		p, _ := filepath.Rel(w.dst, name)
		if _, err := os.Lstat(filepath.Join(w.src, p)); err == nil && reach(w.dst, p) && !reach(w.src, p) {
			content, _ := os.ReadFile(name)
			if string(content) != "was public" || p != "d/page" { // what lay there before is as it was
				bad = append(bad, p+" can be read by others, holding "+string(content))
			}
		}
		return nil
	})
	return bad
}
