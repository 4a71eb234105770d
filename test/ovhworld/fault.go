package ovhworld

import (
	"net/http"
	"time"
)

// Effect is what becomes of a call on which a fault is played.
type Effect int

const (
	// Nothing: the call is not carried out.
	Nothing Effect = iota
	// Happens: the call is carried out, and then the fault is played.
	Happens
	// Late: the call is carried out Fault.Delay after the fault was played.
	Late
)

// Fault makes calls fail. Of the fields after Delay, the first that is set
// is what the caller sees; with none the answer is what it would have been.
type Fault struct {
	// Method and Path (without "/1.0" and query, "*" for anything) say which
	// calls are meant; empty means any, but for GET /auth/time and the calls
	// without signature, which must be named.
	Method, Path string
	First        int // the first of those calls to fail, from 1 (or 0)
	Times        int // how many fail from there on; 0 is one, -1 all

	Effect Effect
	Delay  time.Duration

	Cut    bool          // the connection is closed without an answer
	Hang   time.Duration // no answer for so long, and then Cut
	Status int           // this answer, with Body, or in OVH's form
	Body   string
}

type activeFault struct {
	Fault
	seen int
}

type lateEffect struct {
	at   time.Time
	do   func() []string
	call int // its index in the log

	write bool // of a record
}

// Fail plays f on calls to come, and returns a function that ends that.
func (w *World) Fail(f Fault) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := &activeFault{Fault: f}
	w.faults = append(w.faults, a)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		a.Times, a.First = 1, -1
	}
}

// Late returns how many changes of records are still to come.
func (w *World) Late() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp()
	for _, l := range w.late {
		if l.write {
			n++
		}
	}
	return n
}

// Down makes every call, GET /auth/time included, answer as on 13 October
// 2021, when OVH's backbone was gone; the returned function ends it.
func (w *World) Down() (stop func()) {
	f := Fault{Times: -1, Status: http.StatusServiceUnavailable, Body: "<html><body>503 Backend unavailable</body></html>"}
	stopCalls := w.Fail(f)
	f.Method, f.Path = "GET", "/auth/time"
	stopTime := w.Fail(f)
	return func() { stopCalls(); stopTime() }
}

// Calm ends all faults. What is late still comes.
func (w *World) Calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = nil
}

// OnCall has f called at each call, before it is carried out; nil ends that.
func (w *World) OnCall(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onCall = f
}

// faultFor returns the fault to play on a call, and counts the call.
func (w *World) faultFor(method, path string) *Fault {
	var play *Fault
	for _, f := range w.faults {
		named := f.Path != ""
		if f.First < 0 || f.Method != "" && f.Method != method || named && !wildcard(f.Path, path) || !named && isOpen(method, path) {
			continue
		}
		f.seen++
		first, times := max(f.First, 1), f.Times
		if times == 0 {
			times = 1
		}
		if f.seen >= first && (times < 0 || f.seen < first+times) && play == nil {
			play = &f.Fault
		}
	}
	return play
}

// isOpen reports whether a call needs no signature.
func isOpen(method, path string) bool {
	return method == http.MethodGet && path == "/auth/time" || method == http.MethodPost && path == "/auth/credential"
}
