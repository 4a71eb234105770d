// Package wanlink is a wide-area link between two network namespaces, in user space: two TUN devices and a queue in
// each direction that holds every packet back for the delay. It can be cut and mended while it runs. Nothing is
// reordered and nothing lost but what a cut swallows. Packets of segmentation offload (GSO) pass whole, so that the
// link carries gigabits. It needs root, /dev/net/tun, and neither tc(8) nor netem.
package wanlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// headerSize is that of struct virtio_net_hdr, which goes before each packet and tells the other end of its
	// offloads.
	headerSize = 10
	// maxPacket is the largest packet the kernel hands over.
	maxPacket = headerSize + 65535
	// small is the size of buffers for packets that no offload has glued together.
	small = 2048
	// queueLength bounds what is on its way in one direction, in packets; more is lost, as in a router.
	queueLength = 1 << 15
)

// Link joins two TUN devices. Its methods are safe for concurrent use.
type Link struct {
	delay   atomic.Int64 // one way, in nanoseconds
	cut     [2]atomic.Bool
	ends    [2]*os.File
	bytes   [2]atomic.Int64
	packets [2]atomic.Int64
	dropped atomic.Int64
	running sync.WaitGroup
	closing chan struct{}
	once    sync.Once
}

// Open creates a TUN device called name in the network namespace of the calling thread, to be one end of a [Link]. The
// device goes away when the file is closed.
func Open(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Join carries packets between a and b, two files of [Open], until Close, which closes them too.
func Join(a, b *os.File) *Link {
	l := &Link{ends: [2]*os.File{a, b}, closing: make(chan struct{})}
	l.carry(0)
	l.carry(1)
	return l
}

// SetDelay sets how long a packet travels, in each direction. Packets on their way keep their time of arrival.
func (l *Link) SetDelay(oneWay time.Duration) { l.delay.Store(int64(oneWay)) }

// Cut makes the link swallow every packet, in silence, those on their way included.
func (l *Link) Cut() {
	l.cut[0].Store(true)
	l.cut[1].Store(true)
}

// CutOneWay does what Cut does to one direction alone: from a to b, or from b to a.
func (l *Link) CutOneWay(aToB bool) {
	l.cut[0].Store(aToB)
	l.cut[1].Store(!aToB)
}

// Mend ends Cut and CutOneWay.
func (l *Link) Mend() {
	l.cut[0].Store(false)
	l.cut[1].Store(false)
}

// Bytes is what has been carried from a to b, and from b to a: IP packets, with their headers.
func (l *Link) Bytes() (aToB, bToA int64) { return l.bytes[0].Load(), l.bytes[1].Load() }

// Packets is how many packets that was; those of segmentation offload count once, however large they are.
func (l *Link) Packets() (aToB, bToA int64) { return l.packets[0].Load(), l.packets[1].Load() }

// Dropped counts the packets that a cut or a full queue has swallowed.
func (l *Link) Dropped() int64 { return l.dropped.Load() }

// Close ends the link and removes its devices.
func (l *Link) Close() error {
	l.once.Do(func() { close(l.closing) })
	err := errors.Join(closed(l.ends[0].Close()), closed(l.ends[1].Close()))
	l.running.Wait()
	return err
}

func closed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// packet is a packet on its way.
type packet struct {
	due  time.Time
	size int
	buf  *[]byte
}

// pools keep buffers of the two sizes that occur.
type pools struct{ small, large sync.Pool }

func newPools() *pools {
	size := func(n int) sync.Pool {
		return sync.Pool{New: func() any {
			b := make([]byte, n)
			return &b
		}}
	}
	return &pools{small: size(small), large: size(maxPacket)}
}

func (p *pools) copyOf(b []byte) *[]byte {
	pool := &p.small
	if len(b) > small {
		pool = &p.large
	}
	buf := pool.Get().(*[]byte)
	copy(*buf, b)
	return buf
}

func (p *pools) put(buf *[]byte) {
	if len(*buf) == small {
		p.small.Put(buf)
	} else {
		p.large.Put(buf)
	}
}

// carry moves packets in one direction: a reader stamps them, a writer delivers them when they are due.
func (l *Link) carry(from int) {
	in, out := l.ends[from], l.ends[1-from]
	queue := make(chan packet, queueLength)
	buffers := newPools()
	l.running.Go(func() {
		defer close(queue)
		var last time.Time
		scratch := make([]byte, maxPacket)
		for {
			n, err := in.Read(scratch)
			if err != nil {
				return // closed
			}
			if l.cut[from].Load() {
				l.dropped.Add(1)
				continue
			}
			due := time.Now().Add(time.Duration(l.delay.Load()))
			if due.Before(last) { // a shorter delay overtakes nobody
				due = last
			}
			last = due
			p := packet{due: due, size: n, buf: buffers.copyOf(scratch[:n])}
			select {
			case queue <- p:
			default:
				l.dropped.Add(1)
				buffers.put(p.buf)
			}
		}
	})
	l.running.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for p := range queue {
			if wait := time.Until(p.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-l.closing:
					return
				}
			}
			if l.cut[from].Load() {
				l.dropped.Add(1)
			} else if _, err := out.Write((*p.buf)[:p.size]); err == nil {
				l.bytes[from].Add(int64(p.size - headerSize))
				l.packets[from].Add(1)
			}
			buffers.put(p.buf)
		}
	})
}
