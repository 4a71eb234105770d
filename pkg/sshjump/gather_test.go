package sshjump_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"releve/pkg/sshjump"
)

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestOneWriteIsOneSegment: what is written to a channel at once leaves in few
// writes, over two hops too, as long as x/crypto/ssh writes as it does today. All
// of it arrives: the server answers what comes last.
func TestOneWriteIsOneSegment(t *testing.T) {
	w := startWorld(t)
	var writes atomic.Int64
	d := &sshjump.Dialer{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return countingConn{conn, &writes}, err
	}}
	c, err := d.Dial(within(t), hops(w)...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the command that turns Nagle off", func() bool { return w.Bastion.Commands() == 1 })
	s, err := c.Subsystem(within(t), "sftp")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	init := []byte{0, 0, 0, 5, 1, 0, 0, 0, 3}
	if _, err := s.Write(init); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, s, 9); err != nil {
		t.Fatal(err)
	}
	// LSTATs of one path: 13 bytes and the path, 117 in all.
	const requests, size = 1000, 117
	var many []byte
	for range requests {
		many = append(many, 0, 0, 0, size-4, 7, 0, 0, 0, 1, 0, 0, 0, size-13)
		many = append(many, make([]byte, size-13)...)
	}
	before := writes.Load()
	if _, err := s.Write(many); err != nil {
		t.Fatal(err)
	}
	// The replies are not read, so nothing else is written but what makes room for them at either hop.
	if got := writes.Load() - before; got > 2 {
		t.Errorf("%d bytes left in %d writes", len(many), got)
	}
	for range requests {
		if _, err := io.CopyN(io.Discard, s, 4+1+4+4+4); err != nil {
			t.Fatal(err)
		}
	}
}
