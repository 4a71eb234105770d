package sites

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Fault is a way for a server to be ill without being dead.
type Fault int

// The faults. A server that is dead, with its port closed, is Stop's business.
const (
	Healthy       Fault = iota
	Hang                // accepts connections and never reads nor writes a byte
	Mute                // takes the request, over TLS too, and never answers
	Reset               // resets each connection at once
	DripHeader          // sends a header without end, one byte per second
	DripBody            // sends right headers and then a body of one byte per second
	EndlessHeader       // sends headers without end, as fast as it can
	Flood               // sends a body of 10 GB, as fast as it can
	CutBody             // closes the connection in the middle of the body
)

const floodSize = 10_000_000_000

// SetFault makes the site ill, or Healthy again, and cuts the connections there are, so that the next request
// already meets the new state.
func (s *Site) SetFault(f Fault) {
	s.mu.Lock()
	s.fault = f
	r := s.run
	s.mu.Unlock()
	if r != nil {
		r.drop()
	}
}

func (s *Site) currentFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// misbehave shows a fault on one request, until the client goes or ctx ends.
func misbehave(ctx context.Context, f Fault, w http.ResponseWriter) {
	switch f {
	case Mute:
		<-ctx.Done()
	case DripBody:
		w.Header().Set("Content-Type", "text/plain")
		drip(ctx, w, http.NewResponseController(w).Flush)
	case Flood:
		w.Header().Set("Content-Length", strconv.Itoa(floodSize))
		block := bytes.Repeat([]byte("releve \n"), 4<<10)
		for sent := 0; sent < floodSize && ctx.Err() == nil; sent += len(block) {
			if _, err := w.Write(block[:min(len(block), floodSize-sent)]); err != nil {
				return
			}
		}
	case DripHeader, EndlessHeader, CutBody:
		raw, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return // HTTP/2, on a connection older than the fault
		}
		defer raw.Close()
		// A hijacked connection's context does not end with it: closing is what ends a blocked write.
		stop := context.AfterFunc(ctx, func() { raw.Close() })
		defer stop()
		io.WriteString(raw, "HTTP/1.1 200 OK\r\n") //nolint:errcheck // the next write meets the same error
		switch f {
		case DripHeader:
			drip(ctx, raw, func() error { return nil })
		case EndlessHeader:
			line := []byte("X-Endless: " + string(bytes.Repeat([]byte("x"), 1000)) + "\r\n")
			for ctx.Err() == nil {
				if _, err := raw.Write(line); err != nil {
					return
				}
			}
		case CutBody:
			io.WriteString(raw, "Content-Length: 1000\r\n\r\nok") //nolint:errcheck // it is cut anyway
		}
	}
}

// drip writes one byte per second.
func drip(ctx context.Context, w io.Writer, flush func() error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if _, err := w.Write([]byte("x")); err != nil {
			return
		}
		if err := flush(); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
