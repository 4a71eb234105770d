package sshjump

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes notes the size of each write, and fails those of more bytes than limit.
type writes struct {
	net.Conn
	limit int

	mu    sync.Mutex
	sizes []int
}

var errTooLong = errors.New("too long")

func (w *writes) Write(p []byte) (int, error) {
	if w.limit > 0 && len(p) > w.limit {
		return 0, errTooLong
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sizes = append(w.sizes, len(p))
	return len(p), nil
}

func (w *writes) made() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sizes)
}

func TestGather(t *testing.T) {
	const half = halfPacket
	type step struct {
		write  int
		cork   bool
		uncork bool
		wait   time.Duration
	}
	tests := []struct {
		name  string
		steps []step
		want  []int
	}{
		{"what is small leaves at once", []step{{write: 100}, {write: 200}}, []int{100, 200}},
		{"a packet in two writes", []step{{write: half}, {write: 20_000}}, []int{half + 20_000}},
		{"a packet in three writes, the last of them short", []step{{write: half}, {write: half}, {write: 30}}, []int{2 * half, 30}},
		{"a packet of just that size", []step{{write: half}, {wait: longestHeld}}, []int{half}},
		{"and not before", []step{{write: half}, {wait: longestHeld - 1}}, nil},
		{"corked", []step{{cork: true}, {write: 100}, {write: half}, {write: 200}, {uncork: true}}, []int{half + 300}},
		{"corked twice", []step{{cork: true}, {cork: true}, {write: 100}, {uncork: true}, {write: 200}, {uncork: true}}, []int{300}},
		{"whoever waits while corked", []step{{cork: true}, {write: 100}, {wait: longestHeld}, {write: 200}, {uncork: true}}, []int{100, 200}},
		{"held since the first", []step{{cork: true}, {write: 100}, {wait: longestHeld / 2}, {write: 200}, {wait: longestHeld / 2}}, []int{300}},
		{"no more than that", []step{{cork: true}, {write: mostHeld - 1}, {write: 10}, {write: 5}, {uncork: true}}, []int{mostHeld + 9, 5}},
		{"nothing", []step{{cork: true}, {uncork: true}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &writes{}
				g := newGather(conn)
				for _, s := range test.steps {
					switch {
					case s.cork:
						g.cork()
					case s.uncork:
						if err := g.uncork(); err != nil {
							t.Error(err)
						}
					case s.wait > 0:
						time.Sleep(s.wait)
						synctest.Wait()
					default:
						if n, err := g.Write(make([]byte, s.write)); n != s.write || err != nil {
							t.Errorf("write: %d, %v", n, err)
						}
					}
				}
				if got := conn.made(); !slices.Equal(got, test.want) {
					t.Errorf("writes of %d bytes, want %d", got, test.want)
				}
				time.Sleep(time.Second) // nothing of it is left behind
			})
		})
	}
}

// TestGatherError: what could not be sent behind the caller's back is what the
// next one hears.
func TestGatherError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGather(&writes{limit: 10})
		if _, err := g.Write(make([]byte, halfPacket)); err != nil {
			t.Error(err)
		}
		time.Sleep(longestHeld)
		synctest.Wait()
		for range 2 {
			if _, err := g.Write([]byte("x")); !errors.Is(err, errTooLong) {
				t.Errorf("write after a failure: %v", err)
			}
		}
		g.cork()
		if err := g.uncork(); !errors.Is(err, errTooLong) {
			t.Errorf("uncork after a failure: %v", err)
		}
	})
}
