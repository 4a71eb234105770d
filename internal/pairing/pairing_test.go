package pairing_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"releve/internal/pairing"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time {
	t := noon.Add(-d)
	return &t
}

func agent() pairing.Agent {
	return pairing.Agent{Version: 1, Sequence: 7, Time: noon, Folders: []pairing.Folder{
		{Name: "webroot", State: pairing.InSync, AsOf: ago(0), LastChange: ago(time.Hour), InSyncSince: ago(time.Minute)},
		{Name: "mail", State: pairing.Waiting, Pending: 3, Held: 2},
	}}
}

func watchdog() pairing.Watchdog {
	days := 60
	return pairing.Watchdog{Version: 1, Time: noon, DiskFree: 1 << 40, Sites: []pairing.Site{
		{Name: "www.example.net", Serving: pairing.Standby, Term: 3, Since: ago(time.Hour), CertificateDays: &days},
		{Name: "example.org", Serving: pairing.Prod},
	}}
}

// encoded is the file that holds v.
func encoded(t testing.TB, v interface{ Encode() ([]byte, error) }) []byte {
	t.Helper()
	text, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWordsArriveAsTheyWereSaid(t *testing.T) {
	if got, err := pairing.DecodeAgent(encoded(t, agent())); err != nil || !reflect.DeepEqual(got, agent()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := pairing.DecodeWatchdog(encoded(t, watchdog())); err != nil || !reflect.DeepEqual(got, watchdog()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestRefusals changes a good file in one place.
func TestRefusals(t *testing.T) {
	a := string(encoded(t, agent()))
	w := string(encoded(t, watchdog()))
	decodeAgent := func(s string) error { _, err := pairing.DecodeAgent([]byte(s)); return err }
	decodeWatchdog := func(s string) error { _, err := pairing.DecodeWatchdog([]byte(s)); return err }
	for _, c := range []struct {
		file     string
		decode   func(string) error
		old, new string
		want     string
	}{
		{a, decodeAgent, "", "", ""},
		{w, decodeWatchdog, "", "", ""},
		{a, decodeAgent, `"version": 1`, `"version": 2, "news": true`, "version 2: written by another version"},
		{a, decodeAgent, `"version": 1,`, "", "no version"},
		{a, decodeAgent, `"sequence": 7`, `"sequence": 7, "news": true`, "unknown field"},
		{a, decodeAgent, `"sequence": 7`, `"sequence": 0`, "sequence"},
		{a, decodeAgent, `"sequence": 7`, `"sequence": -7`, "sequence"},
		{a, decodeAgent, `"time": "2026-01-02T12:00:00Z",`, "", "no time"},
		{a, decodeAgent, `"time": "2026-01-02T12:00:00Z"`, `"time": "2026-01-02T11:59:59Z"`, "after the time of writing"},
		{a, decodeAgent, `"time": "2026-01-02T12:00:00Z"`, `"time": "noon"`, "noon"},
		{a, decodeAgent, `"webroot"`, `""`, `"" is no name`},
		{a, decodeAgent, `"webroot"`, `"mail"`, "twice"},
		{a, decodeAgent, `"webroot"`, `"a\u001b[2J"`, "is no name"},
		{a, decodeAgent, `"webroot"`, `"` + strings.Repeat("x", 256) + `"`, "is no name"},
		{a, decodeAgent, `"waiting"`, `"asleep"`, `state "asleep"`},
		{a, decodeAgent, `"pending": 3`, `"pending": -3`, "negative"},
		{a, decodeAgent, `"held": 2`, `"held": -2`, "negative"},
		{a, decodeAgent, "]\n}", "]\n}{}", "after top-level value"},
		{a, decodeAgent, "]\n}", "]\n", "unexpected end"},
		{a, decodeAgent, "\n", strings.Repeat("\n", pairing.MaxSize), "more than 1048576 bytes"},
		{w, decodeWatchdog, `"version": 1`, `"version": 2`, "written by another version"},
		{w, decodeWatchdog, `"term": 3`, `"term": 3, "path": "/etc"`, "unknown field"},
		{w, decodeWatchdog, `"term": 3`, `"term": -3`, "negative"},
		{w, decodeWatchdog, `"standby"`, `"both"`, `"both" cannot serve`},
		{w, decodeWatchdog, `"standby"`, `""`, `"" cannot serve`},
		{w, decodeWatchdog, `"example.org"`, `"www.example.net"`, "twice"},
		{w, decodeWatchdog, `"time": "2026-01-02T12:00:00Z"`, `"time": "2026-01-02T10:00:00Z"`, "after the time of writing"},
		{w, decodeWatchdog, `"disk_free": 1099511627776`, `"disk_free": -1`, "disk_free"},
	} {
		text := strings.Replace(c.file, c.old, c.new, 1)
		if c.old != "" && text == c.file {
			t.Fatalf("%s is not in\n%s", c.old, c.file)
		}
		err := c.decode(text)
		if c.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: error %v; want %q", c.new[:min(len(c.new), 60)], c.old, err, c.want)
		}
		if another := strings.Contains(c.want, "another version"); another != errors.Is(err, pairing.ErrVersion) {
			t.Errorf("%v: is ErrVersion: %v", err, !another)
		}
	}
}

// TestNothingIsWrittenThatIsNotRead: what one side would refuse the other does not write.
func TestNothingIsWrittenThatIsNotRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := pairing.Agent{Sequence: rapid.Uint64Range(0, 3).Draw(t, "sequence")}
		if rapid.Bool().Draw(t, "time") {
			a.Time = noon
		}
		for range rapid.IntRange(0, 3).Draw(t, "folders") {
			a.Folders = append(a.Folders, pairing.Folder{
				Name: rapid.SampledFrom([]string{"a", "b", "é", "", "x\x00", "\xff", "a b"}).Draw(t, "name"),
				State: rapid.SampledFrom([]pairing.FolderState{pairing.InSync, pairing.Held, pairing.Syncing, pairing.Waiting,
					"none"}).Draw(t, "state"),
				AsOf:    ago(time.Duration(rapid.IntRange(-1, 5).Draw(t, "as of"))),
				Pending: rapid.IntRange(-1, 5).Draw(t, "pending"),
			})
		}
		text, err := a.Encode()
		if err != nil {
			return
		}
		got, err := pairing.DecodeAgent(text)
		a.Version = 1
		if a.Folders == nil {
			a.Folders = []pairing.Folder{}
		}
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%v, %+v of\n%s", err, got, text)
		}
	})
}

func TestLag(t *testing.T) {
	a := agent()
	a.Folders[0].AsOf = ago(time.Minute)
	for _, c := range []struct {
		written, at time.Duration // after midnight, by a clock that has nothing to do with prod's
		want        time.Duration
	}{
		{0, 0, time.Minute},
		{0, 10 * time.Second, 70 * time.Second},
		{time.Hour, 0, 0}, // prod died before the file was written: its web server did, the agent did not
		{30 * time.Second, 0, 30 * time.Second},
	} {
		t.Run(fmt.Sprint(c.written, c.at), func(t *testing.T) {
			midnight := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
			lag, ok := a.Lag(a.Folders[0], midnight.Add(c.written), midnight.Add(c.at))
			if !ok || lag != c.want {
				t.Errorf("got %v, %v; want %v", lag, ok, c.want)
			}
		})
	}
	if _, ok := a.Lag(a.Folders[1], noon, noon); ok {
		t.Error("a replica that was never complete has an age")
	}
}

func FuzzDecodeAgent(f *testing.F) {
	f.Add(encoded(f, agent()))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := pairing.DecodeAgent(text)
		if err != nil {
			return
		}
		again, err := a.Encode()
		if err != nil {
			t.Fatalf("%v: was read, is not written: %+v", err, a)
		}
		b, err := pairing.DecodeAgent(again)
		if err != nil || len(a.Folders) != len(b.Folders) || !a.Time.Equal(b.Time) || a.Sequence != b.Sequence {
			t.Fatalf("%v: %+v became %+v", err, a, b)
		}
	})
}

func FuzzDecodeWatchdog(f *testing.F) {
	f.Add(encoded(f, watchdog()))
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := pairing.DecodeWatchdog(text)
		if err != nil {
			return
		}
		again, err := w.Encode()
		if err != nil {
			t.Fatalf("%v: was read, is not written: %+v", err, w)
		}
		b, err := pairing.DecodeWatchdog(again)
		if err != nil || len(w.StandbyServes()) != len(b.StandbyServes()) || w.DiskFree != b.DiskFree {
			t.Fatalf("%v: %+v became %+v", err, w, b)
		}
	})
}
