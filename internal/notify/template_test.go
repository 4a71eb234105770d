package notify_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"releve/internal/notify"
	"releve/internal/strictconf"
)

// told is what a channel of this configuration makes of m.
func told(t *testing.T, program string, c notify.Config, m notify.Message) string {
	t.Helper()
	seen := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- string(body)
	}))
	defer server.Close()
	c.URL = secret(server.URL)
	channels, err := notify.Channels(program, []notify.Config{c})
	if err != nil {
		t.Fatal(err)
	}
	if err := channels[0].Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return <-seen
}

func TestTemplates(t *testing.T) {
	m := message()
	again := m
	again.Reminder, again.Since = true, m.Time.Add(-time.Hour)
	unknown := message()
	unknown.About = ""
	clock := func(t time.Time) string { return t.Local().Format("2 Jan 2006 15:04:05 MST") }
	for _, c := range []struct {
		subject, text string
		m             notify.Message
		want          string // value1|value2
	}{
		{"", "", m, m.Subject + "|" + m.Text + "\n\nwatchdog on HOST, " + clock(m.Time)},
		{"[{{.Severity}}] {{.About}}", "", m, "[critical] www.example.net|" + m.Text + "\n\nwatchdog on HOST, " + clock(m.Time)},
		{"", "{{.Text}}", m, m.Subject + "|" + m.Text},
		{"{{.Event}}", "{{.Program}} {{.Time}}", m, "failed_over|watchdog " + clock(m.Time)},
		{`{{if .Reminder}}STILL {{end}}{{.Subject}}`, "since {{.Since}}", again, "STILL " + m.Subject + "|since " + clock(again.Since)},
		{"two\nlines", "{{with .Since}}{{.}}{{else}}{{$.Event | printf \"%q\"}}{{end}}", m, `two lines|"failed_over"`},
		// What the trial did not show must not cost the message.
		{"{{slice .About 0 3}}", "{{slice .About 0 3}}", unknown, m.Subject + "|" + m.Text + "\n\nwatchdog on HOST, " + clock(m.Time)},
		{"{{.About}}", "x", unknown, m.Subject + "|x"},
	} {
		got := told(t, "watchdog", notify.Config{Type: "ifttt", Event: "x", Key: secret("k"), Subject: c.subject, Text: c.text}, c.m)
		value1, value2, _ := strings.Cut(c.want, "|")
		want := fmt.Sprintf(`{"value1":%q,"value2":%q,"value3":"failed_over"}`, value1, strings.ReplaceAll(value2, "HOST", host(t)))
		if !sameBody(got, want) {
			t.Errorf("%q, %q: got\n%s\nwant\n%s", c.subject, c.text, got, want)
		}
	}
}

func host(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestTemplateReachesNoSecret: neither by name, nor by printing all there is.
func TestTemplateReachesNoSecret(t *testing.T) {
	c := notify.Config{
		Type: "webhook", Token: secret(secretText), Headers: map[string]strictconf.Secret{"X-Key": secret("another-secret")},
		Text: `{{printf "%+v %#v %T" . . .}}`,
	}
	got := told(t, "watchdog", c, message())
	for _, s := range []string{secretText, "another-secret", "127.0.0.1", "redacted"} {
		if strings.Contains(got, s) {
			t.Errorf("the message holds %q: %s", s, got)
		}
	}
	for f := range reflect.TypeFor[notify.Config]().Fields() { // nor any key of the configuration, but those that are a field of a message too
		switch f.Name {
		case "Event", "Subject", "Text":
			continue
		}
		if _, err := notify.Channels("", []notify.Config{{Type: "exec", Command: []string{"/bin/true"}, Text: "{{." + f.Name + "}}"}}); err == nil {
			t.Errorf("a template can name %s", f.Name)
		}
	}
}

// FuzzTemplate: whatever is written there, it is refused with a reason, or gives a message; it does not panic or hang.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{{.Event}}", "{{range 9}}{{.}}{{end}}", "{{with $x := .Text}}{{$x}}{{end}}", "{{(print .Text).Foo}}", `{{block "a" .}}{{end}}`, "{{break}}", "{{- /* a */ -}}", "{{call .Text}}", "{{len .}}", "{{.Text.Len}}", "{{else if}}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 200 {
			return // a width in printf can ask for as much memory as there is
		}
		for _, digits := range []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"} {
			text = strings.ReplaceAll(text, digits+"0", digits)
			text = strings.ReplaceAll(text, digits+digits, digits)
		}
		channels, err := notify.Channels("watchdog", []notify.Config{{Type: "exec", Command: []string{"/bin/true"}, Text: text}})
		if err != nil {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = channels[0].Send(ctx, message())
	})
}
