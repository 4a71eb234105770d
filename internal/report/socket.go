package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning means that a daemon answers on the socket already.
var ErrRunning = errors.New("already running")

// A socket is a Unix socket that is never, not for an instant, more open than it should be, and that no second daemon
// takes over. It refuses callers other than the daemon's own user and root.
type socket struct {
	*net.UnixListener
	path string
	lock *os.File
}

// longest is the size of sun_path (unix(7)) without its zero byte, less the suffix of the name a socket is made under.
const longest = 107 - len(unready)

const (
	unready = "~"
	lockExt = ".lock"
)

func listenSocket(path string) (_ *socket, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open status socket %s: %w", path, err)
		}
	}()
	if len(path) > longest {
		return nil, fmt.Errorf("the path has %d bytes, more than the %d a socket may have", len(path), longest)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// The lock goes with the process, however it ends: it tells a stale socket from a live one also when two daemons
	// start at the same moment, or when the live one is too busy to answer.
	lock, err := os.OpenFile(path+lockExt, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrRunning
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := makeWay(path); err != nil {
		return nil, err
	}
	// Made under another name and renamed when its mode is right: bind(2) follows the umask.
	temp := path + unready
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temp, 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(temp)
		return nil, err
	}
	return &socket{UnixListener: l, path: path, lock: lock}, nil
}

// makeWay makes sure that what lies at path, if anything, is a socket that nobody answers.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something else at that path; it is left alone")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return ErrRunning
	}
	return nil
}

// Accept hangs up on whoever is not ours: the mode of the socket keeps others out, except while it has another name in
// a directory that was made by somebody else.
func (s *socket) Accept() (net.Conn, error) {
	for {
		conn, err := s.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(conn); err == nil && (uid == 0 || int(uid) == os.Geteuid()) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}

// Close may be called more than once; only the first time it removes the socket, which may be another daemon's later.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	_ = os.Remove(s.path)
	_ = s.lock.Close()
	return err
}
