package sftpipe

import (
	"context"

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
	// budget bounds the bytes of file data that wait in the queue, so that a
	// stuck server costs a fixed amount of memory.
	budget *semaphore.Weighted
}

// laneBudget is more than the writer hands over before it looks again, so it
// never runs dry while callers have data.
const laneBudget = 4 << 20

func newLane() *lane { return &lane{budget: semaphore.NewWeighted(laneBudget)} }

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
type buffer struct {
	b    []byte
	lane *lane // whose budget it counts against; nil while it is being filled
	cost int64
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

// charge counts a filled buffer against the lane, which may mean waiting.
func (c *Client) charge(ctx context.Context, l *lane, buf *buffer) error {
	cost := int64(cap(buf.b))
	if err := l.budget.Acquire(ctx, cost); err != nil {
		return contextError(ctx)
	}
	buf.lane, buf.cost = l, cost
	return nil
}

// recycle takes back a buffer nobody uses any more.
func (c *Client) recycle(buf *buffer) {
	if buf.lane != nil {
		buf.lane.budget.Release(buf.cost)
		buf.lane, buf.cost = nil, 0
	}
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
	}
}

// complete stores one reply.
func (c *Client) complete(fl *flight, i int, r reply) {
	if fl.replies[i].done {
		return
	}
	fl.replies[i] = r
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
			fl.replies[i] = reply{done: true, err: fl.reqs[i].unconfirmed(i < fl.sent, c.err)}
		}
	}
	fl.left = 0
	close(fl.done)
}
