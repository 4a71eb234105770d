package sftpipe_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"releve/pkg/sftpipe"
)

// sshChannel is a session channel running the "sftp" subsystem of an SSH
// server in this process, and the TCP connection below it. serve is handed the
// server's end of the channel.
func sshChannel(t testing.TB, serve func(ssh.Channel)) (ssh.Channel, net.Conn) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var g sync.WaitGroup
	g.Go(func() {
		tcp, err := l.Accept()
		if err != nil {
			return
		}
		defer tcp.Close()
		conn, channels, requests, err := ssh.NewServerConn(tcp, config)
		if err != nil {
			return
		}
		defer conn.Wait()
		defer conn.Close()
		g.Go(func() { ssh.DiscardRequests(requests) })
		for nc := range channels {
			ch, requests, err := nc.Accept()
			if err != nil {
				return
			}
			g.Go(func() {
				for r := range requests {
					r.Reply(r.Type == "subsystem", nil)
				}
			})
			g.Go(func() { serve(ch); ch.Close() })
		}
	})
	tcp, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); g.Wait() })
	conn, channels, requests, err := ssh.NewClientConn(tcp, "", &ssh.ClientConfig{HostKeyCallback: ssh.FixedHostKey(signer.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(conn, channels, requests)
	t.Cleanup(func() { client.Wait() })
	t.Cleanup(func() { client.Close() })
	ch, chRequests, err := client.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Go(func() { ssh.DiscardRequests(chRequests) })
	if _, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil {
		t.Fatal(err)
	}
	return ch, tcp
}

// viaOpenSSH runs OpenSSH's sftp-server behind an SSH channel.
func viaOpenSSH(t testing.TB) (ssh.Channel, net.Conn) {
	server := serverPipes(t)
	return sshChannel(t, func(ch ssh.Channel) {
		var g sync.WaitGroup
		g.Go(func() { io.Copy(ch, server); ch.Close() })
		io.Copy(server, ch)
		server.Close()
		g.Wait()
	})
}

func TestOverSSH(t *testing.T) {
	ch, _ := viaOpenSSH(t)
	c, dir := connect(t, ch), t.TempDir()
	var g sync.WaitGroup
	for i := range 40 {
		g.Go(func() {
			size := 1000 * i
			if i == 0 {
				size = 9 << 20 // several windows of the channel
			}
			path, want := filepath.Join(dir, fmt.Sprint(i)), content(size, uint64(i))
			if n, err := c.Upload(soon(t), path, bytes.NewReader(want), sftpipe.Attrs{}); n != int64(size) || err != nil {
				t.Error(n, err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived as %d, %v", size, len(got), err)
			}
		})
	}
	g.Wait()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestStuckSSH: behind a peer that takes no more data the window fills up; the
// end of the TCP connection frees every call, and Close.
func TestStuckSSH(t *testing.T) {
	stuck := make(chan struct{})
	ch, tcp := sshChannel(t, func(ch ssh.Channel) {
		f := newFake(ch, func(w wire) ([][]byte, bool) {
			if w.typ == 6 {
				<-stuck
			}
			return nil, false
		})
		f.run()
	})
	defer close(stuck)
	c, err := sftpipe.NewClient(soon(t), ch)
	if err != nil {
		t.Fatal(err)
	}
	// Both lanes together have more to send than the window of the channel takes.
	const small, size = 20, 60 << 10
	var files []*sftpipe.File
	for i := range small {
		f, err := c.Create(soon(t), fmt.Sprint("/", i))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	read := make(chan struct{}, 1+small)
	given := func(n int, r io.Reader) io.Reader {
		return io.TeeReader(r, after(n, func() { read <- struct{}{} }))
	}
	lost := func(_ int64, err error) {
		if !errors.Is(err, sftpipe.ErrConnectionLost) {
			t.Errorf("upload: %v", err)
		}
	}
	var g sync.WaitGroup
	g.Go(func() { lost(c.Upload(soon(t), "/f", given(1<<20, zeros{}), sftpipe.Attrs{})) })
	<-read
	for _, f := range files {
		g.Go(func() { lost(f.Finish(soon(t), given(size, io.LimitReader(zeros{}, size)), sftpipe.Attrs{})) })
	}
	for range files {
		<-read
	}
	tcp.Close()
	g.Wait()
	c.Close()
}

// after calls f once that many bytes have passed.
func after(n int, f func()) io.Writer {
	return writerFunc(func(p []byte) {
		if n > 0 && n <= len(p) {
			f()
		}
		n -= len(p)
	})
}
