package sshjump_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"releve/pkg/sshjump"
	"releve/test/memnet"
	"releve/test/sshworld"
)

// inMemory runs a test in fake time, against a world in memory.
func inMemory(t *testing.T, test func(t *testing.T, w *sshworld.World, d *sshjump.Dialer)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		w, err := sshworld.Start(t.Context(), dir, sshworld.Options{Network: network, BastionListen: "bastion:22", BackupListen: "192.0.2.1:22"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		test(t, w, &sshjump.Dialer{DialContext: network.DialContext})
	})
}

// A hop that takes the connection and says nothing costs HandshakeTimeout.
func TestSilentHop(t *testing.T) {
	for hop, name := range []string{"bastion", "backup"} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, w *sshworld.World, d *sshjump.Dialer) {
				[]*sshworld.Server{w.Bastion, w.Backup}[hop].Freeze()
				start := time.Now()
				_, err := d.Dial(t.Context(), hops(w)...)
				wantError(t, err, hop, sshjump.Network, "no answer within 30s")
				if took := time.Since(start); took != sshjump.DefaultHandshakeTimeout {
					t.Errorf("it took %v", took)
				}

				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start = time.Now()
				_, err = d.Dial(ctx, hops(w)...)
				wantError(t, err, hop, sshjump.Network)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// The context of Dial bounds Dial only.
func TestContextEndsAfterDial(t *testing.T) {
	inMemory(t, func(t *testing.T, w *sshworld.World, d *sshjump.Dialer) {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := d.Dial(ctx, hops(w)...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cancel()
		time.Sleep(24 * time.Hour) // thousands of keepalives
		if c.Err() != nil {
			t.Error(c.Err())
		}
		useSubsystem(t, c)
	})
}

// Whichever hop turns into a black hole, it is noticed within half a minute.
func TestBlackHole(t *testing.T) {
	for hop, name := range []string{"bastion", "backup"} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, w *sshworld.World, d *sshjump.Dialer) {
				c, err := d.Dial(t.Context(), hops(w)...)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				s, err := c.Subsystem(t.Context(), "sftp")
				if err != nil {
					t.Fatal(err)
				}
				read := make(chan error, 1)
				go func() {
					_, err := s.Read(make([]byte, 1))
					read <- err
				}()
				time.Sleep(12345 * time.Millisecond)
				[]*sshworld.Server{w.Bastion, w.Backup}[hop].Freeze()
				start := time.Now()
				<-c.Done()
				if took := time.Since(start); took > 30*time.Second || took < sshjump.DefaultKeepaliveTimeout {
					t.Errorf("noticed after %v", took)
				}
				if e := wantError(t, c.Err(), 1, sshjump.Network, "given up after 15s"); !errors.Is(e, sshjump.ErrSilent) {
					t.Error(e)
				}
				if err := <-read; err == nil {
					t.Error("read went on")
				}
			})
		})
	}
}

// The same while a write is stuck in the network. It holds locks that everything
// else waits for: the keepalive request cannot even be sent. In real time, because
// locks stop the clock of synctest; in memory, because there the buffers between
// us and the bastion are smaller than SSH's windows.
func TestBlackHoleWithStuckWrite(t *testing.T) {
	for hop, name := range []string{"bastion", "backup"} {
		t.Run(name, func(t *testing.T) {
			network := new(memnet.Network)
			w, err := sshworld.Start(t.Context(), t.TempDir(), sshworld.Options{Network: network, BastionListen: "bastion:22", BackupListen: "192.0.2.1:22"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			d := &sshjump.Dialer{DialContext: network.DialContext, KeepaliveInterval: 200 * time.Millisecond, KeepaliveTimeout: 300 * time.Millisecond}
			c, err := d.Dial(within(t), hops(w)...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := c.Subsystem(within(t), "sftp")
			if err != nil {
				t.Fatal(err)
			}
			[]*sshworld.Server{w.Bastion, w.Backup}[hop].Freeze()
			written := make(chan error, 1)
			go func() {
				for {
					if _, err := s.Write(make([]byte, 1<<20)); err != nil {
						written <- err
						return
					}
				}
			}()
			waitDone(t, c)
			wantError(t, c.Err(), 1, sshjump.Network, "given up after 300ms")
			<-written
			c.Close()
		})
	}
}

// Close does not wait for a network that has gone.
func TestCloseInBlackHole(t *testing.T) {
	inMemory(t, func(t *testing.T, w *sshworld.World, d *sshjump.Dialer) {
		c, err := d.Dial(t.Context(), hops(w)...)
		if err != nil {
			t.Fatal(err)
		}
		w.Bastion.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		_, err = c.Subsystem(ctx, "sftp")
		wantError(t, err, 1, sshjump.Network)
		c.Close()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// The command that turns Nagle off on jump hosts is waited for by nobody.
func TestHangingCommand(t *testing.T) {
	inMemory(t, func(t *testing.T, w *sshworld.World, d *sshjump.Dialer) {
		w.Bastion.HangCommands(true)
		start := time.Now()
		c, err := d.Dial(t.Context(), hops(w)...)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := w.Bastion.Commands(); n != 1 {
			t.Errorf("%d commands on the bastion", n)
		}
		c.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// A freeze that is shorter than the timeout is survived.
func TestHiccup(t *testing.T) {
	inMemory(t, func(t *testing.T, w *sshworld.World, d *sshjump.Dialer) {
		c, err := d.Dial(t.Context(), hops(w)...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 10 {
			w.Bastion.Freeze()
			time.Sleep(14 * time.Second)
			w.Bastion.Thaw()
			time.Sleep(2 * time.Second)
		}
		useSubsystem(t, c)
	})
}
