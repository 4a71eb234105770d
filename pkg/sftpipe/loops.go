package sftpipe

import (
	"io"
	"runtime"
)

const (
	// chunk is the data of a full SSH packet, as OpenSSH and x/crypto exchange
	// them. So much is worth to be written from where it lies.
	chunk = 32 << 10

	// burst is what one write to the connection carries while there is enough to
	// send: four packets, less what SSH adds to each (RFC 4253 §6, RFC 4254 §5.2),
	// so that they are four also on a connection that itself runs through an SSH
	// channel. Whoever is next on the way is woken once for all of them.
	burst = 4*chunk - 4*128

	// busy is how many requests without a reply make it likely that others are
	// about to be made, by goroutines that have just got theirs.
	busy = 32

	// urgentRun is how many bytes the urgent lane sends before a waiting bulk
	// packet gets its turn, so that a long stream of small files slows a large
	// one down but does not stop it.
	urgentRun = 1 << 20

	readBuffer = 64 << 10
)

// writer is the state of the goroutine that sends.
type writer struct {
	out  []byte  // encoded, not yet written; longer than burst by a header at most
	data []byte  // of the WRITE whose header ended up in out or was written: comes next
	buf  *buffer // that data belongs to
}

// writeLoop sends what is queued until the connection ends.
func (c *Client) writeLoop() {
	w := writer{out: make([]byte, 0, burst+chunk)}
	for c.fill(&w) {
		var err error
		if len(w.out) == 0 {
			n := min(len(w.data), burst)
			_, err = c.rwc.Write(w.data[:n])
			w.data = w.data[n:]
			c.release(&w)
		} else {
			n := min(len(w.out), burst)
			_, err = c.rwc.Write(w.out[:n])
			w.out = w.out[:copy(w.out, w.out[n:])]
		}
		if err != nil {
			c.fail(err)
		}
	}
	w.data = nil
	c.release(&w)
	c.closeConn()
}

// release returns the buffer whose data is all sent.
func (c *Client) release(w *writer) {
	if len(w.data) == 0 && w.buf != nil {
		c.recycle(w.buf)
		w.buf = nil
	}
}

// fill gathers what is to be written next, and waits while there is nothing:
// either out holds something, or it is empty and data holds a chunk at least, to
// be written from where it lies. It reports false when the connection has ended.
func (c *Client) fill(w *writer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for yielded := false; c.err == nil; {
		switch {
		case len(w.out) >= burst || len(w.out) == 0 && len(w.data) >= chunk:
			return true
		case len(w.data) > 0:
			n := min(len(w.data), burst-len(w.out))
			w.out = append(w.out, w.data[:n]...)
			w.data = w.data[n:]
			c.release(w)
		case c.encode(w):
		case len(w.out) > 0 && (yielded || len(c.pending) < busy):
			return true
		case len(w.out) > 0:
			yielded = true
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
		default:
			c.work.Wait()
		}
	}
	return false
}

// encode adds the next request to out. It reports false if there is none.
func (c *Client) encode(w *writer) bool {
	if c.current == nil {
		if c.current = c.pick(); c.current == nil {
			return false
		}
	}
	fl := c.current
	req := &fl.reqs[fl.sent]
	id := c.newID()
	c.pending[id] = pending{fl, fl.sent}
	before := len(w.out)
	w.out = req.append(w.out, id)
	if req.data != nil {
		w.buf, w.data = req.data, req.data.b
		c.release(w) // at once, if it is empty
	}
	if fl.lane == c.urgent {
		c.urgency -= len(w.out) - before + len(w.data)
	}
	fl.sent++
	if fl.sent == len(fl.reqs) {
		c.current = nil
	}
	return true
}

// pick takes the flight whose turn it is off its queue.
func (c *Client) pick() *flight {
	l := c.urgent
	if l.first == nil || c.urgency <= 0 && c.bulk.first != nil {
		l = c.bulk
		c.urgency = urgentRun
	}
	fl := l.first
	if fl != nil {
		l.remove(fl)
	}
	return fl
}

// newID gives an id that no reply is outstanding for.
func (c *Client) newID() uint32 {
	for {
		c.nextID++
		if _, taken := c.pending[c.nextID]; !taken {
			return c.nextID
		}
	}
}

// readLoop matches replies to requests until the connection ends.
func (c *Client) readLoop(in io.Reader) {
	var packet []byte
	for {
		var err error
		if packet, err = readPacket(in, packet); err == nil {
			err = c.deliver(packet)
		}
		if err == io.EOF {
			err = errHungUp
		}
		if err != nil {
			c.fail(err)
			c.closeConn()
			return
		}
	}
}

// deliver hands one reply to the flight that waits for it. Its error is a
// protocol violation.
func (c *Client) deliver(packet []byte) error {
	d := decoder{b: packet}
	var typ byte
	if b := d.take(1); b != nil {
		typ = b[0]
	}
	id := d.uint32()
	if d.short {
		return violation("packet of %d bytes", len(packet))
	}
	c.mu.Lock()
	p, ok := c.pending[id]
	if !ok {
		c.mu.Unlock()
		return violation("reply of type %d to a request that is not outstanding", typ)
	}
	delete(c.pending, id)
	req := p.fl.reqs[p.index]
	c.mu.Unlock()

	r, err := parseReply(&req, typ, d.b)
	if err != nil {
		r = reply{done: true, err: req.unconfirmed(true, c.fail(err))}
	}
	c.mu.Lock()
	c.complete(p.fl, p.index, r)
	c.mu.Unlock()
	return err
}
