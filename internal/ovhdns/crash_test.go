package ovhdns_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

// killer passes calls on to a world until the k-th, at which it kills the
// caller: before the call is carried out, after it, or before and the call is
// carried out later all the same.
type killer struct {
	world http.Handler
	kill  context.CancelFunc
	k     int32
	when  string
	seen  atomic.Int32
	late  chan struct{} // closed when the late effect happened
}

func (k *killer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if k.seen.Add(1) != k.k {
		k.world.ServeHTTP(rw, r)
		return
	}
	if k.when == "before" {
		k.kill()
		panic(http.ErrAbortHandler)
	}
	answer := httptest.NewRecorder()
	switch k.when {
	case "after":
		k.world.ServeHTTP(answer, r)
		k.kill()
	case "late":
		k.kill()
		time.AfterFunc(10*time.Millisecond, func() {
			k.world.ServeHTTP(answer, r.WithContext(context.Background()))
			close(k.late)
		})
		<-k.late // the body of r lasts as long as its handler
	}
	panic(http.ErrAbortHandler)
}

// TestKilledAtEveryCall kills the process at its k-th call, for every k, and
// starts a new one, which resumes: the same end, and no second effect (W4).
func TestKilledAtEveryCall(t *testing.T) {
	for _, when := range []string{"before", "after", "late"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			for _, way := range [][2]ovhdns.Set{{prod, home}, {home, prod}} {
				from, to := way[0], way[1]
				for k, done := int32(1), false; !done; k++ {
					w := newWorld(t, ovhworld.Options{}, rows("www", from)...)
					ctx, cancel := context.WithCancelCause(t.Context())
					killed := errors.New("killed")
					h := &killer{world: w, kill: func() { cancel(killed) }, k: k, when: when, late: make(chan struct{})}
					endpoint := serve(t, h.ServeHTTP)
					cfg := config(endpoint)
					cfg.Settle = 40 * time.Millisecond

					first := newClient(t, cfg)
					out, err := first.Replace(ctx, zone, site, to, nil)
					done = ctx.Err() == nil
					if done != (err == nil) || !done && !errors.Is(err, killed) {
						t.Fatalf("call %d: %v", k, err)
					}
					// Nothing may be lost silently: what was written or may
					// have been is said to be unconfirmed.
					if len(writes(w)) > 0 && !done && !errors.Is(err, ovhdns.ErrUnconfirmed) {
						t.Errorf("call %d: written, and the error is %v", k, err)
					}
					second := newClient(t, cfg)
					again, err := second.Resume(t.Context(), zone, site, to, nil)
					if err != nil || !again.Refreshed {
						t.Fatalf("call %d: resume: %v %+v", k, err, again)
					}
					settledAt(t, w, "www", to)
					if when != "late" { // which may come last, and change nothing
						refreshedLast(t, w)
					}
					if got := writes(w); len(got) != 2 && when != "late" {
						t.Errorf("call %d: %d writes: %q", k, len(got), got)
					}
					if t.Failed() {
						t.Fatalf("call %d of %s → %s: %+v\n%v", k, from, to, out, w.Calls())
					}
					cancel(nil)
					first.Close()
					second.Close()
				}
			}
		})
	}
}

// TestKilledAgainAndAgain: killed again and again, at the first call, the
// second, …; each new process gets a little further.
func TestKilledAgainAndAgain(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	for k := int32(1); ; k++ {
		ctx, cancel := context.WithCancel(t.Context())
		h := &killer{world: w, kill: cancel, k: k, when: "after", late: make(chan struct{})}
		c := newClient(t, config(serve(t, h.ServeHTTP)))
		_, err := c.Resume(ctx, zone, site, home, nil)
		cancel()
		if err == nil {
			break
		}
		if k > 60 {
			t.Fatal("never done")
		}
	}
	settledAt(t, w, "www", home)
	if got := writes(w); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestSecretsStayIn: the keys are in no error and no printout, even when the
// other side repeats them.
func TestSecretsStayIn(t *testing.T) {
	var texts []string
	for _, body := range []string{
		`{"errorCode":"app-secret-9c2","message":"no app-key-7d1 or consumer-key-4e3"}`,
		`{"class":"consumer-key-4e3","message":"x"}`,
		"<html>app-secret-9c2 consumer-key-4e3 app-key-7d1",
		`"app-secret-9c2"`,
		`consumer-key-4e3`,
	} {
		for _, status := range []int{200, 302, 400, 403, 404, 500} {
			c := newClient(t, config(serve(t, func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/1.0/auth/time" {
					_, _ = rw.Write([]byte("1700000000"))
					return
				}
				rw.Header().Set("X-Ovh-Queryid", "consumer-key-4e3")
				rw.WriteHeader(status)
				_, _ = rw.Write([]byte(body))
			})))
			_, err := c.Read(t.Context(), zone, site)
			if err == nil {
				t.Fatalf("%d %s: no error", status, body)
			}
			texts = append(texts, everyForm(err, c)...)
		}
	}
	cfg := config("http://127.0.0.1:1/1.0")
	c := newClient(t, cfg)
	_, err := c.Replace(t.Context(), zone, site, home, nil)
	texts = append(texts, everyForm(err, c, *c, cfg, &cfg, []any{cfg, c}, map[string]any{"cfg": cfg})...)
	for _, text := range texts {
		for _, key := range []string{appKey, appSecret, consumerKey} {
			if strings.Contains(text, key) {
				t.Errorf("%q contains %q", text, key)
			}
		}
	}
}
