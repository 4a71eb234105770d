package syncagent

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// wan is the line between prod and home, as a TCP proxy on loopback, which tests break in every way a line can break.
type wan struct {
	listener net.Listener
	target   string
	goes     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	fault wanFault
}

// wanFault is how the line misbehaves; the zero value is a good line.
type wanFault struct {
	delay time.Duration // of each piece of data
	piece int           // data travels in pieces of at most so many bytes; 0 means as it comes
	// Cuts: the connection ends when so many more bytes have passed, upwards or downwards; 0 means never.
	cutUp, cutDown int64
	// mute swallows all answers: requests arrive and take effect, and nobody hears of it.
	mute bool
	// hole swallows everything, without closing anything.
	hole bool
}

func newWAN(t testing.TB, target string) *wan {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wan{listener: l, target: target, conns: map[net.Conn]bool{}}
	w.goes.Go(w.accept)
	t.Cleanup(func() {
		l.Close()
		w.Cut()
		w.goes.Wait()
	})
	return w
}

func (w *wan) Addr() string { return w.listener.Addr().String() }

// Break has the line misbehave from now on.
func (w *wan) Break(f wanFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

// Cut ends all connections, and makes the line good again.
func (w *wan) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = wanFault{}
	for c := range w.conns {
		c.Close()
	}
}

func (w *wan) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.target)
		if err != nil {
			near.Close()
			continue
		}
		w.mu.Lock()
		w.conns[near], w.conns[far] = true, true
		w.mu.Unlock()
		end := sync.OnceFunc(func() {
			near.Close()
			far.Close()
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.conns, near)
			delete(w.conns, far)
		})
		w.goes.Go(func() { defer end(); w.carry(far, near, true) })
		w.goes.Go(func() { defer end(); w.carry(near, far, false) })
	}
}

func (w *wan) carry(to io.Writer, from io.Reader, up bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for data := buf[:n]; len(data) > 0; {
			piece, f, cut := w.judge(len(data), up)
			if f.delay > 0 {
				<-time.After(f.delay)
			}
			if !f.hole && (up || !f.mute) {
				if _, err := to.Write(data[:piece]); err != nil {
					return
				}
			}
			if cut {
				return
			}
			data = data[piece:]
		}
		if err != nil {
			return
		}
	}
}

// judge says how much of n bytes may pass, and whether the connection is cut after them.
func (w *wan) judge(n int, up bool) (piece int, f wanFault, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f = w.fault
	left := &w.fault.cutDown
	if up {
		left = &w.fault.cutUp
	}
	if f.piece > 0 {
		n = min(n, f.piece)
	}
	if *left > 0 {
		n = int(min(int64(n), *left))
		if *left -= int64(n); *left == 0 {
			w.fault = wanFault{}
			return n, f, true
		}
	}
	return n, f, false
}
