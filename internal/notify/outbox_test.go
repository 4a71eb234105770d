package notify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/notify"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A phone is a channel that remembers what it was told, and may be out of order.
type phone struct {
	notify.Channel
	mu    sync.Mutex
	fault func(m notify.Message) error
	tries []time.Time
	told  []string
	all   []notify.Message // told
}

func newPhone(name string, events ...string) *phone {
	p := &phone{}
	p.Channel = notify.Channel{Name: name, Events: events, Send: p.send}
	return p
}

func (p *phone) send(ctx context.Context, m notify.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries = append(p.tries, time.Now())
	if p.fault != nil {
		if err := p.fault(m); err != nil {
			return err
		}
	}
	p.told = append(p.told, m.Key)
	p.all = append(p.all, m)
	return nil
}

// attempts is how many there were since the last question.
func (p *phone) attempts() int {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.tries)
	p.tries = nil
	return n
}

func (p *phone) messages() []notify.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

func (p *phone) set(fault func(notify.Message) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

func (p *phone) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

func dead(notify.Message) error { return errors.New("no network") }

func open(t *testing.T, dir string, phones ...*phone) *notify.Outbox {
	t.Helper()
	var channels []notify.Channel
	for _, p := range phones {
		channels = append(channels, p.Channel)
	}
	o, err := notify.OpenOutbox(dir, channels)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// running runs o until stop is called.
func running(t *testing.T, o *notify.Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func say(t *testing.T, o *notify.Outbox, key string) {
	t.Helper()
	if err := o.Post(notify.Message{Event: "failed_over", Key: key, Subject: "subject", Text: "text"}); err != nil {
		t.Fatal(err)
	}
}

func TestOncePerKeyAndChannel(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, b := newPhone("a"), newPhone("b", "other", "failed_over")
		c := newPhone("c", "other")
		o := open(t, dir, a, b, c)
		stop := running(t, o)
		for range 3 {
			say(t, o, "1")
			say(t, o, "2")
			synctest.Wait()
		}
		stop()
		o = open(t, dir, a, b, c) // a restart
		stop = running(t, o)
		say(t, o, "1")
		say(t, o, "3")
		synctest.Wait()
		stop()
		for _, p := range []*phone{a, b} {
			if !slices.Equal(p.heard(), []string{"1", "2", "3"}) {
				t.Errorf("%s heard %q", p.Name, p.heard())
			}
		}
		if len(c.heard()) > 0 {
			t.Errorf("c heard %q", c.heard())
		}
	})
}

// TestAlarmSurvivesRestart: it is on disk when Post returns, before anything was sent.
func TestAlarmSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("a")
		say(t, open(t, dir, p), "1") // the process dies here
		p.set(dead)
		o := open(t, dir, p)
		stop := running(t, o)
		synctest.Wait()
		stop() // and here
		p.set(nil)
		o = open(t, dir, p)
		if o.Pending() != 1 {
			t.Errorf("%d pending", o.Pending())
		}
		stop = running(t, o)
		synctest.Wait()
		stop()
		if !slices.Equal(p.heard(), []string{"1"}) || o.Pending() != 0 {
			t.Errorf("heard %q, %d pending", p.heard(), o.Pending())
		}
	})
}

func TestRetriesNeverPauseLongerThan30Seconds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("a")
		p.set(dead)
		o := open(t, dir, p)
		stop := running(t, o)
		defer stop()
		say(t, o, "1")
		time.Sleep(time.Hour)
		synctest.Wait()
		p.mu.Lock()
		tries := slices.Clone(p.tries)
		p.mu.Unlock()
		var pauses []time.Duration
		for i := range len(tries) - 1 {
			pauses = append(pauses, tries[i+1].Sub(tries[i]))
		}
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
		for i, w := range want {
			if pauses[i] != w*time.Second {
				t.Fatalf("pauses %v", pauses[:len(want)])
			}
		}
		if m := slices.Max(pauses); m != 30*time.Second {
			t.Errorf("a pause of %v", m)
		}
		if f := o.Failing(); len(f) != 1 || !strings.Contains(f[0], "no network") || o.LastErrors()["a"] != "no network" {
			t.Errorf("failing %q, %q", f, o.LastErrors())
		}
		p.set(nil)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(p.heard()) != 1 || len(o.Failing()) != 0 {
			t.Errorf("heard %q, failing %q", p.heard(), o.Failing())
		}
	})
}

func TestNewMessageIsTriedAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("a")
		p.set(func(m notify.Message) error {
			if m.Key == "poison" {
				return errors.New("400 Bad Request")
			}
			return nil
		})
		o := open(t, dir, p)
		stop := running(t, o)
		defer stop()
		say(t, o, "poison")
		time.Sleep(time.Hour + 7*time.Second) // in the middle of a pause
		for i := range 5 {
			say(t, o, fmt.Sprint(i))
		}
		synctest.Wait()
		if len(p.heard()) != 5 {
			t.Errorf("heard %q behind a message that is refused for ever", p.heard())
		}
		if o.Pending() != 1 {
			t.Errorf("%d pending", o.Pending())
		}
	})
}

func TestDeadChannelDelaysNoOther(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		good, hung := newPhone("good"), newPhone("hung")
		hung.Send = func(ctx context.Context, m notify.Message) error { <-ctx.Done(); return context.Cause(ctx) }
		o := open(t, dir, hung, good)
		stop := running(t, o)
		defer stop()
		start := time.Now()
		for i := range 10 {
			say(t, o, fmt.Sprint(i))
		}
		synctest.Wait()
		if len(good.heard()) != 10 || time.Since(start) != 0 {
			t.Errorf("heard %q after %v", good.heard(), time.Since(start))
		}
		time.Sleep(time.Minute)
		if f := o.Failing(); len(f) != 1 || !strings.Contains(f[0], "hung") {
			t.Errorf("failing %q: an attempt has no end", f)
		}
	})
}

func TestExpiryIsReported(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("a")
		p.set(dead)
		o := open(t, dir, p)
		stop := running(t, o)
		defer stop()
		say(t, o, "1")
		time.Sleep(7*24*time.Hour + time.Minute)
		synctest.Wait()
		if o.Pending() != 0 {
			t.Errorf("%d pending after a week", o.Pending())
		}
		if f := o.Failing(); !slices.ContainsFunc(f, func(s string) bool { return strings.Contains(s, "given up") }) {
			t.Errorf("failing %q", f)
		}
		tries := len(p.tries)
		say(t, o, "1")
		synctest.Wait()
		if len(p.tries) != tries {
			t.Error("it was tried again")
		}
	})
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	dir := t.TempDir()
	p := newPhone("a")
	say(t, open(t, dir, p), "good")
	say(t, open(t, dir, p), "torn")
	say(t, open(t, dir, p), "newer")
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if text := readFile(t, f); strings.Contains(text, `"torn"`) {
			os.WriteFile(f, []byte(text[:len(text)/2]), 0o600)
		} else if strings.Contains(text, `"newer"`) {
			os.WriteFile(f, []byte(strings.Replace(text, "{", `{"added":1,`, 1)), 0o600)
		}
	}
	os.WriteFile(dir+"/.half.json123", []byte("{"), 0o600)
	os.WriteFile(dir+"/alien.json", []byte(`{"version":1,"channel":"a","posted":"2026-11-22T03:04:05Z","message":{"Event":"x"}}`), 0o600)
	os.Mkdir(dir+"/folder.json", 0o700)
	o := open(t, dir, p)
	if o.Pending() != 1 {
		t.Errorf("%d pending, want the good one", o.Pending())
	}
	if f := o.Failing(); len(f) != 1 || !strings.Contains(f[0], "4 files") || !strings.Contains(f[0], dir) {
		t.Errorf("failing %q", f)
	}
	if _, err := os.Stat(dir + "/.half.json123"); !os.IsNotExist(err) {
		t.Error("what a crash left is still there")
	}
	if f := open(t, dir, p).Failing(); len(f) != 1 {
		t.Errorf("after a restart: %q", f)
	}
}

// TestFullDisk: what cannot be kept is told all the same, once.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("a")
		o := open(t, dir, p)
		if err := os.RemoveAll(dir); err != nil { // as good as full, also for root
			t.Fatal(err)
		}
		m := notify.Message{Event: "failed_over", Key: "1"}
		for range 2 {
			if err := o.Post(m); err == nil && o.Pending() != 1 {
				t.Error("no error, though nothing is on disk")
			}
		}
		stop := running(t, o)
		defer stop()
		synctest.Wait()
		o.Post(m)
		synctest.Wait()
		if !slices.Equal(p.heard(), []string{"1"}) {
			t.Errorf("heard %q", p.heard())
		}
	})
}

func TestChannelThatIsGoneKeepsItsMessages(t *testing.T) {
	dir := t.TempDir()
	a, b := newPhone("a"), newPhone("b")
	say(t, open(t, dir, a, b), "1")
	if n := open(t, dir, b).Pending(); n != 1 {
		t.Errorf("%d pending without a", n)
	}
	if n := open(t, dir, a, b).Pending(); n != 2 {
		t.Errorf("%d pending with a again", n)
	}
	if _, err := notify.OpenOutbox(dir, []notify.Channel{a.Channel, a.Channel}); err == nil {
		t.Error("two channels of one name were accepted")
	}
}

func TestOddMessagesSurvive(t *testing.T) {
	dir := t.TempDir()
	p := newPhone("a")
	o := open(t, dir, p)
	for i, m := range []notify.Message{
		{Event: "e", Key: "\xff\xfe../../etc/passwd\x00"},
		{Event: "e", Key: strings.Repeat("k", 10_000), Text: strings.Repeat("é", 1_000_000)},
		{Event: "e", Subject: "two\r\nlines: injected"},
		{Event: "e", Key: "time", Time: time.Unix(-1<<40, 0)},
	} {
		if err := o.Post(m); err != nil {
			t.Logf("message %d: %v", i, err)
		}
	}
	want := o.Pending()
	o = open(t, dir, p)
	if o.Pending() != want || len(o.Failing()) > 0 {
		t.Errorf("%d of %d came back; %q", o.Pending(), want, o.Failing())
	}
}
