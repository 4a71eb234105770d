package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"releve/test/memnet"
)

func TestConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n memnet.Network
		if _, err := n.DialContext(t.Context(), "tcp", "a:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("nobody listens: %v", err)
		}
		l, err := n.Listen("a:1")
		if err != nil {
			t.Fatal(err)
		}
		c, err := n.DialContext(t.Context(), "tcp", "a:1")
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// A full buffer blocks the writer until its deadline.
		start := time.Now()
		c.SetWriteDeadline(start.Add(time.Hour))
		if k, err := c.Write(make([]byte, memnet.Buffer+1)); k != memnet.Buffer || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("wrote %d, %v after %v", k, err, time.Since(start))
		}
		// What was written can be read after Close, then comes the end.
		c.Close()
		if text, err := io.ReadAll(s); len(text) != memnet.Buffer || err != nil {
			t.Errorf("read %d, %v", len(text), err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed end: %v", err)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.DialContext(ctx, "tcp", "a:1"); err == nil {
			t.Error("dialled a closed listener")
		}
	})
}
