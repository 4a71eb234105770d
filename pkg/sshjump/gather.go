package sshjump

import (
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// halfPacket is the size of a write with which x/crypto/ssh sends the
	// beginning of a packet: that of the bufio.Writer it fills before it passes
	// the rest on as it lies.
	halfPacket = 4096

	// longestHeld is how long anything is held for what may follow it. A packet of
	// exactly halfPacket bytes, which has no rest, takes so much longer.
	longestHeld = time.Millisecond

	// mostHeld is how much is held: a segment of the most that TCP segmentation
	// offload takes, twice.
	mostHeld = 128 << 10
)

// gather is a connection that makes few writes of many. x/crypto/ssh takes two
// or three for each large packet. Each would be a system call and a segment, as
// TCP_NODELAY is set, and over a jump host a packet of its own there; and each
// wakes whoever is next on the way, to be read, decrypted and passed on for
// itself.
//
// Nothing waits for longer than longestHeld. Should x/crypto/ssh come to write in
// another way, less is gathered, and nothing is lost but speed. Write must not be
// called concurrently; x/crypto/ssh does not.
type gather struct {
	net.Conn

	mu    sync.Mutex
	corks int    // how many have more to send
	held  []byte // written by the caller, and not yet to Conn
	late  *time.Timer
	armed bool
	err   error // of what was sent when nobody was asking: for whoever comes next
}

func newGather(conn net.Conn) *gather {
	g := &gather{Conn: conn}
	g.late = time.AfterFunc(time.Hour, g.flush)
	g.late.Stop()
	return g
}

// Write sends p behind what is held, or holds it too.
func (g *gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch more := g.corks > 0 || len(p) == halfPacket && len(g.held) == 0; {
	case g.err != nil:
		return 0, g.err
	case more && len(g.held)+len(p) < mostHeld:
		g.held = append(g.held, p...)
		if !g.armed {
			g.armed = true
			g.late.Reset(longestHeld)
		}
		return len(p), nil
	case len(g.held) == 0:
		return g.Conn.Write(p)
	}
	g.held = append(g.held, p...)
	if err := g.send(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// cork has what is written from now on held, because more follows at once.
func (g *gather) cork() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.corks++
}

// uncork ends a cork.
func (g *gather) uncork() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.corks--
	if g.corks > 0 {
		return nil
	}
	return g.send()
}

// flush sends what nothing has followed. Without it a sender that waits for
// the other side to read would hold what that is to read.
func (g *gather) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = false
	_ = g.send() // whoever writes next is told
}

// send sends what is held. The caller holds g.mu.
func (g *gather) send() error {
	if len(g.held) > 0 && g.err == nil {
		_, g.err = g.Conn.Write(g.held)
		g.held = g.held[:0]
	}
	return g.err
}

// bundled is a channel to the last hop of which each write leaves in one piece,
// however many packets it takes at whichever hop.
type bundled struct {
	ssh.Channel
	gathers []*gather // from the outermost inwards
}

func (b bundled) Write(p []byte) (int, error) {
	for _, g := range b.gathers {
		g.cork()
	}
	n, err := b.Channel.Write(p)
	for i := len(b.gathers) - 1; i >= 0; i-- { // each passes on to the one before it
		if uerr := b.gathers[i].uncork(); err == nil {
			err = uerr
		}
	}
	return n, err
}
