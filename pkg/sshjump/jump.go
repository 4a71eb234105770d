package sshjump

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// nodelay starts a command on a jump host, so that its sshd turns Nagle's
// algorithm off.
//
// OpenSSH sets TCP_NODELAY on the connection of a client in
// ssh_packet_set_interactive (packet.c), which it calls when a session starts a
// command (session.c, do_exec_no_pty) and at no other occasion. On a connection
// that carries only forwarded ones, each small reply then waits for the
// acknowledgement of the one before it: a round trip, and up to 40 ms of our own
// delayed acknowledgements.
//
// Seen with strace on OpenSSH 9.2: opening a session, asking for a terminal or
// for an unknown subsystem does not do; a command does, before it is started, and
// the option outlasts the session. A forced command such as nologin is as good as
// any. A host that refuses sessions (MaxSessions 0) leaves Nagle on, and is used
// as it is.
//
// It returns when the command has ended, after timeout, or with the connection.
func nodelay(client *ssh.Client, timeout time.Duration) {
	session, err := client.NewSession()
	if err != nil {
		return
	}
	defer session.Close()
	timer := time.AfterFunc(timeout, func() { session.Close() })
	defer timer.Stop()
	_ = session.Run("true")
}

// prompt is the outermost connection, which acknowledges at once until nodelay
// has had its effect: until then each small reply of a jump host waits for the
// acknowledgement of the one before it, which the kernel would hold back for 40 ms.
type prompt struct {
	net.Conn
	tcp *net.TCPConn
	off atomic.Bool
}

func (p *prompt) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if !p.off.Load() {
		_ = quickAck(p.tcp) // where it is not to be had, it takes longer
	}
	return n, err
}

// nudgeAfter is longer than a host takes that is nearby and has nothing in its way.
const nudgeAfter = 2 * time.Millisecond

// nudge sends something that needs no answer. The last hop, too, has Nagle's
// algorithm on until a command was started, and what it says of its own accord
// after the login (hostkeys-00@openssh.com) makes the next thing it says wait for
// an acknowledgement, which the kernel of the jump host holds back until it has
// something to send along with it: this. Otherwise it is 40 ms, seen with
// OpenSSH 9.2 where hosts are nearby; at a distance the acknowledgement is in time.
func (c *Conn) nudge() {
	if len(c.clients) > 1 {
		_, _, _ = c.Client().SendRequest("keepalive@openssh.com", false, nil)
	}
}
