package sshjump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Conn is a connection to the last of several hops. It may be used by any number
// of goroutines.
type Conn struct {
	hops    []*prepared
	root    net.Conn // the outermost connection; nil if it never came about
	clients []*ssh.Client
	prompt  *prompt   // the root, as what lies above reads it; nil if there is no jump host
	life    *life     // of the last hop
	gathers []*gather // of all hops, from the outermost inwards

	mu      sync.Mutex
	ended   bool // no goroutine is started any more
	goes    sync.WaitGroup
	closing chan struct{} // closed when err is set
	done    chan struct{} // closed when the outermost connection is closed too
	err     error
}

// life notes when a connection was last heard from.
type life struct {
	net.Conn
	start time.Time
	last  atomic.Int64 // nanoseconds since start
}

func newLife(conn net.Conn) *life { return &life{Conn: conn, start: time.Now()} }

func (l *life) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.last.Store(int64(time.Since(l.start)))
	}
	return n, err
}

func (l *life) heard() time.Time { return l.start.Add(time.Duration(l.last.Load())) }

// gather has writes to the connection of the next hop gathered.
func (c *Conn) gather(conn net.Conn) net.Conn {
	g := newGather(conn)
	c.gathers = append(c.gathers, g)
	return g
}

// Client returns the SSH connection to the last hop. Calls on it are bounded by
// the life of the connection only: they return at the latest when it is given up.
func (c *Conn) Client() *ssh.Client { return c.clients[len(c.clients)-1] }

// Done returns a channel that is closed when the connection has ended, for
// whatever reason.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, or nil while it has not. It is
// [net.ErrClosed] after Close and an [*Error] otherwise.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the connection and waits for what belongs to it. It closes the
// outermost connection first and says good-bye to nobody, so it does not wait for
// the network. It always returns nil.
func (c *Conn) Close() error {
	c.end(net.ErrClosed)
	c.goes.Wait()
	return nil
}

func (c *Conn) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	c.err = why
	close(c.closing)
	c.root.Close()
	close(c.done)
}

// spawn runs f in a goroutine that Close waits for, unless c has ended.
func (c *Conn) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.goes.Go(f)
	return true
}

// abandon closes a chain that was not completed.
func (c *Conn) abandon() {
	if c.root != nil {
		c.root.Close()
	}
	c.goes.Wait()
}

// supervise starts what watches over a completed chain.
func (c *Conn) supervise(interval, timeout time.Duration) {
	ended := make([]chan error, len(c.clients))
	for i, client := range c.clients {
		ended[i] = make(chan error, 1)
		c.goes.Go(func() { ended[i] <- client.Wait() })
	}
	last := len(c.clients) - 1
	c.goes.Go(func() {
		// All hops lie within the first, so that the end of any ends the last.
		err := <-ended[last]
		c.end(c.lost(ended[:last], err))
	})
	c.goes.Go(func() { c.keepalive(interval, timeout) })
}

// blame is how long the end of the last hop waits for the news that a hop before
// it ended, which then is the reason. Both come out of the same read.
const blame = 100 * time.Millisecond

// lost names the hop whose end has ended the connection.
func (c *Conn) lost(before []chan error, err error) *Error {
	hop := c.hops[len(c.hops)-1]
	timer := time.NewTimer(blame)
	defer timer.Stop()
	for i, ended := range before {
		select {
		case err = <-ended:
			return lostAt(c.hops[i], err)
		case <-timer.C:
			timer.Reset(0)
		case <-c.closing:
		}
	}
	return lostAt(hop, err)
}

func lostAt(p *prepared, err error) *Error {
	if errors.Is(err, io.EOF) {
		return p.fail(Network, fmt.Errorf("connection closed by the other side: %w", err))
	}
	return p.fail(Network, fmt.Errorf("connection lost: %w", err))
}

// keepalive asks the last hop for a sign of life, again and again, and ends the
// connection if none comes. Whatever the hop sends counts: on a slow link the
// answer waits behind megabytes of other traffic.
func (c *Conn) keepalive(interval, timeout time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-timer.C:
		}
		asked := time.Now()
		answered := make(chan struct{})
		// In a goroutine of its own, because sending blocks too: behind a write
		// that is stuck in the network, and without a limit.
		c.goes.Go(func() {
			// OpenSSH knows no such request and says so, which is an answer. An
			// error means that the connection has ended, which others notice.
			_, _, _ = c.Client().SendRequest("keepalive@openssh.com", true, nil)
			close(answered)
		})
		timer.Reset(timeout)
	waiting:
		for {
			select {
			case <-c.closing:
				return
			case <-answered:
				break waiting
			case <-timer.C:
				since := asked
				if heard := c.life.heard(); heard.After(since) {
					since = heard
				}
				left := timeout - time.Since(since)
				if left <= 0 {
					c.end(c.hops[len(c.hops)-1].fail(Network, fmt.Errorf("connection given up after %v: %w", timeout, ErrSilent)))
					return
				}
				timer.Reset(left)
			}
		}
		timer.Reset(interval)
	}
}

// Subsystem starts a subsystem, such as "sftp", in a new session on the last hop
// (RFC 4254, section 6.5). What the subsystem writes to its standard error is
// dropped. Each Write to it leaves as one segment as far as that is possible, so
// that many requests are best written together. When ctx ends before the hop has answered, the wait ends.
func (c *Conn) Subsystem(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	type result struct {
		channel ssh.Channel
		err     error
	}
	results := make(chan result)
	started := c.spawn(func() {
		channel, err := c.subsystem(name)
		select {
		case results <- result{channel, err}:
		case <-ctx.Done():
			if err == nil {
				channel.Close()
			}
		}
	})
	if !started {
		return nil, c.err
	}
	hop := c.hops[len(c.hops)-1]
	select {
	case r := <-results:
		if r.err == nil {
			return bundled{r.channel, c.gathers}, nil
		}
		select {
		case <-c.done:
			return nil, c.err
		default:
			return nil, hop.fail(Protocol, fmt.Errorf("start subsystem %q: %w", name, r.err))
		}
	case <-ctx.Done():
		return nil, hop.fail(Network, fmt.Errorf("start subsystem %q: %w", name, context.Cause(ctx)))
	}
}

func (c *Conn) subsystem(name string) (ssh.Channel, error) {
	nudge := time.AfterFunc(nudgeAfter, c.nudge)
	channel, requests, err := c.Client().OpenChannel("session", nil)
	nudge.Stop()
	if err != nil {
		return nil, err
	}
	c.goes.Go(func() { ssh.DiscardRequests(requests) })
	// Unread, it would use up the window that it shares with standard output.
	c.goes.Go(func() { _, _ = io.Copy(io.Discard, channel.Stderr()) })
	ok, err := channel.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{name}))
	if err == nil && !ok {
		err = errors.New("request refused")
	}
	if err != nil {
		channel.Close()
		return nil, err
	}
	return channel, nil
}
