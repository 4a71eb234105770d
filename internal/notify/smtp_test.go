package notify_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/internal/notify"
)

// A mailServer is an SMTP server (RFC 5321) that knows just enough for these tests.
type mailServer struct {
	startTLS bool   // offered
	implicit bool   // TLS from the first byte
	auth     string // mechanisms offered, once encrypted or clear
	refuse   string // reply to AUTH and DATA, with what the client said
	rcpt     string // reply to RCPT, if it is another one than 250
	silent   bool   // says nothing, ever
	rude     bool   // hangs up when it has taken the mail

	address string
	tls     *tls.Config
	roots   *x509.CertPool
	got     chan delivered
}

type delivered struct {
	from, data, login string
	to                []string
	encrypted         bool
}

func (s *mailServer) start(t *testing.T) *mailServer {
	t.Helper()
	web := httptest.NewTLSServer(nil) // it has a certificate for 127.0.0.1 at hand
	s.tls = &tls.Config{Certificates: web.TLS.Certificates}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(web.Certificate())
	web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.got = make(chan delivered, 10)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				s.talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		start := time.Now()
		all.Wait()
		if time.Since(start) > 5*time.Second {
			t.Error("a connection was left open")
		}
	})
	return s
}

func (s *mailServer) talk(conn net.Conn) {
	if s.silent {
		io.Copy(io.Discard, conn)
		return
	}
	var d delivered
	if s.implicit {
		conn = tls.Server(conn, s.tls)
		d.encrypted = true
	}
	r := bufio.NewReader(conn)
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	say("220 test ESMTP")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			say("250-test")
			if s.startTLS && !d.encrypted {
				say("250-STARTTLS")
			}
			if s.auth != "" {
				say("250-AUTH %s", s.auth)
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go on")
			secure := tls.Server(conn, s.tls)
			if secure.Handshake() != nil {
				return
			}
			conn, r, d.encrypted = secure, bufio.NewReader(secure), true
		case "AUTH":
			_, response, _ := strings.Cut(rest, " ")
			text, _ := base64.StdEncoding.DecodeString(response)
			d.login = string(text)
			if s.refuse != "" {
				say("535 %s: %s %q", s.refuse, response, text)
				continue
			}
			say("235 welcome")
		case "MAIL":
			d.from = rest
			say("250 ok")
		case "RCPT":
			d.to = append(d.to, rest)
			say("%s", cmp.Or(s.rcpt, "250 ok"))
		case "DATA":
			say("354 go on")
			var data strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				data.WriteString(line)
			}
			d.data = data.String()
			s.got <- d
			say("250 taken")
			if s.rude {
				return
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func mailConfig(server, mode string) notify.Config {
	return notify.Config{Type: "smtp", Server: server, TLS: mode, From: "Relève <watchdog@example.net>", To: "me@example.net, you@example.org"}
}

func TestMailArrives(t *testing.T) {
	s := (&mailServer{}).start(t)
	if err := channel(t, mailConfig(s.address, "")).Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	d := <-s.got
	if !strings.Contains(d.from, "<watchdog@example.net>") || len(d.to) != 2 || !strings.Contains(d.to[1], "<you@example.org>") {
		t.Errorf("envelope %q %q", d.from, d.to)
	}
	m, err := mail.ReadMessage(strings.NewReader(d.data))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != message().Subject {
		t.Errorf("subject %q, %v", subject, err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if got := strings.ReplaceAll(strings.TrimSpace(string(text)), "\r\n", "\n"); err != nil || got != message().Text {
		t.Errorf("text %q, %v", got, err)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(message().Time) {
		t.Errorf("date %v, %v", date, err)
	}
	if m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Importance") != "urgent" {
		t.Errorf("header %v", m.Header)
	}
	if err := channel(t, mailConfig(s.address, "none")).Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	again, err := mail.ReadMessage(strings.NewReader((<-s.got).data))
	if err != nil || again.Header.Get("Message-ID") != m.Header.Get("Message-ID") {
		t.Errorf("the second attempt has another Message-ID: %q, %q, %v", m.Header.Get("Message-ID"), again.Header.Get("Message-ID"), err)
	}
}

func TestMailIsEncryptedAsAsked(t *testing.T) {
	const login = "\x00me\x00" + secretText
	for _, test := range []struct {
		name      string
		server    mailServer
		mode      string
		password  bool
		trusted   bool
		encrypted bool
		err       string // part of it; "" = it goes out
	}{
		{name: "auto on this machine", server: mailServer{startTLS: true}},
		{name: "auto on this machine, password", server: mailServer{auth: "LOGIN PLAIN"}, password: true},
		{name: "none", server: mailServer{startTLS: true}, mode: "none"},
		{name: "starttls", server: mailServer{startTLS: true}, mode: "starttls", trusted: true, encrypted: true},
		{name: "starttls, password", server: mailServer{startTLS: true, auth: "PLAIN"}, mode: "starttls", trusted: true, password: true, encrypted: true},
		{name: "starttls, not offered", mode: "starttls", trusted: true, err: "STARTTLS"},
		{name: "starttls, not trusted", server: mailServer{startTLS: true, auth: "PLAIN"}, mode: "starttls", password: true, err: "certificate"},
		{name: "tls", server: mailServer{implicit: true}, mode: "tls", trusted: true, encrypted: true},
		{name: "tls, password", server: mailServer{implicit: true, auth: "PLAIN LOGIN"}, mode: "tls", trusted: true, password: true, encrypted: true},
		{name: "tls, not trusted", server: mailServer{implicit: true, auth: "PLAIN"}, mode: "tls", password: true, err: "certificate"},
		{name: "tls, spoken to a server without", mode: "tls", trusted: true, err: "tls"},
		{name: "password, no auth offered", server: mailServer{startTLS: true}, mode: "starttls", trusted: true, password: true, err: "AUTH"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.server.start(t)
			c := mailConfig(s.address, test.mode)
			if test.password {
				c.User, c.Password = "me", secret(secretText)
			}
			var roots *x509.CertPool
			if test.trusted {
				roots = s.roots
			}
			ch, err := notify.SMTPWith(c, roots)
			if err != nil {
				t.Fatal(err)
			}
			err = ch.Send(t.Context(), message())
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				if len(s.got) > 0 {
					t.Error("the mail went out all the same")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d := <-s.got
			if d.encrypted != test.encrypted {
				t.Errorf("encrypted: %v", d.encrypted)
			}
			if test.password && d.login != login {
				t.Errorf("login %q", d.login)
			}
		})
	}
}

// TestMailIsNotSentTwiceForAFarewell: what the server has taken must not be tried again.
func TestMailIsNotSentTwiceForAFarewell(t *testing.T) {
	s := (&mailServer{rude: true}).start(t)
	if err := channel(t, mailConfig(s.address, "none")).Send(t.Context(), message()); err != nil {
		t.Error(err)
	}
	<-s.got
}

func TestMailErrorsHoldNoSecret(t *testing.T) {
	s := (&mailServer{auth: "PLAIN", refuse: "go away"}).start(t)
	c := mailConfig(s.address, "none")
	c.User, c.Password = "me", secret(secretText)
	err := channel(t, c).Send(t.Context(), message())
	checkSecrets(t, "refused", err, c)
	if !strings.Contains(err.Error(), "go away") {
		t.Errorf("error %v does not say why", err)
	}
	if encoded := base64.StdEncoding.EncodeToString([]byte("\x00me\x00" + secretText)); strings.Contains(err.Error(), encoded) {
		t.Errorf("the error holds the login: %v", err)
	}
}

// TestMailIsRefused: for good, or for now.
func TestMailIsRefused(t *testing.T) {
	for _, c := range []struct {
		server mailServer
		user   string
		good   bool
		says   string
	}{
		{mailServer{rcpt: "550 no such user"}, "", true, "no such user"},
		{mailServer{rcpt: "451 greylisted, come back in a minute"}, "", false, "greylisted"},
		{mailServer{auth: "PLAIN", refuse: "wrong password"}, "me", true, "wrong password"},
	} {
		s := c.server.start(t)
		config := mailConfig(s.address, "none")
		if c.user != "" {
			config.User, config.Password = c.user, secret(secretText)
		}
		err := channel(t, config).Send(t.Context(), message())
		if refused, _ := notify.Refusal(err); err == nil || refused != c.good || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: refused for good: %v, %v", c.says, refused, err)
		}
	}
}

// TestMailGivesUpWithItsContext: the library alone would wait for its deadline.
func TestMailGivesUpWithItsContext(t *testing.T) {
	for _, mode := range []string{"none", "tls"} {
		s := (&mailServer{silent: true}).start(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := channel(t, mailConfig(s.address, mode)).Send(ctx, message())
		cancel()
		if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("%s: error %v", mode, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: it took %v", mode, d)
		}
	}
}

func TestCommandIsRun(t *testing.T) {
	out := t.TempDir() + "/out"
	c := notify.Config{Type: "exec", Command: []string{"sh", "-c", "env | sort >" + out + "; cat >>" + out}}
	if err := channel(t, c).Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(readFile(t, out), "\n")
	for _, want := range []string{
		"RELEVE_EVENT=failed_over", "RELEVE_KEY=www.example.net/7", "RELEVE_SEVERITY=critical",
		"RELEVE_SUBJECT=" + message().Subject, "RELEVE_TIME=2026-11-22T03:04:05Z", "The DNS was switched.",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing in %q", want, lines)
		}
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "HOME=") || strings.HasPrefix(line, "GO") {
			t.Errorf("the daemon's environment leaked: %q", line)
		}
	}
}

func TestCommandThatFails(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"exit code": {"echo sorry; exit 3", "exit status 3: sorry"},
		"flood":     {"yes | head -c 10000000; exit 1", "y y y"},
		"hangs":     {"sleep 1000 & sleep 1000", context.DeadlineExceeded.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := channel(t, notify.Config{Type: "exec", Command: []string{"sh", "-c", test.script}}).Send(ctx, message())
			if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000 {
				t.Errorf("error %v", err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	pidFile := t.TempDir() + "/pid"
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c := notify.Config{Type: "exec", Command: []string{"sh", "-c", "sleep 1000 & echo $! >" + pidFile + "; wait"}}
	if err := channel(t, c).Send(ctx, message()); err == nil {
		t.Error("no error")
	}
	if state := processState(t, strings.TrimSpace(readFile(t, pidFile))); state != "" && state != "Z" {
		t.Errorf("a grandchild lives on: %s", state)
	}
	err := channel(t, notify.Config{Type: "exec", Command: []string{"/nonexistent"}}).Send(t.Context(), message())
	if err == nil {
		t.Error("no error from a command that is not there")
	}
}

// processState is the letter of proc_pid_stat(5); "" when there is no such process, "Z" when nobody has waited for it yet.
func processState(t *testing.T, pid string) string {
	t.Helper()
	for range 100 { // a signal takes its time
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return ""
		}
		_, after, _ := strings.Cut(string(text), ") ")
		if after[:1] == "Z" {
			return "Z"
		}
		<-time.After(10 * time.Millisecond)
	}
	return "alive"
}

func TestTestReachesEveryChannel(t *testing.T) {
	bad := errors.New("refused")
	channels := []notify.Channel{
		{Name: "good", Events: []string{"other"}, Send: func(context.Context, notify.Message) error { return nil }},
		{Name: "bad", Send: func(context.Context, notify.Message) error { return bad }},
	}
	var out strings.Builder
	if notify.Test(t.Context(), &out, "the watchdog", channels) {
		t.Error("all is said to be well")
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "✓ good: delivered in ") || lines[1] != "✗ bad: refused" {
		t.Errorf("said:\n%s", out.String())
	}
	out.Reset()
	if !notify.Test(t.Context(), &out, "the watchdog", channels[:1]) {
		t.Errorf("said:\n%s", out.String())
	}
}
