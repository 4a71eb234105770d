package syncagent

import (
	"context"
	"sync"
	"time"

	"releve/pkg/sftpipe"
	"releve/pkg/sshjump"
)

const (
	// chainsFar and chainsNear are how many connections there are for large data, beside the session's own. One
	// OpenSSH channel carries 2 MiB a round trip at most, whatever the line could, and channels of one connection to
	// the bastion share its TCP window; so at a distance several whole chains add up. Nearby the processor is the
	// limit, and one is there to keep large files out of the way of small ones. sshd starts to refuse connections
	// when ten are logging in at once (MaxStartups).
	chainsFar, chainsNear = 4, 1
	// near is the round-trip time up to which a backup is nearby.
	near = 5 * time.Millisecond
	// chainsIdle is how long they are kept without use.
	chainsIdle = time.Minute
	// chainsAgain is the pause after they could not be opened: the work goes on over the session's own.
	chainsAgain = time.Minute
)

// chains are a session's further connections to the backup, for large data. They are opened when first asked for and
// closed when not used for a while. Its methods are safe for concurrent use.
type chains struct {
	hops []sshjump.Hop
	most int

	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	goes   sync.WaitGroup

	mu      sync.Mutex
	live    []*chain
	dialing chan struct{} // closed when the dialling under way is over; nil while there is none
	next    time.Time     // not to be dialled before
	users   int
	idle    *time.Timer
}

type chain struct {
	conn *sshjump.Conn
	sftp *sftpipe.Client
}

func newChains(hops []sshjump.Hop, rtt time.Duration) *chains {
	c := &chains{hops: hops, most: chainsFar}
	if rtt < near {
		c.most = chainsNear
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// get gives the connections there are, see push.Lanes.More.
func (c *chains) get(ctx context.Context, wait bool) (clients []*sftpipe.Client, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bury()
	if len(c.live) == 0 && c.dialing == nil && time.Now().After(c.next) && c.ctx.Err() == nil {
		c.dialing = make(chan struct{})
		c.goes.Go(c.dial)
	}
	if dialing := c.dialing; wait && dialing != nil {
		c.mu.Unlock()
		select {
		case <-dialing:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	for _, chain := range c.live {
		clients = append(clients, chain.sftp)
	}
	c.users++
	if c.idle != nil {
		c.idle.Stop()
	}
	return clients, sync.OnceFunc(c.release)
}

func (c *chains) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 && c.ctx.Err() == nil {
		c.idle = time.AfterFunc(chainsIdle, c.rest)
	}
}

// rest closes what nobody uses.
func (c *chains) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == 0 {
		c.closeAll()
	}
}

// dial opens all of them at once.
func (c *chains) dial() {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	opened := make(chan *chain)
	for range c.most {
		go func() { opened <- openChain(ctx, c.hops) }() // joined below
	}
	var live []*chain
	for range c.most {
		if chain := <-opened; chain != nil {
			live = append(live, chain)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live
	if len(live) == 0 {
		c.next = time.Now().Add(chainsAgain)
	}
	close(c.dialing)
	c.dialing = nil
}

// openChain is nil where that fails: what is to be done can be done without.
func openChain(ctx context.Context, hops []sshjump.Hop) *chain {
	conn, err := sshjump.Dial(ctx, hops...)
	if err != nil {
		return nil
	}
	sftp, err := subsystem(ctx, conn)
	if err != nil {
		conn.Close()
		return nil
	}
	return &chain{conn, sftp}
}

func (c *chain) close() {
	c.conn.Close() // first, which unblocks what lies above it
	c.sftp.Close()
}

// bury drops those that have ended. The caller holds c.mu.
func (c *chains) bury() {
	live := c.live[:0]
	for _, chain := range c.live {
		if chain.conn.Err() != nil || chain.sftp.Err() != nil {
			chain.close()
			continue
		}
		live = append(live, chain)
	}
	c.live = live
}

func (c *chains) closeAll() {
	for _, chain := range c.live {
		chain.close()
	}
	c.live = nil
}

// close ends them all.
func (c *chains) close() {
	c.cancel()
	c.goes.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil {
		c.idle.Stop()
	}
	c.closeAll()
}
