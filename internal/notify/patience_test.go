package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"releve/internal/notify"
)

// TestServiceAsksToBeLeftAlone: by the header or in its own way, and for no longer than makes sense.
func TestServiceAsksToBeLeftAlone(t *testing.T) {
	date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		name, header, body string
		status             int
		wait               time.Duration // as the service asks; 0 = no more than usual
		refused            bool
	}{
		{"header", "7", "", 429, 7 * time.Second, false},
		{"header beside the body", "7", `{"retry_after":9}`, 429, 7 * time.Second, false},
		{"date", date, "", 503, 90 * time.Second, false},
		{"discord", "", `{"message":"You are being rate limited.","retry_after":0.75,"global":false}`, 429, 750 * time.Millisecond, false},
		{"telegram", "", `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}`, 429, 35 * time.Second, false},
		{"matrix", "", `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2000}`, 429, 2 * time.Second, false},
		{"for ever", "1e300", "", 429, 24 * time.Hour, false},
		{"nonsense", "soon", "", 429, 0, false},
		{"in the past", "-5", "", 429, 0, false},
		{"NaN", "NaN", "", 429, 24 * time.Hour, false},
		{"overloaded", "", "", 503, 0, false},
		{"broken", "60", "", 500, 0, false}, // means nothing there
		{"refused", "", `{"error":"invalid token"}`, 401, 0, true},
		{"too slow", "", "", 408, 0, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.header != "" {
				w.Header().Set("Retry-After", c.header)
			}
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		err := channel(t, notify.Config{Type: "webhook", URL: secret(server.URL)}).Send(t.Context(), message())
		server.Close()
		refused, wait := notify.Refusal(err)
		if diff := (wait - c.wait).Abs(); err == nil || refused != (c.refused || c.wait > 0) || diff > 2*time.Second || c.wait < time.Minute && diff > 0 {
			t.Errorf("%s: %v, %v, %v", c.name, err, refused, wait)
		}
	}
}

// TestOutboxIsPatient: a service that wants to be left alone is, whatever comes in; one that refuses a message is not
// asked for it twice a minute.
func TestOutboxIsPatient(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPhone("a")
		o := open(t, dir, p)
		defer running(t, o)()
		begin := time.Now()
		p.set(func(notify.Message) error { return notify.NewRefusal("429", 5*time.Minute) })
		say(t, o, "1")
		synctest.Wait()
		p.set(nil)
		say(t, o, "2")
		synctest.Wait()
		if n := len(p.heard()); n > 0 {
			t.Errorf("%d messages sent to a service that asked for peace", n)
		}
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		if n := len(p.heard()); n != 2 {
			t.Errorf("%d messages after %v", n, time.Since(begin))
		}
		p.set(func(notify.Message) error { return notify.NewRefusal("429", 1000*time.Hour) })
		say(t, o, "3")
		synctest.Wait()
		p.set(nil)
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if n := len(p.heard()); n != 3 {
			t.Error("a service can have an alarm wait for longer than an hour")
		}

		p.attempts()
		p.set(func(m notify.Message) error { return notify.NewRefusal("400 Bad Request", 0) })
		say(t, o, "poison")
		time.Sleep(24 * time.Hour)
		if n := p.attempts(); n < 100 || n > 170 {
			t.Errorf("%d attempts in a day", n)
		}
		p.set(dead)
		time.Sleep(time.Hour)
		p.attempts()
		time.Sleep(10 * time.Minute)
		if n := p.attempts(); n < 19 {
			t.Errorf("%d attempts in 10 minutes without a network", n)
		}
	})
}

// TestStopFinishesDeliveryUnderWay: or it would be told again after the next start.
func TestStopFinishesDeliveryUnderWay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			takes, stops time.Duration
			again        int // messages that wait for the next start
		}{
			{4 * time.Second, 3 * time.Second, 0},
			{8 * time.Second, 6 * time.Second, 1},
		} {
			p := newPhone("a")
			p.Send = func(ctx context.Context, m notify.Message) error {
				select {
				case <-time.After(c.takes):
					return p.send(ctx, m)
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			own := filepath.Join(dir, fmt.Sprint(c.takes))
			o := open(t, own, p)
			stop := running(t, o)
			say(t, o, "1")
			say(t, o, "2") // is not begun any more
			time.Sleep(time.Second)
			began := time.Now()
			stop()
			if took := time.Since(began); took > 5*time.Second || took > c.stops {
				t.Errorf("the end took %v", took)
			}
			if n := open(t, own, p).Pending(); n != 1+c.again {
				t.Errorf("delivery of %v: %d messages wait, want %d", c.takes, n, 1+c.again)
			}
			if f := o.Failing(); len(f) > 0 {
				t.Errorf("failing %q, though it was we who ended", f)
			}
		}
	})
}

func TestCounts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		good, bad := newPhone("good"), newPhone("bad")
		bad.set(dead)
		o := open(t, dir, good, bad)
		defer running(t, o)()
		say(t, o, "1")
		say(t, o, "2")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want := []notify.Count{{Channel: "good", Delivered: 2}, {Channel: "bad", Waiting: 2, Failed: 4}}
		if got := o.Counts(); !slices.Equal(got, want) {
			t.Errorf("%+v", got)
		}
		time.Sleep(8 * 24 * time.Hour)
		if got := o.Counts()[1]; got.Expired != 2 || got.Waiting != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestTooLongForTheService: what a service would refuse for its length is cut, and by its own measure.
func TestTooLongForTheService(t *testing.T) {
	m := message()
	m.Text = strings.Repeat("é\U0001F4A5\n<<<<", 5000)
	for _, c := range []struct {
		notify.Config
		size func(body string) int
		most int
	}{
		{notify.Config{Type: "ntfy", Topic: "x"}, func(s string) int { return len(s) }, 8192}, // the whole request
		{notify.Config{Type: "matrix", Room: "!x", Token: secret("t")}, func(s string) int { return len(s) }, 65_000},
		{notify.Config{Type: "telegram", Chat: "1", Token: secret("t")}, func(s string) int { return utf16Length(jsonField(s, "text")) }, 4096},
		{notify.Config{Type: "discord"}, func(s string) int { return utf16Length(jsonField(s, "content")) }, 2000},
	} {
		body := told(t, "watchdog", c.Config, m)
		if n := c.size(body); n > c.most || n < c.most/3 || !strings.Contains(body, "…") {
			t.Errorf("%s is sent %d of %d", c.Type, n, c.most)
		}
	}
}

func jsonField(text, name string) string {
	var v map[string]any
	_ = json.Unmarshal([]byte(text), &v)
	s, _ := v[name].(string)
	return s
}

func utf16Length(s string) int { return len(utf16.Encode([]rune(s))) }
