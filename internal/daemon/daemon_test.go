package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"releve/internal/daemon"
)

func TestMain(m *testing.M) {
	if os.Getenv("DAEMON_TEST_CHILD") != "" {
		child()
	}
	goleak.VerifyTestMain(m)
}

// untilStopped is a task that takes a while to end.
func untilStopped(name string, tidy time.Duration, err error, ended *[]string) daemon.Task {
	return daemon.Task{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(tidy)
		*ended = append(*ended, name)
		if err == nil {
			return ctx.Err()
		}
		return err
	}}
}

func after(name string, d time.Duration, err error) daemon.Task {
	return daemon.Task{Name: name, Run: func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return fmt.Errorf("wait: %w", context.Cause(ctx))
		}
	}}
}

func TestRun(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, c := range map[string]struct {
		stop  time.Duration // of the context
		tasks []daemon.Task
		tidy  error // of the task that is stopped last
		want  string
		took  time.Duration
	}{
		"first failure ends all":       {time.Hour, []daemon.Task{after("push", time.Minute, broken)}, nil, "push: disk on fire", time.Minute + 5*time.Second},
		"first end ends all":           {time.Hour, []daemon.Task{after("push", time.Minute, nil), after("late", time.Hour, broken)}, nil, "", time.Minute + 5*time.Second},
		"a signal is no failure":       {time.Second, []daemon.Task{after("push", time.Minute, broken)}, nil, "", 6 * time.Second},
		"failure while stopping":       {time.Second, nil, broken, "status: disk on fire", 6 * time.Second},
		"both failures, in order":      {time.Hour, []daemon.Task{after("push", time.Minute, errors.New("gone"))}, broken, "push: gone\nstatus: disk on fire", time.Minute + 5*time.Second},
		"a cancel of its own is a one": {time.Hour, []daemon.Task{after("push", time.Minute, context.Canceled)}, nil, "push: context canceled", time.Minute + 5*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), c.stop, errors.New("terminated"))
				defer cancel()
				start := time.Now()
				var ended []string
				err := daemon.Run(ctx, append(c.tasks, untilStopped("status", 5*time.Second, c.tidy, &ended))...)
				got := ""
				if err != nil {
					got = err.Error()
				}
				if got != c.want {
					t.Errorf("error %q, want %q", got, c.want)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("returned after %v, want %v", took, c.took)
				}
				if len(ended) != 1 {
					t.Error("the last task was not waited for")
				}
			})
		})
	}
	if err := daemon.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCauseNamesTheTask(t *testing.T) {
	var cause error
	_ = daemon.Run(t.Context(), after("push", 0, nil), daemon.Task{Name: "watch", Run: func(ctx context.Context) error {
		<-ctx.Done()
		cause = context.Cause(ctx)
		return nil
	}})
	if cause == nil || cause.Error() != "push has ended" {
		t.Error(cause)
	}
}

// child is this test binary as a daemon: it says when it is ready and when it was told to stop, and then hangs.
func child() {
	ctx, _ := daemon.Signals(context.Background())
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println(context.Cause(ctx))
	if os.Getenv("DAEMON_TEST_CHILD") == "hang" {
		select {}
	}
	os.Exit(0)
}

// TestSignals: the first signal asks, the second one does not.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, hang := range []bool{false, true} {
			t.Run(fmt.Sprint(sig, hang), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(os.Environ(), "DAEMON_TEST_CHILD="+map[bool]string{true: "hang", false: "end"}[hang])
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				read := func() string {
					buf := make([]byte, 100)
					n, _ := out.Read(buf)
					return strings.TrimSpace(string(buf[:n]))
				}
				if got := read(); got != "ready" {
					t.Fatal(got)
				}
				_ = cmd.Process.Signal(sig)
				if got := read(); !strings.Contains(got, sig.String()) {
					t.Errorf("cause %q does not name %v", got, sig)
				}
				if hang {
					_ = cmd.Process.Signal(sig)
				}
				_ = cmd.Wait()
				status := cmd.ProcessState.Sys().(syscall.WaitStatus)
				if hang && status.Signal() != sig || !hang && status.ExitStatus() != 0 {
					t.Errorf("ended by %v, status %d", status.Signal(), status.ExitStatus())
				}
			})
		}
	}
}

func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@releve-test-" + strconv.Itoa(os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		env := func(key string) string { return map[string]string{"NOTIFY_SOCKET": name}[key] }
		for want, send := range map[string]func() error{
			"READY=1":                         func() error { return daemon.Ready(env) },
			"STOPPING=1":                      func() error { return daemon.Stopping(env) },
			"WATCHDOG=1":                      func() error { return daemon.Watchdog(env) },
			"STATUS=in sync WATCHDOG=trigger": func() error { return daemon.Status(env, "in sync\nWATCHDOG=trigger\n") },
		} {
			if err := send(); err != nil {
				t.Error(err)
			}
			buf := make([]byte, 100)
			n, err := conn.Read(buf)
			if err != nil || string(buf[:n]) != want {
				t.Errorf("%q, %v, want %q", buf[:n], err, want)
			}
		}
		_ = conn.Close()
		if err := daemon.Ready(env); err == nil {
			t.Error("nobody listens, and no error")
		}
	}
	if err := daemon.Ready(func(string) string { return "" }); err != nil {
		t.Error(err)
	}
}

func TestWatchdogInterval(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"30000000", "", 15 * time.Second}, {"30000000", own, 15 * time.Second}, {"30000000", "1", 0},
		{"x", "", 0}, {"-1", "", 0}, {"0", "", 0}, {"9223372036854775807", "", 0},
	} {
		env := func(key string) string { return map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}[key] }
		if got := daemon.WatchdogInterval(env); got != c.want {
			t.Errorf("%q, %q: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}
