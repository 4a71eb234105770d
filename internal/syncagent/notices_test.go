package syncagent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/report"
	"releve/internal/tree"
	"releve/test/sshworld"
)

// TestLiveDatabases: a database is recognised by what lies beside it and by how it begins, and said once.
func TestLiveDatabases(t *testing.T) {
	file := tree.Entry{Type: tree.File}
	headers := map[string]string{"wp.db": databaseHeader, "d/new\n": databaseHeader, "text": "a text, whose name", "old.db": databaseHeader, "dir": ""}
	known := map[string]bool{"d/new\n": true} // not in view
	src := tree.Tree{
		"wp.db": file, "wp.db-wal": file, "wp.db-shm": file, "d/new\n-journal": file, "text": file, "text-wal": file,
		"old.db": file, "alone-wal": file, "dir": {Type: tree.Dir}, "dir-wal": file, "wp.db2-wal": {Type: tree.Dir},
	}
	var n notices
	see := func(src tree.Tree, whole bool) []string {
		return n.live(src, whole, func(p string) bool { return src[p] == file && src[p].Type == tree.File && headers[p] != "" || known[p] },
			func(p string) string { return headers[p] })
	}
	if got, want := see(src, false), []string{"d/new\n", "wp.db"}; !slices.Equal(got, want) {
		t.Fatalf("found %q, want %q", got, want)
	}
	if got := see(src, false); len(got) > 0 {
		t.Errorf("said again: %q", got)
	}
	text := strings.Join(n.sentences("webroot", "home"), "\n")
	for _, want := range []string{`d/new\n (new\n-journal lies beside it)`, "wp.db (wp.db-", "VACUUM INTO", "docs/sync.md"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	// SQLite removes what lies beside a database when nobody uses it any more.
	if see(tree.Tree{"wp.db": file}, true); len(n.databases) != 1 || n.databases["wp.db"] == "" {
		t.Errorf("left: %v", n.databases)
	}
	if see(tree.Tree{}, true); len(n.sentences("webroot", "home")) > 0 {
		t.Errorf("left: %v", n.databases)
	}
}

// TestNoticesAreShown: in the status and the log, once; and they are no fault.
func TestNoticesAreShown(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "data/wp.db"), databaseHeader+"and so on")
	write(t, filepath.Join(a.src, "data/wp.db-wal"), "x")
	config := a.writeConfig(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan *program)
	go func() { ended <- runProgram(ctx, "run", "--config", config) }()
	noticed := func(path string) func() bool {
		return func() bool {
			var r statusReport
			p := runProgram(t.Context(), "status", "--json", "--config", config)
			return p.code == 0 && json.Unmarshal(p.out.Bytes(), &r) == nil && r.State == report.OK && len(r.Problems) == 0 &&
				slices.ContainsFunc(r.Notices, func(n string) bool { return strings.Contains(n, path) }) && r.Folders[0].State == stateInSync
		}
	}
	eventually(t, "the database is noticed", noticed("data/wp.db"))
	write(t, filepath.Join(a.src, "another"), databaseHeader)
	write(t, filepath.Join(a.src, "another-journal"), "x")
	eventually(t, "another database is noticed", noticed("another"))
	write(t, filepath.Join(a.src, "data/wp.db-wal"), "xy")
	eventually(t, "identical", func() bool { return len(a.differences(t)) == 0 })
	if p := runProgram(t.Context(), "status", "--config", config); !strings.Contains(p.out.String(), "\ni The folder webroot holds a live SQLite database, data/wp.db") {
		t.Errorf("status says:\n%s", p.out.String())
	}

	// A disk that is nearly full is a fault while it lasts.
	problem := func() string {
		var r statusReport
		if p := runProgram(t.Context(), "status", "--json", "--config", config); p.code != 0 || json.Unmarshal(p.out.Bytes(), &r) != nil {
			return ""
		}
		return string(r.State) + ": " + strings.Join(r.Problems, "; ")
	}
	a.ssh.Backup.SetFault(func(op, _ string) error {
		if op == "statvfs" {
			return &sshworld.Disk{Size: 100, Free: 4}
		}
		return nil
	})
	write(t, filepath.Join(a.src, "another"), databaseHeader+"x")
	eventually(t, "the disk is said to be nearly full", func() bool {
		return strings.HasPrefix(problem(), "degraded: What is replaced or deleted in the folder webroot is not kept on home: less than 5 % of its disk is free")
	})
	a.ssh.Backup.SetFault(nil)
	write(t, filepath.Join(a.src, "another"), databaseHeader+"xy")
	eventually(t, "no more", func() bool { return problem() == "ok: " })

	cancel()
	p := <-ended
	if n := strings.Count(p.out.String()+p.err.String(), "a live SQLite database"); n != 2 {
		t.Errorf("logged %d times, want once for each database:\n%s", n, p.err.String())
	}
}

// TestHardLinksFollowed: names come, change and go one at a time, and each is told of that one alone.
func TestHardLinksFollowed(t *testing.T) {
	a := newAgentWorld(t)
	a.pace = pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 500 * time.Millisecond, retry: time.Second, retryMax: time.Second}
	at := func(p string) string { return filepath.Join(a.src, p) }
	write(t, at("a"), "one")
	write(t, at("d/other"), "other")
	must(t, os.Link(at("a"), at("b")))
	a.start(t)
	a.identical(t)
	must(t, os.Link(at("a"), at("d/c")))
	a.identical(t)
	write(t, at("d/c"), "in place")
	a.identical(t)
	must(t, os.Chmod(at("b"), 0o600))
	a.identical(t)
	write(t, at("temp"), "alone")
	must(t, os.Rename(at("temp"), at("a")))
	a.identical(t)
	must(t, os.Rename(at("d"), at("e")))
	a.identical(t)

	// Refused, they are files of their own for now, which is no fault, and it is tried again by itself, after pauses that
	// grow until there is time to look.
	var refuse atomic.Bool
	refuse.Store(true)
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "hardlink" && !strings.Contains(path, ".releve-trash") && refuse.Load() {
			return syscall.EXDEV
		}
		return nil
	})
	must(t, os.Link(at("e/c"), at("refused")))
	eventually(t, "the name is there, as a file of its own", func() bool {
		s := a.engine.snapshot()
		d := a.differences(t)
		return len(d) > 0 && !slices.ContainsFunc(d, func(d string) bool { return !strings.Contains(d, "linked as") }) && s.state == stateInSync && len(s.problems) == 0 &&
			len(s.notices) == 1 && strings.HasPrefix(s.notices[0], "1 hard link of the folder webroot became")
	})
	refuse.Store(false)
	a.identical(t)
	eventually(t, "no notice", func() bool { return len(a.engine.snapshot().notices) == 0 })

	// What fails for one name is tried again for all.
	var failures atomic.Int64
	failures.Store(2)
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "fsetstat" && failures.Add(-1) >= 0 {
			return syscall.EIO
		}
		return nil
	})
	write(t, at(".new/x"), "new, with two names")
	must(t, os.Link(at(".new/x"), at(".new/y")))
	must(t, os.Rename(at(".new"), at("new")))
	eventually(t, "it failed", func() bool { return failures.Load() < 0 })
	a.identical(t)
	a.ssh.Backup.SetFault(nil)

	// A large file travels beside the rounds, once.
	before := a.engine.snapshot().totals.Bytes
	const large = 9 << 20
	aside := filepath.Join(filepath.Dir(a.src), "large")
	write(t, aside, strings.Repeat("x", large))
	must(t, os.Link(aside, at("new/large")))
	must(t, os.Rename(aside, at("large")))
	a.identical(t)
	must(t, os.Link(at("large"), at("e/large")))
	a.identical(t)
	if sent := a.engine.snapshot().totals.Bytes - before; sent != large {
		t.Errorf("%d bytes sent, want %d", sent, large)
	}
	a.stop()
	var linked atomic.Int64
	a.ssh.Backup.SetFault(func(op, _ string) error {
		if op == "hardlink" {
			linked.Add(1)
		}
		return nil
	})
	a.start(t)
	a.identical(t)
	if n := linked.Load(); n > 0 {
		t.Errorf("%d links were made, though it was remembered that they are there", n)
	}
}

// TestHardLinksAfterAnotherNameIsGone: what happened to a file is told of one of its names, and that name leads elsewhere
// before anybody looks. The other names show it.
func TestHardLinksAfterAnotherNameIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		part  func(at func(string) string)
		scope plan.Scope
	}{
		"replaced": {func(at func(string) string) {
			write(t, at("temp"), "another")
			must(t, os.Rename(at("temp"), at("d/a")))
		}, plan.Scope{Paths: []string{"d/a"}}},
		"removed": {func(at func(string) string) { must(t, os.Remove(at("d/a"))) }, plan.Scope{Paths: []string{"d/a"}}},
		"removed, and another one": {func(at func(string) string) {
			must(t, os.Remove(at("d/a")))
			must(t, os.Remove(at("b")))
		}, plan.Scope{Paths: []string{"b", "d/a"}}},
		"removed with its folder": {func(at func(string) string) { must(t, os.RemoveAll(at("d"))) }, plan.Scope{Subtrees: []string{"d"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newEmpty(t)
			at := func(p string) string { return filepath.Join(s.src, p) }
			write(t, at("d/a"), "one")
			must(t, os.Link(at("d/a"), at("b")))
			must(t, os.Link(at("d/a"), at("c")))
			s.begin(t)
			client, _ := serve(t, filepath.Dir(s.dst), -1, -1)
			r := push.New(push.Lanes{Small: client}, s.folder.Target, "names", s.folder.Keep)
			must(t, s.engine.begin(t.Context(), r))
			must(t, s.engine.round(t.Context(), r))
			s.same(t)
			must(t, os.Chmod(at("d/a"), 0o600))
			c.part(at)
			s.engine.todo.scope = c.scope
			must(t, s.engine.round(t.Context(), r))
			s.same(t)
		})
	}
}
