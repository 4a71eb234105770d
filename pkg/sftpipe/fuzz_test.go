package sftpipe_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"releve/pkg/sftpipe"
)

// FuzzServer lets a server say anything at all after a proper greeting, and
// then hang up: no call may panic or hang.
func FuzzServer(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add(status(1, 0), false)
	f.Add(packet(byte(102), uint32(1), "h"), false)
	f.Add(append(packet(byte(102), uint32(1), "h"), append(status(2, 0), append(packet(byte(105), uint32(3), uint32(1), uint64(4)), status(4, 0)...)...)...), false)
	f.Add(packet(byte(104), uint32(1), uint32(1), "a", "", uint32(1<<31), uint32(1), "k", "v"), false)
	f.Add(packet(byte(201), uint32(1), uint64(40000), uint64(40000), uint64(40000), uint64(4)), true)
	f.Fuzz(func(t *testing.T, answer []byte, limits bool) {
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer theirs.Close()
			greeting := []any{byte(2), uint32(3)}
			if limits {
				greeting = append(greeting, "limits@openssh.com", "1")
			}
			go io.Copy(io.Discard, theirs)
			theirs.Write(packet(greeting...))
			theirs.Write(answer)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c, err := sftpipe.NewClient(ctx, ours)
		if ctx.Err() != nil {
			t.Errorf("hangs: %v", err)
		}
		if err == nil {
			for _, err := range scenario(ctx, c) {
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("hangs: %v", err)
				}
			}
			c.Close()
		}
		<-ended
	})
}
