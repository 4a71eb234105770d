package sftpipe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"releve/pkg/sftpipe"
)

// cutConn dies after so many bytes were read or written.
type cutConn struct {
	net.Conn
	mu          sync.Mutex
	read, write int // bytes to go
}

func (c *cutConn) allow(left *int, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, *left)
	*left -= n
	return n
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if ok := c.allow(&c.read, n); ok < n {
		c.Conn.Close()
		return ok, io.EOF
	}
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	ok := c.allow(&c.write, len(p))
	n, err := c.Conn.Write(p[:ok])
	if ok < len(p) {
		c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return n, err
}

// scenario does a little of everything, one after the other and side by side,
// and gives the outcome of each call.
func scenario(ctx context.Context, c *sftpipe.Client) (errs []error) {
	add := func(err error) { errs = append(errs, err) }
	_, err := c.Upload(ctx, "/small", strings.NewReader("content"), sftpipe.Attrs{Has: sftpipe.HasTimes})
	add(err)
	errs = append(errs, c.Do(ctx, sftpipe.Rename("/small", "/new"), sftpipe.Remove("/old"))...)
	_, err = c.ReadDir(ctx, "/")
	add(err)
	_, err = c.ReadFile(ctx, "/new", 10)
	add(err)
	side := make([]error, 4)
	var g sync.WaitGroup
	for i := range side {
		g.Go(func() {
			_, side[i] = c.Upload(ctx, fmt.Sprint("/", i), strings.NewReader("more content"), sftpipe.Attrs{})
		})
	}
	g.Wait()
	return append(errs, side...)
}

// TestCutAnywhere ends the connection after every number of bytes, in either
// direction: each call succeeds or says that the connection is lost, and
// nothing is left running.
func TestCutAnywhere(t *testing.T) {
	const plenty = 1 << 30
	run := func(read, write int) (readLeft, writeLeft int, lost bool) {
		_, conn := serve(t, nil)
		cut := &cutConn{Conn: conn, read: read, write: write}
		ctx := soon(t)
		c, err := sftpipe.NewClient(ctx, cut)
		if err != nil {
			if !errors.Is(err, sftpipe.ErrConnectionLost) {
				t.Errorf("cut at %d, %d: connect: %v", read, write, err)
			}
			return 0, 0, true
		}
		for _, err := range scenario(ctx, c) {
			if err == nil {
				continue
			}
			lost = true
			if !errors.Is(err, sftpipe.ErrConnectionLost) || errors.Is(err, io.EOF) {
				t.Errorf("cut at %d, %d: %v", read, write, err)
			}
		}
		if lost {
			<-c.Done()
			if err := c.Err(); !errors.Is(err, sftpipe.ErrConnectionLost) {
				t.Errorf("cut at %d, %d: Err() = %v", read, write, err)
			}
		}
		// A CLOSE nobody waits for may still be on its way: let it pass.
		c.Lstat(ctx, "/")
		c.Close()
		return cut.read, cut.write, lost
	}
	readLeft, writeLeft, lost := run(plenty, plenty)
	if lost {
		t.Fatal("the scenario fails without a cut")
	}
	read, write := plenty-readLeft, plenty-writeLeft
	if testing.Short() {
		t.Skip("a thousand connections")
	}
	for k := range read {
		run(k, plenty)
	}
	for k := range write {
		run(plenty, k)
	}
	t.Logf("%d cuts of what is read, %d of what is written", read, write)
}

// deafConn takes the greeting and then nothing more, while its Read waits on.
type deafConn struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (c *deafConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// TestDeafServer: a failed write ends the connection both ways, before anybody
// calls Close.
func TestDeafServer(t *testing.T) {
	f, conn := serve(t, nil)
	c := connect(t, &deafConn{Conn: conn, left: 2})
	if _, err := c.Lstat(soon(t), "/"); !errors.Is(err, sftpipe.ErrConnectionLost) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
	select {
	case <-f.ended:
	case <-soon(t).Done():
		t.Error("the connection was left open")
	}
}
