package sshjump

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// nodelay opens one session on a jump host, so that its sshd turns Nagle's
// algorithm off.
//
// OpenSSH sets TCP_NODELAY on the connection of a client in
// ssh_packet_set_interactive (packet.c), which it calls when a session starts a
// command (session.c, do_exec_no_pty) and at no other occasion. On a connection
// that carries only forwarded ones, each small reply then waits for the
// acknowledgement of the one before it: a round trip, and up to 40 ms of our own
// delayed acknowledgements.
//
// A forced command such as nologin does as well as any other. A jump host that
// refuses sessions is none the worse, and neither are we.
func nodelay(client *ssh.Client, timeout time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		session, err := client.NewSession()
		if err != nil {
			return
		}
		defer session.Close()
		_ = session.Run("true")
	}()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}
