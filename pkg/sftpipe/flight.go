package sftpipe

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// flight is a run of requests that are sent back to back. Its fields are
// guarded by Client.mu, but for replies once done is closed.
type flight struct {
	reqs    []Request
	replies []reply
	sent    int           // requests handed to the writer; their effect is unknown until the reply
	left    int           // replies to come
	done    chan struct{} // closed when none is left

	lane       *lane
	prev, next *flight // in the lane's queue
	queued     bool

	// kept is never withdrawn from the queue: nobody may wait for it any more,
	// but a handle must be closed.
	kept bool
	// abandoned has nobody waiting for it: a handle it brings is closed.
	abandoned bool
}

// reply is what became of one request.
type reply struct {
	done  bool
	err   error
	value any // handle string, data []byte, []DirEntry, Attrs or fields []uint64
}

func newFlight(l *lane, reqs ...Request) *flight {
	return &flight{
		reqs:    reqs,
		replies: make([]reply, len(reqs)),
		left:    len(reqs),
		done:    make(chan struct{}),
		lane:    l,
	}
}

// lane is a queue of flights. Its order is kept.
type lane struct {
	first, last *flight
	// budget bounds the bytes of file data that have no reply yet, in the queue
	// and on the way.
	budget *semaphore.Weighted
	size   int64
}

const (
	// leastBudget is what keeps a server busy that is nearby. With more it has
	// less done: OpenSSH's takes in whatever there is, and copies all of that
	// each time its buffer has to grow by another 16 KiB (sshbuf.c).
	leastBudget = 5 << 18
	// mostBudget is twice the window of an OpenSSH channel.
	mostBudget = 4 << 20
	// lineRate, in bytes a second, is what may be on the way beyond that.
	lineRate = 64 << 20
)

// open makes room for data, by the time that a reply takes.
func (l *lane) open(rtt time.Duration) {
	l.size = min(leastBudget+int64(rtt.Seconds()*lineRate), mostBudget)
	l.budget = semaphore.NewWeighted(l.size)
}

func (l *lane) push(fl *flight) {
	fl.queued, fl.prev, fl.next = true, l.last, nil
	if l.last != nil {
		l.last.next = fl
	} else {
		l.first = fl
	}
	l.last = fl
}

func (l *lane) remove(fl *flight) {
	if fl.prev != nil {
		fl.prev.next = fl.next
	} else {
		l.first = fl.next
	}
	if fl.next != nil {
		fl.next.prev = fl.prev
	} else {
		l.last = fl.prev
	}
	fl.queued, fl.prev, fl.next = false, nil, nil
}

// buffer is file data on its way to the server. It has room for one WRITE.
type buffer struct{ b []byte }

// charge is what the data of a request counts against a lane's budget.
type charge struct {
	lane *lane // nil if it does not, or not any more
	cost int64
}

// writeCost is what a WRITE costs beyond its data: without it, any number of
// small ones would be free.
const writeCost = 512

func (ch *charge) release() {
	if ch.lane != nil {
		ch.lane.budget.Release(ch.cost)
		ch.lane = nil
	}
}

// smallData is the buffer most files of a web site fit into.
const smallData = 32 << 10

// buffer gives an empty buffer with room for at least n bytes, n ≤ MaxWrite.
func (c *Client) buffer(n int) *buffer {
	pool, size := &c.large, c.limits.MaxWrite
	if n <= smallData {
		pool, size = &c.small, min(smallData, size)
	}
	if buf, ok := pool.Get().(*buffer); ok {
		buf.b = buf.b[:0]
		return buf
	}
	return &buffer{b: make([]byte, 0, size)}
}

// charge counts n bytes of data against the lane until the reply has come,
// which may mean waiting.
func (c *Client) charge(ctx context.Context, l *lane, n int) (charge, error) {
	cost := min(int64(n)+writeCost, l.size)
	if err := l.budget.Acquire(ctx, cost); err != nil {
		return charge{}, contextError(ctx)
	}
	return charge{l, cost}, nil
}

// recycle takes back a buffer nobody uses any more.
func (c *Client) recycle(buf *buffer) {
	if cap(buf.b) <= smallData {
		c.small.Put(buf)
	} else {
		c.large.Put(buf)
	}
}

// enqueue hands a flight to the writer. It never blocks. On an ended
// connection the flight fails at once.
func (c *Client) enqueue(fl *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enqueueLocked(fl)
}

func (c *Client) enqueueLocked(fl *flight) {
	if c.err != nil {
		c.finishLost(fl)
		return
	}
	fl.lane.push(fl)
	c.work.Signal()
}

// wait returns nil when all replies are there, and the context's error when
// that comes first: then the flight is withdrawn if nothing of it was sent, and
// otherwise runs its course with nobody waiting.
func (c *Client) wait(ctx context.Context, fl *flight) error {
	select {
	case <-fl.done:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if fl.left == 0 {
		return nil
	}
	c.abandon(fl)
	return contextError(ctx)
}

// abandon gives up waiting for a flight.
func (c *Client) abandon(fl *flight) {
	if fl.left == 0 || fl.abandoned {
		return
	}
	fl.abandoned = true
	// The slice may be the caller's own (Do), who is free to use it again.
	fl.reqs = append([]Request(nil), fl.reqs...)
	if fl.queued && !fl.kept {
		fl.lane.remove(fl)
		c.discard(fl)
	}
	// A handle that came before the context ended is nobody's either.
	for i := range fl.replies {
		c.closeOrphan(fl, i)
	}
}

// discard takes back the data of what will not be sent.
func (c *Client) discard(fl *flight) {
	for i := fl.sent; i < len(fl.reqs); i++ {
		if buf := fl.reqs[i].data; buf != nil {
			c.recycle(buf)
		}
		fl.reqs[i].charge.release()
	}
}

// complete stores one reply.
func (c *Client) complete(fl *flight, i int, r reply) {
	if fl.replies[i].done {
		return
	}
	fl.replies[i] = r
	fl.reqs[i].charge.release()
	fl.left--
	if fl.abandoned {
		c.closeOrphan(fl, i)
	}
	if fl.left == 0 {
		close(fl.done)
	}
}

// closeOrphan closes the handle that request i of an abandoned flight brought.
func (c *Client) closeOrphan(fl *flight, i int) {
	req, r := &fl.reqs[i], &fl.replies[i]
	if req.op != opOpen && req.op != opOpendir {
		return
	}
	handle, ok := r.value.(string)
	if !ok || c.err != nil {
		return
	}
	cl := newFlight(c.urgent, Request{op: opClose, path: req.path, handle: handle})
	cl.kept, cl.abandoned = true, true
	c.enqueueLocked(cl)
}

// finishLost ends a flight with the connection's error, where it has no reply.
func (c *Client) finishLost(fl *flight) {
	if fl.left == 0 {
		return
	}
	c.discard(fl)
	for i := range fl.replies {
		if !fl.replies[i].done {
			fl.reqs[i].charge.release()
			fl.replies[i] = reply{done: true, err: fl.reqs[i].unconfirmed(i < fl.sent, c.err)}
		}
	}
	fl.left = 0
	close(fl.done)
}
