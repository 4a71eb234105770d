package notify_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/notify"
	"releve/internal/strictconf"
)

// reminding runs the reminders of o until stop is called.
func reminding(t *testing.T, o *notify.Outbox, a *notify.Alarms) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Remind(ctx, a.Lasting) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Remind: %v", err)
		}
	}
}

func alarmsOf(t *testing.T, dir string, o *notify.Outbox) *notify.Alarms {
	t.Helper()
	a, lost := notify.OpenAlarms(filepath.Join(dir, "alarms.json"), o.Post)
	if lost != nil {
		t.Fatal(lost)
	}
	return a
}

var down = notify.Message{Event: "standby_down", About: "home", Subject: "The standby is down", Text: "It does not answer.", Severity: notify.Warning}

func raise(t *testing.T, a *notify.Alarms, m notify.Message) {
	t.Helper()
	if _, err := a.Raise(m.Event, m, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// TestRemindersWhileItLasts: at their time, also over a restart, in the words of the day, and none after the end.
func TestRemindersWhileItLasts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		often, never := newPhone("often"), newPhone("never")
		often.Remind = 6 * time.Hour
		var o *notify.Outbox
		var a *notify.Alarms
		start := func() (stop func()) {
			o = open(t, dir+"/outbox", often, never)
			a = alarmsOf(t, dir, o)
			stopRun, stopRemind := running(t, o), reminding(t, o, a)
			return func() { stopRemind(); stopRun() }
		}
		stop := start()
		began := time.Now()
		raise(t, a, down)
		time.Sleep(6*time.Hour - time.Minute)
		synctest.Wait()
		if n := len(often.heard()); n != 1 {
			t.Fatalf("%d messages before the first reminder is due", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		stop()
		stop = start() // nothing is told again, and nothing is forgotten
		again := down
		again.Text = "It still does not answer."
		raise(t, a, again)
		time.Sleep(6*time.Hour + 2*time.Minute)
		synctest.Wait()
		if _, was, err := a.Clear(down.Event); !was || err != nil {
			t.Fatalf("it was forgotten (%v)", err)
		}
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		stop()
		got := often.messages()
		if len(got) != 3 || len(never.heard()) != 1 {
			t.Fatalf("heard %q and %q", often.heard(), never.heard())
		}
		if got[0].Reminder || got[0].Subject != down.Subject || got[0].Severity != notify.Warning {
			t.Errorf("first %+v", got[0])
		}
		for i, want := range []string{"6h 0m now.\n\nIt does not answer.", "12h 0m now.\n\nIt still does not answer."} {
			m := got[i+1]
			if !m.Reminder || !m.Since.Equal(began) || m.Subject != "Reminder: The standby is down" || !strings.HasSuffix(m.Text, want) {
				t.Errorf("reminder %d: %+v", i, m)
			}
		}
	})
}

// TestRemindersDoNotPileUp: a channel that was dead for days tells what happened, and then how things are now, once.
func TestRemindersDoNotPileUp(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("phone")
		p.Remind = time.Hour
		o := open(t, dir+"/outbox", p)
		a := alarmsOf(t, dir, o)
		defer running(t, o)()
		defer reminding(t, o, a)()
		raise(t, a, down)
		synctest.Wait() // the first word gets through
		p.set(dead)
		time.Sleep(50*time.Hour + 30*time.Minute)
		other := down
		other.Event = "credential"
		raise(t, a, other) // this one does not, and nobody is reminded of what he was not told
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := o.Pending(); n != 2 {
			t.Errorf("%d messages wait, want one reminder and one first word", n)
		}
		p.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := p.messages(); len(got) != 3 || !slices.ContainsFunc(got, func(m notify.Message) bool { return m.Reminder && strings.Contains(m.Text, "2d 5h now") }) {
			t.Errorf("heard %+v", got)
		}
		p.set(dead)
		time.Sleep(2 * time.Hour)
		a.Clear(down.Event)
		a.Clear(other.Event)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if o.Pending() != 0 {
			t.Error("a reminder of what is over still waits")
		}
		if files, _ := filepath.Glob(dir + "/outbox/*.json"); len(files) > 0 {
			t.Errorf("left on disk: %q", files)
		}
	})
}

func TestFiltersHoldForReminders(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		grave, other, all := newPhone("grave"), newPhone("other", "credential"), newPhone("all")
		grave.MinSeverity = notify.Critical
		grave.Remind, other.Remind, all.Remind = time.Hour, time.Hour, time.Hour
		o := open(t, dir+"/outbox", grave, other, all)
		a := alarmsOf(t, dir, o)
		defer running(t, o)()
		defer reminding(t, o, a)()
		raise(t, a, down)
		worst := down
		worst.Event, worst.Severity = "failed_over", notify.Critical
		raise(t, a, worst)
		time.Sleep(time.Hour + 2*time.Minute)
		synctest.Wait()
		for p, want := range map[*phone]int{grave: 2, other: 0, all: 4} {
			if n := len(p.heard()); n != want {
				t.Errorf("%s heard %d messages, want %d: %q", p.Name, n, want, p.heard())
			}
		}
	})
}

// TestAlarmThatCannotBeKept: it is told once while the process lives, and again by the next one, for all it knows.
func TestAlarmThatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("no space left on device")
	posted := 0
	post := func(notify.Message) error { posted++; return full }
	a, _ := notify.OpenAlarms(filepath.Join(dir, "alarms.json"), post)
	keys := map[string]bool{}
	for i := range 3 {
		told, err := a.Raise("x", down, time.Now())
		if told != (i == 0) || !errors.Is(err, full) {
			t.Errorf("told %v, %v", told, err)
		}
		keys[a.Lasting()[0].Key] = true
	}
	if len(keys) != 1 || posted != 3 {
		t.Errorf("%d keys, %d times posted: each would be told", len(keys), posted)
	}
	full = nil
	if _, err := a.Raise("x", down, time.Now()); err != nil || posted != 4 {
		t.Errorf("%v, %d", err, posted)
	}
	a.Raise("x", down, time.Now())
	again, _ := notify.OpenAlarms(filepath.Join(dir, "alarms.json"), post)
	again.Raise("x", down, time.Now())
	if posted != 4 {
		t.Errorf("posted %d times", posted)
	}
}

// TestAlarmThatCannotBeKeptIsNotRemembered: not even if there is room for the next one, and for the list of both.
func TestAlarmThatCannotBeKeptIsNotRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alarms.json")
	var told []string
	full := true
	post := func(m notify.Message) error {
		if full {
			return errors.New("no space left on device")
		}
		told = append(told, m.Subject)
		return nil
	}
	a, _ := notify.OpenAlarms(file, post)
	first, second := down, down
	first.Subject, second.Subject = "first", "second"
	a.Raise("first", first, time.Now())
	full = false
	if _, err := a.Raise("second", second, time.Now()); err != nil {
		t.Fatal(err)
	}
	a, _ = notify.OpenAlarms(file, post) // the process ended before the first one got out
	a.Raise("first", first, time.Now())
	a.Raise("second", second, time.Now())
	if !slices.Equal(told, []string{"second", "first"}) {
		t.Errorf("told %q", told)
	}
}

func TestChannelTakesItsSettings(t *testing.T) {
	c := channel(t, notify.Config{
		Type: "exec", Command: []string{"/bin/true"}, Name: "x", Events: []string{"held"}, MinSeverity: "warning", Remind: strictconf.Duration(6 * time.Hour),
	})
	if c.Name != "x" || !slices.Equal(c.Events, []string{"held"}) || c.MinSeverity != notify.Warning || c.Remind != 6*time.Hour {
		t.Errorf("%+v", c)
	}
}

func TestDamagedAlarms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alarms.json")
	for _, text := range []string{"{", `{"version":2}`, `{"standby_down home":{"Event":"standby_down"}}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		posted := 0
		a, lost := notify.OpenAlarms(file, func(notify.Message) error { posted++; return nil })
		if lost == nil {
			t.Errorf("%s was believed", text)
		}
		if told, err := a.Raise("x", down, time.Now()); !told || err != nil || posted != 1 {
			t.Errorf("told %v, %v", told, err)
		}
	}
}

// TestPostAgainWhenTheDiskHasRoom: a message that was not on disk at first is, once it is posted again.
func TestPostAgainWhenTheDiskHasRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	p := newPhone("a")
	o := open(t, dir, p)
	if err := os.RemoveAll(dir); err != nil { // as good as full, also for root
		t.Fatal(err)
	}
	m := notify.Message{Event: "failed_over", Key: "1"}
	for range 2 {
		if o.Post(m) == nil {
			t.Error("said to be on disk, and is not")
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := o.Post(m); err != nil || o.Pending() != 1 {
		t.Errorf("%v, %d pending", err, o.Pending())
	}
	if n := open(t, dir, p).Pending(); n != 1 {
		t.Errorf("%d pending after a restart", n)
	}
}
