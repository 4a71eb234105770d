package report_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"releve/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run starts s and ends it with the test, or before by the returned function.
func run(t *testing.T, s *report.Server) (stop func()) {
	t.Helper()
	must(t, s.Bind())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func client(s *report.Server) report.Client {
	return report.Client{Program: "syncagent", Socket: s.Socket}
}

func TestStatusOverTheSocket(t *testing.T) {
	s := &report.Server{Socket: filepath.Join(t.TempDir(), "run", "a.sock"), Status: func() any { return map[string]any{"state": "ok", "n": 3} }}
	stop := run(t, s)
	var got struct {
		State string
		N     int
	}
	if err := client(s).Fetch(t.Context(), &got); err != nil || got.State != "ok" || got.N != 3 {
		t.Error(got, err)
	}
	var raw json.RawMessage
	if err := client(s).Fetch(t.Context(), &raw); err != nil || !strings.HasPrefix(string(raw), "{\n  \"n\": 3") {
		t.Errorf("%s %v", raw, err)
	}
	stop()
	if _, err := os.Lstat(s.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the socket was left behind", err)
	}
	err := client(s).Fetch(t.Context(), &got)
	want := "syncagent is not running (no answer on " + s.Socket + "); start it with: systemctl start syncagent"
	if err == nil || err.Error() != want || !errors.Is(err, report.ErrNotRunning) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestControl(t *testing.T) {
	hungUp := make(chan error, 1)
	entered := make(chan struct{}, 1)
	s := &report.Server{Socket: filepath.Join(t.TempDir(), "a.sock"), Control: map[string]report.Command{
		"approve": func(_ context.Context, args []string) (string, error) {
			return fmt.Sprintf("approved %q", args), nil
		},
		"fail over": func(context.Context, []string) (string, error) { return "A 192.0.2.1", errors.New("foreign records") },
		"wait": func(ctx context.Context, _ []string) (string, error) {
			entered <- struct{}{}
			<-ctx.Done()
			hungUp <- context.Cause(ctx)
			return "", ctx.Err()
		},
	}}
	stop := run(t, s)
	for _, c := range []struct {
		command string
		args    []string
		output  string
		err     string
	}{
		{"approve", []string{"web root", "\"x\"\n", ""}, `approved ["web root" "\"x\"\n" ""]`, ""},
		{"approve", nil, `approved []`, ""},
		{"fail over", nil, "A 192.0.2.1", "foreign records"},
		{"../status.json", nil, "", `the running syncagent does not know the command "../status.json" (is it another version?)`},
		{"approve", []string{strings.Repeat("x", 70<<10)}, "", "read arguments: http: request body too large"},
	} {
		output, err := client(s).Call(t.Context(), c.command, c.args...)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if output != c.output || got != c.err {
			t.Errorf("%s %.40q: %q, %q", c.command, c.args, output, got)
		}
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-entered; cancel(errors.New("interrupted")) }()
	if _, err := client(s).Call(ctx, "wait"); err == nil || err.Error() != "interrupted" {
		t.Error(err)
	}
	if err := <-hungUp; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	stop()
	ctx, cancel = context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	terminated := errors.New("terminated")
	go func() { <-entered; cancel(terminated) }()
	for { // until it is up again
		_, err := client(s).Call(t.Context(), "wait")
		if err == nil {
			t.Error("a command outlived its daemon")
		}
		if !errors.Is(err, report.ErrNotRunning) {
			break
		}
	}
	if err := <-hungUp; !errors.Is(err, terminated) {
		t.Errorf("the command was not told by the daemon's own context: %v", err)
	}
	must(t, <-done)
}

func TestSocketIsPrivate(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "run")
	s := &report.Server{Socket: filepath.Join(dir, "a.sock"), Status: func() any { return 1 }}
	run(t, s)
	for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, s.Socket: fs.ModeSocket | 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, want %v", path, info.Mode(), want)
		}
	}
}

// TestSocketRefusesOthers: even one who gets through to the socket, past its mode.
func TestSocketRefusesOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: asking as another user needs root")
	}
	dir, err := os.MkdirTemp("", "report")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	s := &report.Server{Socket: filepath.Join(dir, "a.sock"), Status: func() any { return "secret" }}
	run(t, s)
	as := func(uid uintptr) (answer string, err error) {
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with its goroutine and its user
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
				err = errno
				return
			}
			var conn net.Conn
			if conn, err = net.Dial("unix", s.Socket); err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /status.json HTTP/1.0\r\n\r\n")
			text, _ := io.ReadAll(conn)
			answer = string(text)
		})
		wg.Wait()
		return answer, err
	}
	if _, err := as(65534); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("connect as nobody: %v", err)
	}
	must(t, os.Chmod(s.Socket, 0o666))
	if answer, err := as(65534); err != nil || answer != "" {
		t.Errorf("nobody was answered %q, %v", answer, err)
	}
	if answer, err := as(0); err != nil || !strings.Contains(answer, "secret") {
		t.Errorf("root was answered %q, %v", answer, err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	s := &report.Server{Socket: filepath.Join(t.TempDir(), "a.sock"), Status: func() any { return 1 }}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Socket, Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	var v int
	if err := client(s).Fetch(t.Context(), &v); !errors.Is(err, report.ErrNotRunning) {
		t.Error(err)
	}
	must(t, os.WriteFile(s.Socket+"~", nil, 0o644)) // of one that was killed while it started
	run(t, s)
	must(t, client(s).Fetch(t.Context(), &v))
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := &report.Server{Socket: filepath.Join(dir, "a.sock"), Status: func() any { return 1 }}
	run(t, s)
	second := &report.Server{Socket: s.Socket}
	if err := second.Run(t.Context()); !errors.Is(err, report.ErrRunning) || !strings.Contains(err.Error(), s.Socket) {
		t.Error(err)
	}
	var v int
	must(t, client(s).Fetch(t.Context(), &v))

	// A program that does not know our lock.
	foreign, err := net.Listen("unix", filepath.Join(dir, "b.sock"))
	must(t, err)
	defer foreign.Close()
	if err := (&report.Server{Socket: filepath.Join(dir, "b.sock")}).Bind(); !errors.Is(err, report.ErrRunning) {
		t.Error(err)
	}
}

func TestOneOfManyStarts(t *testing.T) {
	dir := t.TempDir()
	for round := range 20 {
		path := filepath.Join(dir, fmt.Sprint(round))
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []*report.Server
		start := make(chan struct{})
		for range 10 {
			wg.Go(func() {
				s := &report.Server{Socket: path}
				<-start
				if err := s.Bind(); err == nil {
					mu.Lock()
					winners = append(winners, s)
					mu.Unlock()
				} else if !errors.Is(err, report.ErrRunning) {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if len(winners) != 1 {
			t.Errorf("%d daemons hold the socket", len(winners))
		}
		for _, s := range winners {
			must(t, s.Run(cancelled()))
		}
	}
}

func TestBindRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o644))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer busy.Close()
	for name, c := range map[string]struct {
		server report.Server
		want   string
	}{
		"a file":   {report.Server{Socket: file}, "something else"},
		"too long": {report.Server{Socket: filepath.Join(dir, strings.Repeat("x", 100))}, "more than the 106"},
		"busy": {report.Server{Listen: busy.Addr().String(), Socket: filepath.Join(dir, "a.sock")},
			"open status page: listen tcp " + busy.Addr().String() + ": bind: address already in use"},
	} {
		if err := c.server.Bind(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if text, err := os.ReadFile(file); string(text) != "precious" {
		t.Error(text, err)
	}
	must(t, (&report.Server{Socket: filepath.Join(dir, "a.sock")}).Run(cancelled()))
	must(t, (&report.Server{}).Run(cancelled()))
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestClientSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	hang, err := net.Listen("unix", filepath.Join(dir, "hang"))
	must(t, err)
	defer hang.Close()
	drop, err := net.Listen("unix", filepath.Join(dir, "drop"))
	must(t, err)
	defer drop.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer drop.Close()
	wg.Go(func() {
		for {
			conn, err := drop.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	odd := &report.Server{Socket: filepath.Join(dir, "odd"), Status: func() any { return "a string" }}
	run(t, odd)
	for socket, want := range map[string]string{
		"hang": "runs but does not answer",
		"drop": "hung up before it had answered",
		"odd":  "is it another version?",
		"none": "is not running",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		var v struct{}
		err := report.Client{Program: "watchdog", Socket: filepath.Join(dir, socket)}.Fetch(ctx, &v)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "watchdog") {
			t.Errorf("%s: %v, want %s", socket, err, want)
		}
	}
}

// get asks the web server by a Host of its own.
func get(t *testing.T, s *report.Server, method, path, host string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.WebAddr().String()+path, nil)
	must(t, err)
	request.Host = host
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return response, string(text)
}
