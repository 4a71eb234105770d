package sftpipe_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"releve/pkg/sftpipe"
)

// gate holds back the server's work on one type of packet.
type gate struct {
	typ  byte
	hold chan struct{} // closed to let them pass
}

func (g gate) hook(w wire) ([][]byte, bool) {
	if w.typ == g.typ {
		<-g.hold
	}
	return nil, false
}

// gated runs test in a bubble, with a server that stops at packets of one type.
func gated(t *testing.T, typ byte, test func(t *testing.T, f *fake, c *sftpipe.Client, open func())) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{typ, make(chan struct{})}
		f, c := fakeClient(t, g.hook)
		test(t, f, c, sync.OnceFunc(func() { close(g.hold) }))
		synctest.Wait()
		f.check(t)
		if _, err := c.Lstat(t.Context(), "/"); err != nil {
			t.Errorf("the connection is not usable any more: %v", err)
		}
	})
}

func TestAbandonedHandlesAreClosed(t *testing.T) {
	calls := map[string]struct {
		typ  byte
		call func(context.Context, *sftpipe.Client) error
	}{
		"open": {3, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.Upload(ctx, "/f", strings.NewReader("x"), sftpipe.Attrs{})
			return err
		}},
		"opendir": {11, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.ReadDir(ctx, "/")
			return err
		}},
		"readdir": {12, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.ReadDir(ctx, "/")
			return err
		}},
		"read": {5, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.ReadFile(ctx, "/f", 100)
			return err
		}},
		"write": {6, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.Upload(ctx, "/f", strings.NewReader("x"), sftpipe.Attrs{})
			return err
		}},
		"write of a large file": {6, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.Upload(ctx, "/f", io.LimitReader(zeros{}, 64<<20), sftpipe.Attrs{})
			return err
		}},
		"close": {4, func(ctx context.Context, c *sftpipe.Client) error {
			_, err := c.Upload(ctx, "/f", strings.NewReader("x"), sftpipe.Attrs{})
			return err
		}},
	}
	for name, test := range calls {
		t.Run(name, func(t *testing.T) {
			gated(t, test.typ, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if err := test.call(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
				if d := time.Since(start); d != time.Second {
					t.Errorf("gave up after %v", d)
				}
				open()
			})
		})
	}
}

// TestUploadReadsFirst: a file of one packet has been read before the server is
// asked to create its copy, and nobody has a round trip's time to change it.
func TestUploadReadsFirst(t *testing.T) {
	gated(t, 3, func(t *testing.T, _ *fake, c *sftpipe.Client, open func()) {
		source := strings.NewReader("x")
		uploaded := make(chan error)
		go func() {
			_, err := c.Upload(t.Context(), "/f", source, sftpipe.Attrs{})
			uploaded <- err
		}()
		synctest.Wait()
		if source.Len() > 0 {
			t.Error("it waits for the server, and has read nothing")
		}
		open()
		if err := <-uploaded; err != nil {
			t.Error(err)
		}
	})
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestWithdrawn: what was not sent when its context ended is never sent, and a
// flight that was begun is sent to its end.
func TestWithdrawn(t *testing.T) {
	gated(t, 17, func(t *testing.T, f *fake, c *sftpipe.Client, open func()) {
		go c.Stat(t.Context(), "/") // stops the server, and the pipe has no room
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		begun := make([]sftpipe.Request, 5000) // more than one write
		for i := range begun {
			begun[i] = sftpipe.Rename("/begun", "/begun")
		}
		result := make(chan []error)
		go func() { result <- c.Do(ctx, begun...) }()
		synctest.Wait()
		go func() { result <- c.Do(ctx, sftpipe.Remove("/withdrawn")) }()
		synctest.Wait()
		cancel()
		var sentences []string
		for range 2 {
			for _, err := range <-result {
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("error %v", err)
				}
				sentences = append(sentences, err.Error())
			}
		}
		for i := range begun {
			begun[i] = sftpipe.Rename("/reused", "/reused") // the slice is ours again
		}
		if got := strings.Count(strings.Join(sentences, "\n"), `remove "/withdrawn": `); got != 1 {
			t.Errorf("the withdrawn one is mentioned %d times", got)
		}
		if strings.Contains(strings.Join(sentences, "\n"), `confirm remove`) {
			t.Error("what was never sent is said to be in doubt")
		}
		if !strings.Contains(sentences[0]+sentences[len(sentences)-1], `could not confirm rename "/begun": `) {
			t.Errorf("what was sent is not said to be in doubt: %s", sentences[0])
		}
		open()
		synctest.Wait()
		renames := 0
		for _, w := range f.seen {
			switch {
			case w.typ == 13:
				t.Error("the withdrawn request was sent")
			case w.typ == 200 && w.str(0) == "posix-rename@openssh.com":
				renames++
				if w.str(1) != "/begun" {
					t.Fatalf("rename of %q", w.str(1))
				}
			}
		}
		if renames != len(begun) {
			t.Errorf("%d of %d requests of a begun flight were sent", renames, len(begun))
		}
	})
}

// TestCancelStorm: uploads and listings that end at any moment leave no handle
// open, touch no closed one, and leave the connection usable.
func TestCancelStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := fakeClient(t, func(wire) ([][]byte, bool) { time.Sleep(time.Millisecond); return nil, false })
		var g sync.WaitGroup
		for i := range 40 {
			g.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(i)))
				for range 30 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(300))*time.Millisecond)
					switch r.IntN(4) {
					case 0:
						c.ReadDir(ctx, "/")
					case 1:
						c.Upload(ctx, "/f", io.LimitReader(zeros{}, r.Int64N(2<<20)), sftpipe.Attrs{Has: sftpipe.HasMode})
					case 2:
						c.Upload(ctx, "/f", bytes.NewReader(make([]byte, r.IntN(1000))), sftpipe.Attrs{Has: sftpipe.HasMode})
					case 3:
						if f, err := c.OpenFile(ctx, "/f", sftpipe.OpenRead|sftpipe.OpenWrite, sftpipe.Attrs{}); err == nil {
							f.WriteAt(ctx, make([]byte, 600_000), 5)
							f.ReadAt(ctx, make([]byte, 600_000), 5)
							f.Close(ctx)
						}
					}
					cancel()
				}
			})
		}
		g.Wait()
		if _, err := c.Lstat(t.Context(), "/"); err != nil {
			t.Errorf("the connection is not usable any more: %v", err)
		}
		time.Sleep(time.Minute) // for what nobody waits for
		synctest.Wait()
		f.check(t)
	})
}
