package sshjump_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"releve/pkg/sshjump"
	"releve/test/memnet"
)

// On a link that is busy with other things the answer to a keepalive request may
// take minutes. As long as something comes, the connection lives; 15 seconds after
// the last byte it is given up.
func TestTrafficIsLife(t *testing.T) {
	keyFile, key := newKey(t)
	known := writeFile(t, knownhosts.Line([]string{"server:22"}, key.PublicKey()), 0o644)
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		l, err := network.Listen("server:22")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		const talks = 3 * time.Minute
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
			config.AddHostKey(key)
			server, channels, requests, err := ssh.NewServerConn(conn, config)
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				for range requests { // and no answer
				}
			}()
			go func() {
				for ch := range channels {
					_ = ch.Reject(ssh.Prohibited, "")
				}
			}()
			for range talks / (10 * time.Second) {
				time.Sleep(10 * time.Second)
				_, _, _ = server.SendRequest("anything@example.net", false, nil)
			}
		}()
		d := &sshjump.Dialer{DialContext: network.DialContext}
		start := time.Now()
		c, err := d.Dial(t.Context(), sshjump.Hop{Address: "server", User: "u", KeyFile: keyFile, KnownHosts: []string{known}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		<-c.Done()
		if !errors.Is(c.Err(), sshjump.ErrSilent) {
			t.Error(c.Err())
		}
		if took := time.Since(start); took != talks+sshjump.DefaultKeepaliveTimeout {
			t.Errorf("given up after %v", took)
		}
	})
}
