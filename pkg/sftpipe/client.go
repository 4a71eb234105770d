package sftpipe

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Client is a connection to an SFTP server. It is safe for concurrent use by
// any number of goroutines.
type Client struct {
	rwc        io.ReadWriteCloser
	extensions map[string]string
	limits     Limits
	rtt        time.Duration
	urgent     *lane // requests without data, small files
	bulk       *lane // whatever concerns a file opened for writing, unless it is small
	small      sync.Pool
	large      sync.Pool

	done      chan struct{} // closed when the connection has ended; err says why
	loops     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	mu      sync.Mutex
	work    sync.Cond // something was queued, or the connection has ended
	err     error     // why the connection has ended
	pending map[uint32]pending
	nextID  uint32
	current *flight // the flight being sent: nothing gets in between
	urgency int     // bytes the urgent lane may still send before bulk gets a turn
}

// pending says whose reply an id stands for.
type pending struct {
	fl    *flight
	index int
}

// Limits are what the server takes at most (limits@openssh.com), or careful
// guesses where it does not say.
type Limits struct {
	MaxPacket  int    // bytes of a packet
	MaxRead    int    // bytes of one READ
	MaxWrite   int    // bytes of one WRITE
	MaxHandles uint64 // files and directories open at once; 0 when not known
}

const (
	// Every server takes packets of 34000 bytes (draft §3).
	defaultPacket = 34000
	defaultData   = 32 << 10

	// maxData is OpenSSH's limit for the data of one READ or WRITE. Asking for
	// more is answered with less, or with the end of the session.
	maxData = 261120
)

// NewClient negotiates the protocol over rwc, which it owns from then on, also
// when it fails. It takes two round trips. If ctx ends before that is done, rwc
// is closed.
//
// Closing rwc must unblock its Read and Write. An SSH channel does so only
// once the peer, or the death of the TCP connection below, tells it to; a caller who
// cannot trust the peer to answer closes that connection before [Client.Close].
func NewClient(ctx context.Context, rwc io.ReadWriteCloser) (*Client, error) {
	c := &Client{
		rwc:        rwc,
		extensions: make(map[string]string),
		limits:     Limits{MaxPacket: defaultPacket, MaxRead: defaultData, MaxWrite: defaultData},
		urgent:     new(lane),
		bulk:       new(lane),
		done:       make(chan struct{}),
		pending:    make(map[uint32]pending),
		urgency:    urgentRun,
	}
	c.work.L = &c.mu
	stop := context.AfterFunc(ctx, func() { c.closeConn() })
	in := bufio.NewReaderSize(rwc, readBuffer)
	if err := c.handshake(in); err != nil {
		stop()
		c.closeConn()
		if ctx.Err() != nil {
			err = contextError(ctx)
		}
		return nil, fmt.Errorf("start sftp session: %w", err)
	}
	c.loops.Go(func() { c.readLoop(in) })
	c.loops.Go(c.writeLoop)
	began := time.Now()
	err := c.askLimits(ctx)
	c.rtt = time.Since(began)
	c.urgent.open(c.rtt)
	c.bulk.open(c.rtt)
	if !stop() && err == nil {
		err = contextError(ctx)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("start sftp session: %w", err)
	}
	return c, nil
}

// handshake exchanges INIT and VERSION, before the loops run.
func (c *Client) handshake(in io.Reader) error {
	hello := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 5, fxpInit}, protocolVersion)
	if _, err := c.rwc.Write(hello); err != nil {
		return &lostError{err}
	}
	packet, err := readPacket(in, nil)
	if err == io.EOF {
		err = errHungUp
	}
	if err != nil {
		return &lostError{err}
	}
	d := decoder{b: packet[1:]}
	version := d.uint32()
	if packet[0] != fxpVersion || d.short {
		return &lostError{violation("packet of type %d instead of the version", packet[0])}
	}
	if version != protocolVersion {
		return fmt.Errorf("server speaks version %d, not %d", version, protocolVersion)
	}
	for len(d.b) > 0 {
		name, value := d.string(), d.string()
		if d.short {
			return &lostError{violation("malformed list of extensions")}
		}
		c.extensions[name] = value
	}
	return nil
}

// askLimits asks for the limits, or for something else where those are not to be
// had: the time it takes is of use.
func (c *Client) askLimits(ctx context.Context) error {
	if !c.HasExtension("limits@openssh.com") {
		_, err := c.Realpath(ctx, ".")
		if _, answered := errors.AsType[*StatusError](err); answered {
			return nil
		}
		return err
	}
	value, err := c.one(ctx, c.urgent, Request{op: opLimits})
	if IsUnsupported(err) {
		return nil
	}
	if err != nil {
		return err
	}
	l := value.([]uint64)
	atMost := func(said uint64, most, unsaid int) int {
		if said == 0 {
			return unsaid
		}
		return int(min(said, uint64(most)))
	}
	c.limits = Limits{
		MaxPacket:  atMost(l[0], 256<<10, defaultPacket),
		MaxRead:    atMost(l[1], maxData, defaultData),
		MaxWrite:   atMost(l[2], maxData, defaultData),
		MaxHandles: l[3],
	}
	if room := c.limits.MaxPacket - requestOverhead; c.limits.MaxWrite > room {
		c.limits.MaxWrite = room
	}
	if c.limits.MaxWrite < minData || c.limits.MaxRead < minData {
		return c.fail(violation("limits of %d bytes a packet, %d a read, %d a write", l[0], l[1], l[2]))
	}
	return nil
}

// minData is the least data per packet we work with: less is either a joke or
// an attack on our patience.
const minData = 1024

// Close ends the connection, whatever is under way, and returns when the
// client's goroutines have ended.
func (c *Client) Close() error {
	c.fail(errClosed)
	err := c.closeConn()
	c.loops.Wait()
	return err
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection has ended; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// HasExtension reports whether the server offered the extension, for example
// "posix-rename@openssh.com".
func (c *Client) HasExtension(name string) bool {
	_, ok := c.extensions[name]
	return ok
}

// Limits gives what the server takes at most.
func (c *Client) Limits() Limits { return c.limits }

// RoundTrip is how long the server took to answer when the session began.
func (c *Client) RoundTrip() time.Duration { return c.rtt }

func (c *Client) closeConn() error {
	c.closeOnce.Do(func() { c.closeErr = c.rwc.Close() })
	return c.closeErr
}

// fail ends the connection because of cause, unless it has ended already, and
// gives the error it ended with. It does not close rwc: that may block.
func (c *Client) fail(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.err = &lostError{cause}
	for _, p := range c.pending {
		c.finishLost(p.fl)
	}
	clear(c.pending)
	if c.current != nil {
		c.finishLost(c.current)
		c.current = nil
	}
	for _, l := range []*lane{c.urgent, c.bulk} {
		for fl := l.first; fl != nil; fl = l.first {
			l.remove(fl)
			c.finishLost(fl)
		}
	}
	close(c.done)
	c.work.Broadcast()
	return c.err
}
