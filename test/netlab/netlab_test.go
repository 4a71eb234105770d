package netlab_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
)

func newLab(t *testing.T, opts netlab.Options) *netlab.Lab {
	t.Helper()
	if err := netlab.Unavailable(); err != nil {
		t.Skipf("left out: %v", err)
	}
	if err := netlab.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	l, err := netlab.New(t.Context(), "t", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// TestWays: what can reach what, and how long it takes.
func TestWays(t *testing.T) {
	const rtt = 40 * time.Millisecond
	l := newLab(t, netlab.Options{RTT: rtt, Addresses: []string{"193.70.0.53"}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	echo := func(h *netlab.Host, address string) {
		ln, err := h.Listen(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c) //nolint:errcheck // ends with the connection
				}()
			}
		}()
	}
	echo(l.Home, netlab.HomeIPv4+":22")
	echo(l.Backup, netlab.BackupIPv4+":22")
	echo(l.Internet, "193.70.0.53:53")

	for _, way := range []struct {
		from *netlab.Host
		to   string
		ok   bool
	}{
		{l.Prod, netlab.HomeIPv4 + ":22", true},
		{l.Home, netlab.BackupIPv4 + ":22", true},
		{l.Prod, "193.70.0.53:53", true},
		{l.Prod, netlab.BackupIPv4 + ":22", false},
		{l.Backup, "193.70.0.53:53", false}, // home does not forward
	} {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		conn, err := way.from.Dial(ctx, "tcp", way.to)
		cancel()
		if err == nil {
			conn.Close()
		}
		if (err == nil) != way.ok {
			t.Errorf("from %s to %s: %v, want to get through: %v", way.from.Name, way.to, err, way.ok)
		}
	}

	conn, err := l.Prod.Dial(ctx, "tcp", netlab.HomeIPv4+":22")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ping := func() (time.Duration, error) {
		conn.SetDeadline(time.Now().Add(300 * time.Millisecond)) //nolint:errcheck // seen in what follows
		began := time.Now()
		if _, err := conn.Write([]byte("x")); err != nil {
			return 0, err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return time.Since(began), err
	}
	if took, err := ping(); err != nil || took < rtt || took > rtt+50*time.Millisecond {
		t.Errorf("a round trip took %v, %v; want %v", took, err, rtt)
	}
	l.WAN.Cut()
	if _, err := ping(); err == nil {
		t.Error("an answer over a cut link")
	} else if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
		t.Errorf("a cut link is not silent: %v", err)
	}
	l.WAN.Mend()
	conn.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // seen in what follows
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("the connection did not outlive the cut: %v", err)
	}

	// A large transfer passes whole, and quickly, offloads and all.
	l.WAN.SetDelay(0)
	big := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	began := time.Now()
	conn.SetDeadline(time.Now().Add(15 * time.Second)) //nolint:errcheck // seen in what follows
	go io.WriteString(conn, big)                       //nolint:errcheck // seen by the reader
	got := make([]byte, len(big))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != big {
		t.Errorf("16 MiB came back wrong: %v", err)
	}
	t.Logf("16 MiB there and back in %v", time.Since(began))
}

// TestRouter: with NAT, backup reaches the world and the world its site, and nothing else there.
func TestRouter(t *testing.T) {
	l := newLab(t, netlab.Options{NAT: true, Addresses: []string{"193.70.0.53"}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, address := range []string{"193.70.0.53:53"} {
		ln, err := l.Internet.Listen(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	for _, port := range []string{"22", "443"} {
		ln, err := l.Backup.Listen(ctx, "tcp", netlab.BackupIPv4+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	for _, way := range []struct {
		from *netlab.Host
		to   string
		ok   bool
	}{
		{l.Backup, "193.70.0.53:53", true},
		{l.Prod, netlab.HomeIPv4 + ":443", true},
		{l.Internet, netlab.HomeIPv4 + ":443", true},
		{l.Prod, netlab.HomeIPv4 + ":22", false},
		{l.Prod, netlab.BackupIPv4 + ":22", false},
	} {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		conn, err := way.from.Dial(ctx, "tcp", way.to)
		cancel()
		if err == nil {
			conn.Close()
		}
		if (err == nil) != way.ok {
			t.Errorf("from %s to %s: %v, want to get through: %v", way.from.Name, way.to, err, way.ok)
		}
	}
}

// TestNothingStays: a laboratory takes its processes with it.
func TestNothingStays(t *testing.T) {
	if err := netlab.Unavailable(); err != nil {
		t.Skipf("left out: %v", err)
	}
	l, err := netlab.New(t.Context(), "stays", netlab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Home.Start(t.Context(), t.TempDir()+"/log", "sh", "-c", "sleep 100 & sleep 200")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	case <-time.After(5 * time.Second):
		t.Error("a process outlived its laboratory")
	}
	for _, dir := range []string{"/run/netns", "/etc/netns"} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.Contains(e.Name(), fmt.Sprintf("-%d-stays", os.Getpid())) {
				t.Errorf("left behind: %s/%s", dir, e.Name())
			}
		}
	}
}
