package sshjump

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout sets TCP_USER_TIMEOUT of tcp(7).
func setUserTimeout(conn *net.TCPConn, d time.Duration) error {
	return setTCP(conn, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}

// quickAck has what was received acknowledged at once: TCP_QUICKACK of tcp(7),
// which the kernel forgets before long.
func quickAck(conn *net.TCPConn) error { return setTCP(conn, unix.TCP_QUICKACK, 1) }

func setTCP(conn *net.TCPConn, option, value int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
	})
	if err != nil {
		return err
	}
	return failed
}
