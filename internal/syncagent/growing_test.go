package syncagent

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/push"
)

// TestGrowingLog appends to logs ten times a second. They reach the replica at a bounded rate, as one of the states they
// were in, and keep nothing else waiting.
func TestGrowingLog(t *testing.T) {
	const lasts = 7 * time.Second
	for _, c := range []struct {
		name     string
		size     int  // of what is in it at first
		open     bool // its writer keeps it open
		rotate   bool
		min, max int // arrivals
	}{
		{name: "kept open", open: true, min: 3, max: 5},
		{name: "kept open, and rotated", open: true, rotate: true, min: 3, max: 9},
		{name: "large, opened for each line", size: 3 << 20, min: 1, max: 3},
		{name: "small, opened for each line", min: 15, max: 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAgentWorld(t)
			name := filepath.Join(a.src, "log")
			all := bytes.Repeat([]byte("0123456789abcde\n"), c.size/16)
			must(t, os.WriteFile(name, all, 0o644))
			a.start(t)
			a.identical(t)
			log := &grower{t: t, name: name, open: c.open, all: all}
			defer log.close()
			line, other, look := time.NewTicker(100*time.Millisecond), time.NewTicker(700*time.Millisecond), time.NewTicker(3*time.Millisecond)
			defer line.Stop()
			defer other.Stop()
			defer look.Stop()
			end := time.After(lasts)
			var seen fs.FileInfo
			var changed time.Time
			arrivals, lines, slowest, waits := 0, 0, time.Duration(0), ""
			for n := 0; end != nil; n++ {
				select {
				case <-end:
					end = nil
				case <-line.C:
					if lines++; c.rotate && lines%20 == 0 {
						log.rotate()
					}
					log.add(fmt.Appendf(nil, "line %d at %v\n", n, time.Now()))
				case <-other.C:
					if waits == "" {
						waits, changed = filepath.Join(a.dst, fmt.Sprint("other", n)), time.Now()
						write(t, filepath.Join(a.src, filepath.Base(waits)), "x")
					}
				case <-look.C:
					if _, err := os.Stat(waits); waits != "" && err == nil {
						waits, slowest = "", max(slowest, time.Since(changed))
					}
					now, err := os.Stat(filepath.Join(a.dst, "log"))
					if err != nil || seen != nil && os.SameFile(seen, now) {
						continue
					}
					seen = now
					arrivals++
					if got, _ := os.ReadFile(filepath.Join(a.dst, "log")); !log.was(got) {
						t.Errorf("torn: what arrived is not what the log began with")
					}
				}
			}
			t.Logf("%d arrivals in %v, slowest other change after %v", arrivals, lasts, slowest)
			if arrivals--; arrivals < c.min || arrivals > c.max { // the first was there before
				t.Errorf("%d arrivals in %v, want %d to %d", arrivals, lasts, c.min, c.max)
			}
			if slowest > 2*time.Second || waits != "" && time.Since(changed) > 2*time.Second {
				t.Errorf("another change waited %v for the log", max(slowest, time.Since(changed)))
			}
			log.close()
			a.identical(t)
		})
	}
}

// grower writes a log.
type grower struct {
	t    *testing.T
	name string
	open bool
	file *os.File
	all  []byte
	old  [][]byte // what was rotated away
}

func (g *grower) add(line []byte) {
	if g.file == nil {
		var err error
		g.file, err = os.OpenFile(g.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		must(g.t, err)
	}
	_, err := g.file.Write(line)
	must(g.t, err)
	g.all = append(g.all, line...)
	if !g.open {
		g.close()
	}
}

func (g *grower) close() {
	if g.file != nil {
		must(g.t, g.file.Close())
		g.file = nil
	}
}

func (g *grower) rotate() {
	g.close()
	must(g.t, os.Rename(g.name, g.name+".1"))
	g.old, g.all = append(g.old, g.all), nil
}

// was reports whether the log ever held just that: all of it is appended, so any beginning that ends with a line.
func (g *grower) was(content []byte) bool {
	for _, all := range append(g.old, g.all) {
		if bytes.HasPrefix(all, content) && (len(content) == 0 || content[len(content)-1] == '\n') {
			return true
		}
	}
	return false
}

// TestThrottle: what one file may cost is bounded by what it weighs; what has become another file is not held back.
func TestThrottle(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		size     int64
		min, max int // how often it is sent in a minute, if it changes ten times a second
	}{{100, 600, 600}, {40 << 10, 600, 600}, {512 << 10, 60, 70}, {3 << 20, 10, 12}, {1 << 30, 6, 8}} {
		var todo todo
		sent := 0
		for range 600 {
			now = now.Add(100 * time.Millisecond)
			todo.scope.Paths = append(todo.scope.Paths, "log")
			todo.holdBack(now, func(string) bool { return true })
			if scope, _, _ := todo.take(now); len(scope.Paths) > 0 {
				sent++
				todo.throttle.sent("log", c.size, now)
			} else if !todo.next(now.Add(time.Hour)).After(now) || todo.due(now) || todo.pending() == 0 {
				t.Fatalf("held back, and due at %v, now %v", todo.next(now.Add(time.Hour)), now)
			}
		}
		if sent < c.min || sent > c.max {
			t.Errorf("%d bytes: sent %d times a minute, want %d to %d", c.size, sent, c.min, c.max)
		}
	}
	var todo todo
	todo.throttle.sent("log", 1<<30, now)
	todo.scope.Paths = []string{"log"}
	todo.holdBack(now, func(string) bool { return false })
	if scope, _, _ := todo.take(now); len(scope.Paths) != 1 {
		t.Error("a deletion was held back")
	}
	todo.throttle.forget(now.Add(time.Hour))
	if len(todo.throttle.full) > 0 {
		t.Error("nothing is forgotten")
	}
}

// TestRestlessFileIsNamed: a file that changes whenever it is read is never sent torn, is named, and keeps nothing else
// from being pushed, nor the replica from counting as up to date.
func TestRestlessFileIsNamed(t *testing.T) {
	a := newAgentWorld(t)
	a.pace = pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 50 * time.Millisecond}
	db := filepath.Join(a.src, "db")
	write(t, db, "the first state")
	a.start(t)
	a.identical(t)
	n := 0
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "write" || op == "close" { // whoever reads it, it is another one by then
			n++
			f, err := os.OpenFile(db, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(fmt.Appendf(nil, "state %9d", n), 0)
				f.Close()
			}
			return err
		}
		return nil
	})
	write(t, db, "the second state")
	named := func() bool {
		return strings.Contains(strings.Join(a.engine.snapshot().problems, "\n"), `"db": source: `+push.ErrUnsettled.Error())
	}
	eventually(t, "it is named, and the replica is complete but for it", func() bool { return named() && a.engine.snapshot().complete() })
	if got, _ := os.ReadFile(filepath.Join(a.dst, "db")); string(got) != "the first state" {
		t.Errorf("the replica has %q", got)
	}
	a.ssh.Backup.SetFault(nil)
	write(t, filepath.Join(a.src, "other"), "x")
	a.identical(t)
	if named() {
		t.Error("it has come to rest, and is still named")
	}
}
