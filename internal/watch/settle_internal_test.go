package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// verdict asks a judge about one path at one moment.
type verdict struct {
	ready bool
	after time.Duration // when to look again; 0: not at all
}

func newJudge(is writer) *judge {
	return &judge{
		began:  time.Now(),
		settle: 100 * time.Millisecond, maxWait: 10 * time.Second, repos: newRepos(),
		skip:  func(string, bool) bool { return false },
		lease: func(*os.File) (writer, error) { return is, nil },
	}
}

func TestVerdicts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"file", "small"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "file"), cheapSize+1); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	const ms = time.Millisecond
	for _, test := range []struct {
		name, path  string
		ops         ops
		first, last time.Duration // ago
		writer      writer
		want        verdict
	}{
		{"closed file", "file", created | written, 0, 0, writerGone, verdict{ready: true}},
		{"link", "link", created, 0, 0, writerThere, verdict{ready: true}},
		{"directory", ".", written, 0, 0, writerThere, verdict{ready: true}},
		{"being written", "file", created, 0, 0, writerThere, verdict{after: shortestLook}},
		{"being written for 80 ms", "file", written, 80 * ms, 0, writerThere, verdict{after: 10 * ms}},
		{"being written for 5 s", "file", written, 5 * time.Second, 0, writerThere, verdict{after: longestLook}},
		{"being written for 9.9 s", "file", written, 9900 * ms, 0, writerThere, verdict{after: 100 * ms}},
		{"being written for 10 s", "file", written, 10 * time.Second, 0, writerThere, verdict{ready: true}},
		{"small, being written for 1.9 s", "small", written, 1900 * ms, 0, writerThere, verdict{after: 100 * ms}},
		{"small, being written for 2 s", "small", written, 2 * time.Second, 0, writerThere, verdict{ready: true}},
		{"who knows", "file", written, 30 * ms, 20 * ms, writerUnknown, verdict{after: 80 * ms}},
		{"who knows, left alone", "file", written, time.Second, 100 * ms, writerUnknown, verdict{ready: true}},
		{"who knows, changing for 10 s", "file", written, 10 * time.Second, 0, writerUnknown, verdict{ready: true}},
		{"unlinked just now", "gone", removed, 3 * ms, 3 * ms, writerGone, verdict{after: 7 * ms}},
		{"unlinked", "gone", created | removed, 10 * ms, 10 * ms, writerGone, verdict{ready: true}},
		{"moved away just now", "gone", moved, 0, 0, writerGone, verdict{ready: true}},
		{"created and gone", "gone", created, 0, 0, writerGone, verdict{}},
		{"written after it was unlinked", "gone", written, 0, 0, writerGone, verdict{}},
		{"below a file", "file/x", removed, time.Second, time.Second, writerGone, verdict{ready: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Now()
			m := &mark{ops: test.ops, first: now.Add(-test.first), last: now.Add(-test.last)}
			ready, due := newJudge(test.writer).one(root, now, test.path, m)
			got := verdict{ready: ready}
			if !due.IsZero() {
				got.after = due.Sub(now)
			}
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// TestStayingOpen: a file that went out while it was open is looked at ever less often, and goes out again when it changed.
func TestStayingOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	j := newJudge(writerThere)
	now := time.Now()
	m := &mark{ops: created, first: now.Add(-j.maxWait), last: now}
	if ready, _ := j.one(root, now, "file", m); !ready {
		t.Fatal("it does not go out after maxWait")
	}
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		if got := m.due.Sub(now); got != want*time.Second {
			t.Errorf("looked at after %v, want %v", got, want*time.Second)
		}
		now = m.due
		if ready, due := j.one(root, now, "file", m); ready || due != m.due {
			t.Fatal("it goes out though nothing happened")
		}
	}
	if err := os.WriteFile(path, []byte("longer"), 0o600); err != nil { // no event is told of
		t.Fatal(err)
	}
	now = m.due
	if ready, _ := j.one(root, now, "file", m); !ready || m.sent == nil {
		t.Error("it does not go out again")
	}
	j.lease = func(*os.File) (writer, error) { return writerGone, nil }
	if ready, due := j.one(root, m.due, "file", m); ready || !due.IsZero() {
		t.Error("it goes out again when it is closed, though nothing happened")
	}
}

// TestStaleLock: a lock that git left behind holds nothing up for ever, nor again.
func TestStaleLock(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "site", ".git"), 0o700); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, "site", lockName)
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	g := newRepos()
	g.found("site")
	start := time.Now()
	locked := func(after time.Duration, path string) bool { return g.look(root, start.Add(after))(path) }
	if !locked(0, "site/a/b") || locked(0, "other/a") || locked(0, "site") {
		t.Error("the lock holds the wrong paths")
	}
	if !locked(lockMax-1, "site/a") || locked(lockMax, "site/a") || locked(time.Hour, "site/a") {
		t.Error("a lock that was left behind does not lose its power after 30 s")
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if locked(2*time.Hour, "site/a") {
		t.Error("there is no lock")
	}
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !locked(3*time.Hour, "site/a") {
		t.Error("the next lock does not count")
	}
}

// TestLockedGoesOutTogether: what a lock holds back is looked at again at the same moment, whenever it changed.
func TestLockedGoesOutTogether(t *testing.T) {
	began := time.Now()
	j := &judge{began: began}
	for _, since := range []time.Duration{0, 1, lockLook / 2, lockLook - 1} {
		tick := began.Add(7 * lockLook)
		if due := j.lockLookAfter(tick.Add(since)); !due.Equal(tick.Add(lockLook)) {
			t.Errorf("%v after a tick: due %v after it, want %v", since, due.Sub(tick), lockLook)
		}
	}
}
