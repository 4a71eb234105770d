package sshworld

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// The built-in SFTP server follows draft-ietf-secsh-filexfer-02 as OpenSSH's
// sftp-server does: requests are carried out one after the other, in the order in
// which they came, so that a client may send many at once and rely on it; errors
// are told by the same few codes, and with no more words; symlink's arguments are
// swapped; what is created gets its mode less a umask of 022; a request of unknown
// type gets no answer. Differences:
//
//   - Paths are taken beneath one folder, as in a chroot, through [os.Root]. A
//     link that leads out, or is absolute, can be read but not followed.
//   - expand-path, home-directory and users-groups-by-id are missing.

// Packet types, section 3 of the draft.
const (
	fxpInit     = 1
	fxpVersion  = 2
	fxpOpen     = 3
	fxpClose    = 4
	fxpRead     = 5
	fxpWrite    = 6
	fxpLstat    = 7
	fxpFstat    = 8
	fxpSetstat  = 9
	fxpFsetstat = 10
	fxpOpendir  = 11
	fxpReaddir  = 12
	fxpRemove   = 13
	fxpMkdir    = 14
	fxpRmdir    = 15
	fxpRealpath = 16
	fxpStat     = 17
	fxpRename   = 18
	fxpReadlink = 19
	fxpSymlink  = 20
	fxpStatus   = 101
	fxpHandle   = 102
	fxpData     = 103
	fxpName     = 104
	fxpAttrs    = 105
	fxpExtended = 200
	fxpExtReply = 201
)

// Status codes, section 7.
const (
	fxOK          = 0
	fxEOF         = 1
	fxNoSuchFile  = 2
	fxDenied      = 3
	fxFailure     = 4
	fxBadMessage  = 5
	fxUnsupported = 8
)

// What limits@openssh.com says.
const (
	maxPacket  = 256 << 10
	maxData    = maxPacket - 1024
	maxHandles = 1019
)

var extensions = [...][2]string{
	{"posix-rename@openssh.com", "1"},
	{"statvfs@openssh.com", "2"},
	{"fstatvfs@openssh.com", "2"},
	{"hardlink@openssh.com", "1"},
	{"fsync@openssh.com", "1"},
	{"lsetstat@openssh.com", "1"},
	{"limits@openssh.com", "1"},
	{"copy-data", "1"},
}

// ServeSFTP serves root on rwc until the client is done, and returns nil then.
// fault, if not nil, is asked before each request: see [Server.SetFault].
func ServeSFTP(rwc io.ReadWriter, root *os.Root, without []string, fault func(op, path string) error) error {
	if fault == nil {
		fault = func(string, string) error { return nil }
	}
	s := &sftpServer{root: root, without: without, fault: fault, handles: map[string]*handle{}, out: bufio.NewWriterSize(rwc, 64<<10)}
	defer s.closeAll()
	in := bufio.NewReaderSize(rwc, 64<<10)
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 || n > maxPacket {
			return errors.New("bad message length") // sftp-server exits, too
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(in, packet); err != nil {
			return err
		}
		if err := s.packet(packet); err != nil {
			return err
		}
		// Replies to requests of one flight leave in one flight.
		if in.Buffered() == 0 {
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
	}
}

type handle struct {
	path string
	file *os.File
	app  bool // opened for appending

	entries []fs.FileInfo // of a directory, not listed yet
	dir     bool
}

type sftpServer struct {
	root    *os.Root
	without []string
	fault   func(op, path string) error
	out     *bufio.Writer
	handles map[string]*handle
	next    uint32
}

func (s *sftpServer) closeAll() {
	for _, h := range s.handles {
		if h.file != nil {
			h.file.Close()
		}
	}
}

// packet carries out one request and writes its reply.
func (s *sftpServer) packet(p []byte) error {
	m := &message{rest: p[1:]}
	if p[0] == fxpInit {
		reply := newReply(fxpVersion).u32(3)
		for _, e := range extensions {
			if !slices.Contains(s.without, e[0]) {
				reply.str(e[0]).str(e[1])
			}
		}
		return s.send(reply)
	}
	id := m.u32()
	reply, err := s.request(p[0], id, m)
	if errors.Is(err, errNoReply) {
		return nil
	}
	if err == nil && m.bad {
		err = syscall.EINVAL
	}
	if reply == nil || err != nil {
		code := statusCode(err)
		reply = newReply(fxpStatus).u32(id).u32(code).str(statusText(code)).str("")
	}
	return s.send(reply)
}

func (s *sftpServer) send(r *reply) error {
	binary.BigEndian.PutUint32(r.b, uint32(len(r.b)-4))
	_, err := s.out.Write(r.b)
	return err
}

// errNoReply is for requests of unknown types.
var errNoReply = errors.New("no reply")

// errStatusEOF is the end of a file or of a directory.
var errStatusEOF = io.EOF

// errBadHandle is what sftp-server answers to a handle that it did not give.
var errBadHandle = syscall.EBADF

// statusCode is errno_to_portable of sftp-server.c.
func statusCode(err error) uint32 {
	if err == nil {
		return fxOK
	}
	if errors.Is(err, errStatusEOF) {
		return fxEOF
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return fxFailure
	}
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EBADF, syscall.ELOOP:
		return fxNoSuchFile
	case syscall.EPERM, syscall.EACCES, syscall.EFAULT:
		return fxDenied
	case syscall.ENAMETOOLONG, syscall.EINVAL:
		return fxBadMessage
	case syscall.ENOSYS:
		return fxUnsupported
	default:
		return fxFailure
	}
}

func statusText(code uint32) string {
	switch code {
	case fxOK:
		return "Success"
	case fxEOF:
		return "End of file"
	case fxNoSuchFile:
		return "No such file"
	case fxDenied:
		return "Permission denied"
	case fxBadMessage:
		return "Bad message"
	case fxUnsupported:
		return "Operation unsupported"
	default:
		return "Failure"
	}
}

// message is the rest of a request. After a read past its end, bad is set and
// all that is read is zero.
type message struct {
	rest []byte
	bad  bool
}

func (m *message) take(n int) []byte {
	if n < 0 || n > len(m.rest) {
		m.bad, m.rest = true, nil
		return nil
	}
	taken := m.rest[:n]
	m.rest = m.rest[n:]
	return taken
}

func (m *message) u32() uint32 {
	if b := m.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (m *message) u64() uint64 {
	if b := m.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (m *message) bytes() []byte { return m.take(int(m.u32())) }
func (m *message) str() string   { return string(m.bytes()) }

// reply is a packet being built. Its first four bytes are for its length.
type reply struct{ b []byte }

func newReply(kind byte) *reply { return &reply{b: []byte{0, 0, 0, 0, kind}} }

func (r *reply) u32(v uint32) *reply {
	r.b = binary.BigEndian.AppendUint32(r.b, v)
	return r
}

func (r *reply) u64(v uint64) *reply {
	r.b = binary.BigEndian.AppendUint64(r.b, v)
	return r
}

func (r *reply) str(v string) *reply {
	r.u32(uint32(len(v)))
	r.b = append(r.b, v...)
	return r
}
