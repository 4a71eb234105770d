package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// settledAtOnce finds every path ready.
func settledAtOnce(_ time.Time, r *round) {
	for p := range r.marks {
		r.ready = append(r.ready, p)
	}
}

// outcome is when and what next returned.
type outcome struct {
	after time.Duration
	Changes
}

// consume runs script against a queue inside a bubble and returns everything that next handed out within a minute.
func consume(t *testing.T, q *queue, look func(time.Time, *round), script func()) []outcome {
	var got []outcome
	synctest.Test(t, func(t *testing.T) {
		q.wake = make(chan struct{}, 1) // of this bubble
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go script()
		for {
			c, err := q.next(ctx, nil, look)
			if err != nil {
				return
			}
			got = append(got, outcome{time.Since(start), c})
		}
	})
	return got
}

func TestSinglePathGoesOutAtOnce(t *testing.T) {
	q := newQueue(100, 10)
	got := consume(t, q, settledAtOnce, func() {
		for i := range 5 {
			q.path(time.Now(), fmt.Sprint(i), created, nil)
			time.Sleep(5 * time.Millisecond)
		}
	})
	if len(got) != 5 {
		t.Fatalf("%d changes, want 5: %v", len(got), got)
	}
	for i, o := range got {
		if want := time.Duration(i) * 5 * time.Millisecond; o.after != want {
			t.Errorf("change %d came after %v, want %v", i, o.after, want)
		}
	}
}

func TestBurstComesOutTogether(t *testing.T) {
	q := newQueue(10_000, 10)
	const n, step = 1000, 500 * time.Microsecond
	got := consume(t, q, settledAtOnce, func() {
		for i := range n {
			q.path(time.Now(), fmt.Sprint(i), created, nil)
			time.Sleep(step)
		}
	})
	if len(got) > burstPaths+2 {
		t.Errorf("%d paths came in %d changes", n, len(got))
	}
	last := got[len(got)-1]
	if len(last.Paths) < n-2*burstPaths {
		t.Errorf("the last change has %d paths of %d", len(last.Paths), n)
	}
	if want := (n-1)*step + burstQuiet; last.after != want {
		t.Errorf("it came after %v, want %v", last.after, want)
	}
}

func TestEndlessBurstComesOutInSlices(t *testing.T) {
	q := newQueue(100_000, 10)
	got := consume(t, q, settledAtOnce, func() {
		for i := range 10_000 {
			q.path(time.Now(), fmt.Sprint(i), created, nil)
			time.Sleep(time.Millisecond)
		}
	})
	last := time.Duration(0)
	for _, o := range got {
		if gap := o.after - last; gap > burstMax+burstQuiet {
			t.Errorf("nothing came for %v", gap)
		}
		last = o.after
	}
	if len(got) > burstPaths+7 {
		t.Errorf("%d changes in 10 s", len(got))
	}
}

func TestRenameHalvesComeTogether(t *testing.T) {
	q := newQueue(100, 10)
	got := consume(t, q, settledAtOnce, func() {
		q.path(time.Now(), "a", moved, nil)
		time.Sleep(time.Millisecond)
		q.path(time.Now(), "b", created, nil)
		q.paired()
	})
	if len(got) != 1 || !slices.Equal(got[0].Paths, []string{"a", "b"}) || got[0].after != time.Millisecond {
		t.Errorf("got %v, want both after 1ms", got)
	}
	q = newQueue(100, 10)
	got = consume(t, q, settledAtOnce, func() { q.path(time.Now(), "a", moved, nil) })
	if len(got) != 1 || got[0].after != pairWait {
		t.Errorf("moved out of the folder: got %v, want it after %v", got, pairWait)
	}
}

func TestNothingGoesOutWhileADirectoryIsTakenIn(t *testing.T) {
	q := newQueue(100, 10)
	got := consume(t, q, settledAtOnce, func() {
		q.path(time.Now(), "a", moved, nil)
		q.work(time.Now())
		q.paired()
		time.Sleep(time.Second)
		q.subtree(time.Now(), "b")
		q.work(time.Time{})
	})
	if len(got) != 1 || got[0].after != time.Second || !slices.Equal(got[0].Subtrees, []string{"b"}) {
		t.Errorf("got %v", got)
	}
}

func TestUnsettledPathIsKeptAndCalledBusy(t *testing.T) {
	q := newQueue(100, 10)
	var start time.Time
	look := func(now time.Time, r *round) {
		for p, m := range r.marks {
			if m.due = start.Add(time.Second); now.Before(m.due) {
				m.busy = true
				r.back[p] = m
				continue
			}
			r.ready = append(r.ready, p)
		}
	}
	got := consume(t, q, look, func() {
		start = time.Now()
		q.path(time.Now(), "d/f", created, nil)
		time.Sleep(10 * time.Millisecond)
		q.subtree(time.Now(), "d")
		time.Sleep(10 * time.Millisecond)
		q.everything("because")
	})
	if len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	if c := got[0]; !slices.Equal(c.Subtrees, []string{"d"}) || !slices.Equal(c.Busy, []string{"d/f"}) || c.Paths != nil {
		t.Errorf("first: %+v", c)
	}
	if c := got[1]; !c.All || c.Reason != "because" || !slices.Equal(c.Busy, []string{"d/f"}) {
		t.Errorf("second: %+v", c)
	}
	if c := got[2]; c.after != time.Second || !slices.Equal(c.Paths, []string{"d/f"}) {
		t.Errorf("third: %+v", c)
	}
}

// TestEventDuringLookIsNotLost: the path is being looked at, and found unsettled, while its next event comes.
func TestEventDuringLookIsNotLost(t *testing.T) {
	q := newQueue(100, 10)
	looks := 0
	look := func(now time.Time, r *round) {
		for p, m := range r.marks {
			if looks++; looks == 1 {
				q.path(now, p, written, nil)
				m.due = now.Add(time.Hour)
				r.back[p] = m
				continue
			}
			r.ready = append(r.ready, p)
		}
	}
	got := consume(t, q, look, func() { q.path(time.Now(), "f", created, nil) })
	if len(got) != 1 || got[0].after != 0 {
		t.Errorf("got %v, want it at once", got)
	}
}

// TestQueueIsBounded is the day-long outage with a busy source: nobody asks, and memory stays small, and
// nothing is forgotten.
func TestQueueIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 30).Draw(t, "paths")
		trees := rapid.IntRange(1, 10).Draw(t, "subtrees")
		q := newQueue(limit, trees)
		part := rapid.SampledFrom([]string{"a", "b", "c"})
		var dirty []string
		now := time.Now()
		for range rapid.IntRange(0, 200).Draw(t, "events") {
			p := strings.Join(rapid.SliceOfN(part, 1, 5).Draw(t, "path"), "/")
			if rapid.Bool().Draw(t, "subtree") {
				q.subtree(now, p)
			} else {
				q.path(now, p, created, nil)
			}
			dirty = append(dirty, p)
			if len(q.marks) > limit || len(q.subtrees) > trees {
				t.Fatalf("%d paths and %d subtrees are kept", len(q.marks), len(q.subtrees))
			}
		}
		r, wait := q.take(now.Add(time.Minute))
		if r == nil {
			if len(dirty) > 0 {
				t.Fatalf("nothing to take, wait %v", wait)
			}
			return
		}
		settledAtOnce(now, r)
		c, ok := q.finish(r)
		if !ok {
			t.Fatal("nothing came")
		}
		if !slices.Equal(c.Subtrees, outermost(c.Subtrees)) {
			t.Errorf("subtrees within subtrees: %q", c.Subtrees)
		}
		for _, p := range dirty {
			if !c.All && !below(c.Subtrees, p) && !slices.Contains(c.Paths, p) {
				t.Errorf("%q was forgotten: %+v", p, c)
			}
		}
	})
}

func TestShortenCoversTheSameGround(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "c", "dd"})
		path := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, "parts"), "/")
		})
		paths := rapid.SliceOf(path).Draw(t, "paths")
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		short := shorten(slices.Clone(paths), limit)
		if len(short) > limit {
			t.Fatalf("%d subtrees, limit %d", len(short), limit)
		}
		for _, p := range paths {
			if !slices.Equal(short, []string{"."}) && !below(short, p) {
				t.Errorf("%q is not covered by %q", p, short)
			}
		}
	})
}

// TestSentWhileOpenIsNotCalledBusy: if nothing happens to it any more, it is not named again.
func TestSentWhileOpenIsNotCalledBusy(t *testing.T) {
	q := newQueue(100, 10)
	sent := false
	look := func(now time.Time, r *round) {
		for p, m := range r.marks {
			if !sent {
				r.ready = append(r.ready, p)
			}
			sent = true
			m.busy, m.sent, m.due = true, &stamp{}, now.Add(time.Hour)
			r.back[p] = m
		}
	}
	got := consume(t, q, look, func() {
		q.path(time.Now(), "d/log", written, nil)
		time.Sleep(time.Millisecond)
		q.subtree(time.Now(), "d")
	})
	if len(got) != 2 || len(got[0].Paths) != 1 || got[1].Busy != nil {
		t.Errorf("got %+v", got)
	}
}

// TestSubtreeCoversWhatVanishedBelowIt: an rm -rf is reported once, not once more for each of its files when
// they turn out not to come back.
func TestSubtreeCoversWhatVanishedBelowIt(t *testing.T) {
	q := newQueue(100, 10)
	look := func(now time.Time, r *round) {
		for p, m := range r.marks {
			if m.due = m.last.Add(unlinkGrace); m.due.After(now) {
				m.gone = true
				r.back[p] = m
				continue
			}
			r.ready = append(r.ready, p)
		}
	}
	got := consume(t, q, look, func() {
		for _, p := range []string{"d/a", "d/b", "e"} {
			q.path(time.Now(), p, removed, nil)
			time.Sleep(time.Millisecond)
		}
		q.subtree(time.Now(), "d")
		time.Sleep(time.Millisecond)
		q.path(time.Now(), "d/b", created, nil) // this one came back
	})
	if len(got) != 3 || !slices.Equal(got[0].Subtrees, []string{"d"}) || !slices.Equal(got[1].Paths, []string{"e"}) ||
		!slices.Equal(got[2].Paths, []string{"d/b"}) {
		t.Errorf("got %+v", got)
	}
}

// TestOverflowsDoNotCauseARebuildEach: a folder that overflows the queue all the time is set up once in a while.
func TestOverflowsDoNotCauseARebuildEach(t *testing.T) {
	w, err := New(Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before := w.inotify
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that nothing is waited for
	w.lost(ctx, "overflow")
	if w.inotify != before {
		t.Error("set up again right after it was set up")
	}
	w.rebuilt = w.rebuilt.Add(-time.Minute)
	w.lost(ctx, "overflow")
	if w.inotify == before || w.queue.all != "overflow" {
		t.Error("not set up again after a minute")
	}
}
