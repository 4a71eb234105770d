package notify_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/notify"
	"releve/internal/strictconf"
)

const pingURL = "https://hc-ping.example.net/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"

// switchboard answers pings and remembers when they came.
type switchboard struct {
	mu    sync.Mutex
	times []time.Time
	fault func(ctx context.Context) (int, error)
}

func (s *switchboard) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	fault := s.fault
	s.mu.Unlock()
	status := 200
	if fault != nil {
		var err error
		if status, err = fault(r.Context()); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader("said " + r.URL.String())), Request: r}, nil
}

func (s *switchboard) set(fault func(context.Context) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// pings is how many have come since the last question.
func (s *switchboard) pings() int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.times)
	s.times = nil
	return n
}

func newDeadman(t *testing.T) (*notify.Deadman, *switchboard) {
	t.Helper()
	d := notify.NewDeadman(&notify.DeadmanConfig{URL: secret(pingURL), Interval: strictconf.Duration(time.Minute)})
	s := &switchboard{}
	d.Through(s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return d, s
}

// beat beats every 5 s for so long, as a loop would.
func beat(d *notify.Deadman, parts []string, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(5 * time.Second) {
		for _, p := range parts {
			d.Beat(p)
		}
	}
}

// TestPingsProveThatEveryLoopTurns: at their interval while all do; none before each has, none once one hangs.
func TestPingsProveThatEveryLoopTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDeadman(t)
		d.Watch("a", 12*time.Second)
		d.Watch("b", 12*time.Second)
		time.Sleep(10 * time.Minute)
		if n := s.pings(); n > 0 {
			t.Errorf("%d pings though nothing has been done", n)
		}
		beat(d, []string{"a"}, 10*time.Minute)
		if n := s.pings(); n > 0 {
			t.Errorf("%d pings though one loop has not turned yet", n)
		}
		beat(d, []string{"a", "b"}, 10*time.Minute)
		if n := s.pings(); n != 10 {
			t.Errorf("%d pings in ten minutes", n)
		}
		beat(d, []string{"a"}, 20*time.Second) // b hangs
		s.pings()
		beat(d, []string{"a"}, time.Hour)
		if n := s.pings(); n > 0 {
			t.Errorf("%d pings though one loop hangs", n)
		}
		time.Sleep(time.Hour) // both do
		if n := s.pings(); n > 0 {
			t.Errorf("%d pings though both hang", n)
		}
		beat(d, []string{"a", "b"}, time.Minute)
		if n := s.pings(); n != 1 {
			t.Errorf("%d pings in the first minute after", n)
		}
	})
}

// TestFailingPingsDelayNothing: a beat takes no time, whatever the service does; it is told, without the URL, and tried again.
func TestFailingPingsDelayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDeadman(t)
		d.Watch("a", time.Minute)
		s.set(func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, context.Cause(ctx) })
		began := time.Now()
		for range 10_000 {
			d.Beat("a")
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("beats took %v", took)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if st := d.State(); st.Failed != 1 || !strings.Contains(st.Err, "no answer in time") {
			t.Errorf("%+v", st)
		}
		s.set(func(context.Context) (int, error) { return 404, nil })
		beat(d, []string{"a"}, time.Minute)
		if n := s.pings(); n < 4 || n > 7 {
			t.Errorf("%d attempts in a minute", n)
		}
		st := d.State()
		if !strings.Contains(st.Err, "404") || strings.Contains(st.Err, "5bf66975") || !st.LastPing.IsZero() {
			t.Errorf("%+v", st)
		}
		s.set(nil)
		beat(d, []string{"a"}, 2*time.Minute)
		if st := d.State(); st.Err != "" || st.Succeeded < 1 || time.Since(st.LastPing) > time.Minute+10*time.Second {
			t.Errorf("%+v", st)
		}
	})
}

// TestPing is what goes over the wire.
func TestPing(t *testing.T) {
	seen := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.URL.RequestURI()
	}))
	defer server.Close()
	d := notify.NewDeadman(&notify.DeadmanConfig{URL: secret(server.URL + "/push/abc?status=up"), Interval: strictconf.Duration(time.Minute)})
	d.Watch("a", time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	d.Beat("a")
	if got := <-seen; got != "GET /push/abc?status=up" {
		t.Error(got)
	}
	cancel()
	<-done
}

func TestNoDeadman(t *testing.T) {
	d := notify.NewDeadman(nil)
	d.Watch("a", time.Minute)
	d.Beat("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err != nil || d.State() != (notify.DeadmanState{}) {
		t.Error(err, d.State())
	}
}
