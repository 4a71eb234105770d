package sites

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// port is a TCP port that is ours while nothing listens on it: a socket that is bound to it and does not listen, see
// socket(7) on SO_REUSEADDR. Connections to it are refused all the same. Without it a stopped site could not be sure to
// come back, since the kernel gives free ports to outgoing connections.
type port struct {
	fd      int
	address string
}

// takePort takes the port of a HOST:PORT, in which HOST is an IP address; port 0 takes a free one.
func takePort(address string) (*port, error) {
	want, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("take port: %w", err)
	}
	var family int
	var name unix.Sockaddr
	if ip := want.Addr(); ip.Is4() {
		family, name = unix.AF_INET, &unix.SockaddrInet4{Port: int(want.Port()), Addr: ip.As4()}
	} else {
		family, name = unix.AF_INET6, &unix.SockaddrInet6{Port: int(want.Port()), Addr: ip.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("take port %s: %w", address, err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, name)
	}
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("take port %s: %w", address, err)
	}
	number := uint16(want.Port())
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		number = uint16(name.Port)
	case *unix.SockaddrInet6:
		number = uint16(name.Port)
	}
	return &port{fd: fd, address: netip.AddrPortFrom(want.Addr(), number).String()}, nil
}

func (p *port) close() error { return unix.Close(p.fd) }
