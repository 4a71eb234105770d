package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"releve/internal/notify"
	"releve/internal/strictconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretText = "s3cr3t-t0ken/+&é"

func secret(s string) strictconf.Secret { return strictconf.NewSecret(s) }

func message() notify.Message {
	return notify.Message{
		Event: "failed_over", Key: "www.example.net/7", About: "www.example.net", Subject: "www.example.net is served by the standby",
		Text: "prod <203.0.113.10> & co. did not answer.\nThe DNS was switched.", Severity: notify.Critical,
		Time: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC),
	}
}

// services are the channels that speak HTTP, with what each service documents.
func services(base string) []struct {
	notify.Config
	method, path string
	header       map[string]string
	body         string
} {
	m := message()
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	whole := quote(m.Subject + "\n\n" + m.Text)
	token := secret(secretText)
	return []struct {
		notify.Config
		method, path string
		header       map[string]string
		body         string
	}{
		{
			Config: notify.Config{Type: "ifttt", Event: "prod_down", Key: token, URL: secret(base)},
			method: "POST", path: "/trigger/prod_down/with/key/" + url.PathEscape(secretText),
			body: fmt.Sprintf(`{"value1":%s,"value2":%s,"value3":"failed_over"}`, quote(m.Subject), quote(m.Text)),
		},
		{
			Config: notify.Config{Type: "ntfy", Topic: "alarms", Token: token, URL: secret(base + "/")},
			method: "POST", path: "/", header: map[string]string{"Authorization": "Bearer " + secretText},
			body: fmt.Sprintf(`{"topic":"alarms","title":%s,"message":%s,"priority":5,"tags":["failed_over"]}`, quote(m.Subject), quote(m.Text)),
		},
		{
			Config: notify.Config{Type: "gotify", Token: token, URL: secret(base + "/gotify/")},
			method: "POST", path: "/gotify/message", header: map[string]string{"X-Gotify-Key": secretText},
			body: fmt.Sprintf(`{"title":%s,"message":%s,"priority":8}`, quote(m.Subject), quote(m.Text)),
		},
		{
			Config: notify.Config{Type: "telegram", Token: secret("123456:AAbbCCdd_ee-ff"), Chat: "-1001", URL: secret(base)},
			method: "POST", path: "/bot123456:AAbbCCdd_ee-ff/sendMessage",
			body: fmt.Sprintf(`{"chat_id":"-1001","text":%s}`, whole),
		},
		{
			Config: notify.Config{Type: "discord", URL: secret(base + "/api/webhooks/123456789/AbCdEfGhIjKlMn")},
			method: "POST", path: "/api/webhooks/123456789/AbCdEfGhIjKlMn",
			body: fmt.Sprintf(`{"content":%s,"allowed_mentions":{"parse":[]}}`, quote("**"+m.Subject+"**\n"+m.Text)),
		},
		{
			Config: notify.Config{Type: "slack", URL: secret(base + "/services/T0AAAAAA/B0BBBBBB/XyZxYzXyZxYz")},
			method: "POST", path: "/services/T0AAAAAA/B0BBBBBB/XyZxYzXyZxYz",
			body: fmt.Sprintf(`{"text":%s}`, quote("*"+m.Subject+"*\nprod &lt;203.0.113.10&gt; &amp; co. did not answer.\nThe DNS was switched.")),
		},
		{
			Config: notify.Config{Type: "matrix", Token: token, Room: "!abc:example.net", URL: secret(base)},
			method: "PUT", path: "/_matrix/client/v3/rooms/%21abc:example.net/send/m.room.message/www.example.net%2F7",
			header: map[string]string{"Authorization": "Bearer " + secretText},
			body:   fmt.Sprintf(`{"msgtype":"m.text","body":%s}`, whole),
		},
		{
			Config: notify.Config{Type: "pushover", Token: secret("azGDORePK8gMaC0QOYAMyEEuzJnyUi"), User: "uQiRzpo4DXghDmr9QzzfQu27cmVRsG", URL: secret(base)},
			method: "POST", path: "/1/messages.json", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
			body: "message=" + url.QueryEscape(m.Text) + "&priority=1&timestamp=1795316645&title=" + url.QueryEscape(m.Subject) +
				"&token=azGDORePK8gMaC0QOYAMyEEuzJnyUi&user=uQiRzpo4DXghDmr9QzzfQu27cmVRsG",
		},
		{
			Config: notify.Config{Type: "webhook", URL: secret(base + "/hook/?id=topsecretid"), Token: token, Headers: map[string]strictconf.Secret{"X-Api-Key": secret("another-secret")}},
			method: "POST", path: "/hook/?id=topsecretid", header: map[string]string{"Authorization": "Bearer " + secretText, "X-Api-Key": "another-secret"},
			body: fmt.Sprintf(`{"event":"failed_over","key":"www.example.net/7","about":"www.example.net","reminder":false,"severity":"critical","subject":%s,"text":%s,"time":"2026-11-22T03:04:05Z"}`, quote(m.Subject), quote(m.Text)),
		},
		{
			Config: notify.Config{Type: "webhook", Name: "ping", Method: "GET", URL: secret(base + "/ping/0123456789abcdef")},
			method: "GET", path: "/ping/0123456789abcdef",
		},
	}
}

// channel makes the one channel of a configuration.
func channel(t *testing.T, c notify.Config) notify.Channel {
	t.Helper()
	channels, err := notify.Channels("", []notify.Config{c})
	if err != nil {
		t.Fatal(err)
	}
	return channels[0]
}

func TestServicesAreSentWhatTheyDocument(t *testing.T) {
	type got struct {
		method, path, body string
		header             http.Header
	}
	seen := make(chan got, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- got{r.Method, r.URL.RequestURI(), string(body), r.Header}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	for _, s := range services(server.URL) {
		t.Run(s.ChannelName(), func(t *testing.T) {
			if err := channel(t, s.Config).Send(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			g := <-seen
			if g.method != s.method || g.path != s.path {
				t.Errorf("%s %s, want %s %s", g.method, g.path, s.method, s.path)
			}
			for name, value := range s.header {
				if g.header.Get(name) != value {
					t.Errorf("%s: %q, want %q", name, g.header.Get(name), value)
				}
			}
			if s.header["Content-Type"] == "" && s.body != "" && g.header.Get("Content-Type") != "application/json" {
				t.Errorf("Content-Type: %q", g.header.Get("Content-Type"))
			}
			if !sameBody(g.body, s.body) {
				t.Errorf("body\n%s\nwant\n%s", g.body, s.body)
			}
		})
	}
}

func sameBody(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	return reflect.DeepEqual(x, y)
}

// secretsOf are the texts that must not be seen.
func secretsOf(c notify.Config) []string {
	out := []string{secretText, url.PathEscape(secretText), url.QueryEscape(secretText), "another-secret"}
	if c.Type == "pushover" {
		out = append(out, c.User)
	}
	for _, s := range []strictconf.Secret{c.Token, c.Key, c.Password} {
		if !s.IsZero() {
			out = append(out, s.Reveal())
		}
	}
	if u, err := url.Parse(c.URL.Reveal()); err == nil {
		for _, p := range strings.FieldsFunc(u.RequestURI(), func(r rune) bool { return strings.ContainsRune("/?=&", r) }) {
			if len(p) > 7 {
				out = append(out, p)
			}
		}
	}
	return out
}

// TestErrorsHoldNoSecret: however the sending fails, and whatever the service sends back.
func TestErrorsHoldNoSecret(t *testing.T) {
	echo := func(status int, pad int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			dump, _ := httputil.DumpRequest(r, true)
			w.Header().Set("Location", r.URL.String())
			w.WriteHeader(status)
			io.WriteString(w, strings.Repeat(".", pad)+"\x1b[31m")
			w.Write(dump)
		})
	}
	hang := make(chan struct{})
	faults := map[string]http.Handler{
		"echo 400":  echo(400, 0),
		"echo 302":  echo(302, 0),
		"cut short": echo(500, 200), // the excerpt ends in the middle of something
		"reset": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}),
		"silence": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-hang }),
	}
	for name, handler := range faults {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		for _, s := range services(server.URL) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := channel(t, s.Config).Send(ctx, message())
			cancel()
			checkSecrets(t, name+": "+s.ChannelName(), err, s.Config)
		}
	}
	close(hang)
	for cut := 300; cut < 520; cut += 4 { // wherever the excerpt ends, it is not in the middle of a secret
		c := notify.Config{Type: "webhook", URL: secret("http://nowhere.invalid/"), Token: secret(strings.Repeat("0123456789", 4))}
		text := strings.Repeat(".", cut) + c.Token.Reveal() + strings.Repeat(".", 100)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, text)
		}))
		c.URL = secret(server.URL)
		checkSecrets(t, fmt.Sprintf("cut at %d", cut), channel(t, c).Send(t.Context(), message()), c)
		server.Close()
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for name, base := range map[string]string{
		"refused": closed.URL, "unknown certificate": secure.URL, "no such host": "http://nowhere.invalid", "bad URL": "http://host:port",
	} {
		for _, s := range services(base) {
			checkSecrets(t, name+": "+s.ChannelName(), channel(t, s.Config).Send(t.Context(), message()), s.Config)
		}
	}
}

// TestRedirectIsNotFollowed: it would carry the message, and the secret, to somebody else.
func TestRedirectIsNotFollowed(t *testing.T) {
	reached := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached <- r.URL.String() }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	for _, s := range services(server.URL) {
		if err := channel(t, s.Config).Send(t.Context(), message()); err == nil || !strings.Contains(err.Error(), "307") {
			t.Errorf("%s: error %v", s.ChannelName(), err)
		}
	}
	if len(reached) > 0 {
		t.Error("it was")
	}
}

func checkSecrets(t *testing.T, what string, err error, c notify.Config) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, s := range secretsOf(c) {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error holds %q: %v", what, s, err)
		}
		// Nor its beginning, cut off.
		if len(s) > 10 && strings.Contains(err.Error(), s[:10]) {
			t.Errorf("%s: the error holds the beginning of %q: %v", what, s, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("%s: control characters: %q", what, err)
	}
}

func TestRedactedSpellings(t *testing.T) {
	c := notify.Config{Type: "smtp", User: "me", Password: secret(secretText)}
	for _, text := range []string{
		"535 " + secretText, `{"password":"s3cr3t-t0ken/+\u0026é"}`, "AG1lAHMzY3IzdC10MGtlbi8rJsOp", url.QueryEscape(secretText),
	} {
		err := notify.Redacted(c, fmt.Errorf("said: %s", text))
		if !strings.Contains(err.Error(), "(redacted)") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q became %q", text, err)
		}
	}
}

func TestUnknownTypeIsRefused(t *testing.T) {
	_, err := notify.Channels("", []notify.Config{{Type: "pigeon", Name: "roof"}, {Type: "exec"}})
	if err == nil || !strings.Contains(err.Error(), "roof") || !strings.Contains(err.Error(), "exec") {
		t.Errorf("error %v", err)
	}
}
