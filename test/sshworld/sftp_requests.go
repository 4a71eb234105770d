package sshworld

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"syscall"
)

// umask is what sshd runs SFTP sessions with, at the least.
const umask = 0o022

// below is a path of the client's as a path beneath the root.
func below(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

// request carries out one request. Without a reply of its own, a status is sent.
func (s *sftpServer) request(kind byte, id uint32, m *message) (*reply, error) {
	switch kind {
	case fxpOpen:
		return s.open(id, m)
	case fxpOpendir:
		return s.opendir(id, m)
	case fxpClose, fxpRead, fxpWrite, fxpFstat, fxpFsetstat, fxpReaddir:
		name := m.str()
		h, ok := s.handles[name]
		if !ok {
			return nil, errBadHandle
		}
		return s.onHandle(kind, id, m, name, h)
	case fxpExtended:
		return s.extended(id, m)
	case fxpSymlink:
		// OpenSSH swapped the two long ago, and is what the world speaks now.
		target, link := m.str(), below(m.str())
		return nil, s.do(m, "symlink", link, func() error { return s.root.Symlink(target, link) })
	case fxpRename:
		from, to := below(m.str()), below(m.str())
		return nil, s.do(m, "rename", to, func() error { return s.rename(from, to) })
	}

	given := m.str()
	p := below(given)
	switch kind {
	case fxpLstat:
		return s.attrsOf(id, m, "lstat", p, s.root.Lstat)
	case fxpStat:
		return s.attrsOf(id, m, "stat", p, s.root.Stat)
	case fxpSetstat:
		a := m.attrs()
		return nil, s.do(m, "setstat", p, func() error { return s.setstat(p, a) })
	case fxpRemove:
		return nil, s.do(m, "remove", p, func() error { return s.remove(p, false) })
	case fxpRmdir:
		return nil, s.do(m, "rmdir", p, func() error { return s.remove(p, true) })
	case fxpMkdir:
		a := m.attrs()
		mode := fs.FileMode(0o777)
		if a.flags&attrMode != 0 {
			mode = fs.FileMode(a.mode) & 0o777
		}
		return nil, s.do(m, "mkdir", p, func() error { return s.root.Mkdir(p, mode&^umask) })
	case fxpRealpath:
		real, err := s.realpath(p)
		return name(id, path.Join("/", real)), err
	case fxpReadlink:
		var target string
		err := s.do(m, "readlink", p, func() (err error) { target, err = s.root.Readlink(p); return })
		return name(id, target), err
	default:
		return nil, errNoReply
	}
}

// do asks for faults, then does it.
func (s *sftpServer) do(m *message, op, path string, f func() error) error {
	if m.bad {
		return syscall.EINVAL
	}
	if err := s.fault(op, path); err != nil {
		return err
	}
	return f()
}

func name(id uint32, n string) *reply {
	return newReply(fxpName).u32(id).u32(1).str(n).str(n).u32(0)
}

func (s *sftpServer) attrsOf(id uint32, m *message, op, p string, stat func(string) (fs.FileInfo, error)) (*reply, error) {
	var info fs.FileInfo
	err := s.do(m, op, p, func() (err error) { info, err = stat(p); return })
	if err != nil {
		return nil, err
	}
	return newReply(fxpAttrs).u32(id).attrs(info), nil
}

func (s *sftpServer) give(id uint32, h *handle) (*reply, error) {
	if len(s.handles) >= maxHandles {
		if h.file != nil {
			h.file.Close()
		}
		return nil, syscall.EMFILE
	}
	s.next++
	name := fmt.Sprintf("%08x", s.next)
	s.handles[name] = h
	return newReply(fxpHandle).u32(id).str(name), nil
}

func (s *sftpServer) open(id uint32, m *message) (*reply, error) {
	p, flags, a := below(m.str()), m.u32(), m.attrs()
	mode := fs.FileMode(0o666)
	if a.flags&attrMode != 0 {
		mode = fs.FileMode(a.mode) & 0o777
	}
	how := 0
	switch flags & 3 {
	case 1:
		how = os.O_RDONLY
	case 2:
		how = os.O_WRONLY
	case 3:
		how = os.O_RDWR
	}
	if flags&0x08 != 0 {
		how |= os.O_CREATE
	}
	if flags&0x10 != 0 {
		how |= os.O_TRUNC
	}
	if flags&0x20 != 0 {
		how |= os.O_EXCL
	}
	h := &handle{path: p, app: flags&0x04 != 0}
	if h.app {
		how |= os.O_APPEND
	}
	err := s.do(m, "open", p, func() (err error) { h.file, err = s.root.OpenFile(p, how, mode&^umask); return })
	if err != nil {
		return nil, err
	}
	return s.give(id, h)
}

func (s *sftpServer) opendir(id uint32, m *message) (*reply, error) {
	h := &handle{path: below(m.str()), dir: true}
	err := s.do(m, "opendir", h.path, func() error {
		dir, err := s.root.Open(h.path)
		if err != nil {
			return err
		}
		defer dir.Close()
		self, err := dir.Stat()
		if err != nil {
			return err
		}
		if !self.IsDir() {
			return syscall.ENOTDIR
		}
		// An entry that vanished meanwhile is left out, as sftp-server does.
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		h.entries = append(h.entries, renamed{self, "."}, renamed{self, ".."})
		for _, n := range names {
			if info, err := s.root.Lstat(path.Join(h.path, n)); err == nil {
				h.entries = append(h.entries, info)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.give(id, h)
}

type renamed struct {
	fs.FileInfo
	name string
}

func (r renamed) Name() string { return r.name }

// onHandle carries out the requests that name an open file.
func (s *sftpServer) onHandle(kind byte, id uint32, m *message, name string, h *handle) (*reply, error) {
	if h.dir != (kind == fxpReaddir) && kind != fxpClose {
		return nil, errBadHandle
	}
	switch kind {
	case fxpClose:
		delete(s.handles, name)
		return nil, s.do(m, "close", h.path, func() error {
			if h.dir {
				return nil
			}
			return h.file.Close()
		})
	case fxpRead:
		offset, n := m.u64(), min(m.u32(), maxData)
		data := make([]byte, n)
		var got int
		err := s.do(m, "read", h.path, func() (err error) { got, err = h.file.ReadAt(data, int64(offset)); return })
		if got == 0 && err != nil {
			return nil, err
		}
		return newReply(fxpData).u32(id).str(string(data[:got])), nil
	case fxpWrite:
		offset, data := m.u64(), m.bytes()
		return nil, s.do(m, "write", h.path, func() (err error) {
			if h.app {
				_, err = h.file.Write(data)
			} else {
				_, err = h.file.WriteAt(data, int64(offset))
			}
			return err
		})
	case fxpFstat:
		return s.attrsOf(id, m, "fstat", h.path, func(string) (fs.FileInfo, error) { return h.file.Stat() })
	case fxpFsetstat:
		a := m.attrs()
		return nil, s.do(m, "fsetstat", h.path, func() error { return fsetstat(h.file, a) })
	default: // fxpReaddir
		if err := s.do(m, "readdir", h.path, func() error { return nil }); err != nil {
			return nil, err
		}
		if len(h.entries) == 0 {
			return nil, errStatusEOF
		}
		now := h.entries[:min(100, len(h.entries))]
		h.entries = h.entries[len(now):]
		r := newReply(fxpName).u32(id).u32(uint32(len(now)))
		for _, info := range now {
			r.str(info.Name()).str(info.Mode().String() + " " + info.Name()).attrs(info)
		}
		return r, nil
	}
}

// rename is SSH_FXP_RENAME, which does not replace.
func (s *sftpServer) rename(from, to string) error {
	if _, err := s.root.Lstat(to); err == nil {
		return syscall.EEXIST
	}
	return s.root.Rename(from, to)
}

func (s *sftpServer) remove(p string, dir bool) error {
	info, err := s.root.Lstat(p)
	if err != nil {
		return err
	}
	if dir && !info.IsDir() {
		return syscall.ENOTDIR
	}
	if !dir && info.IsDir() {
		return syscall.EISDIR
	}
	return s.root.Remove(p)
}

// copyData copies between two open files; a length of zero means up to the end. It does so in pieces, before each of which
// a fault of "copy-write" is asked for. As with sftp-server, what goes wrong with the last piece is not told.
func (s *sftpServer) copyData(m *message) error {
	from, fromOk := s.handles[m.str()]
	offset, left := m.u64(), m.u64()
	to, toOk := s.handles[m.str()]
	at := m.u64()
	if !fromOk || !toOk || from.dir || to.dir || from.path == to.path {
		return errCopy
	}
	return s.do(m, "copy-data", to.path, func() error {
		toEnd := left == 0
		if toEnd {
			left = math.MaxUint64
		}
		var err error
		for buf := make([]byte, 64<<10); left > 0 && err == nil; {
			n := min(uint64(len(buf)), left)
			left -= n
			var got int
			if got, err = from.file.ReadAt(buf[:n], int64(offset)); got > 0 {
				if err = s.fault("copy-write", to.path); err == nil {
					_, err = to.file.WriteAt(buf[:got], int64(at))
				}
			}
			offset, at = offset+uint64(got), at+uint64(got)
		}
		if left == 0 || toEnd && errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

// errCopy is what sftp-server answers to handles that it cannot copy between.
var errCopy = syscall.EIO

// realpath follows all links in p. Its last element need not exist.
func (s *sftpServer) realpath(p string) (string, error) {
	done, rest := ".", strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		info, err := s.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) && len(rest) == 0:
			return next, nil
		case err != nil:
			return "", err
		case info.Mode().Type() != fs.ModeSymlink:
			done = next
			continue
		}
		if links++; links > 40 {
			return "", syscall.ELOOP
		}
		target, err := s.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(target, "/") {
			target = path.Join("/", done, target)
		}
		done, rest = ".", append(strings.Split(below(target), "/"), rest...)
	}
	return done, nil
}

func (s *sftpServer) extended(id uint32, m *message) (*reply, error) {
	ext := m.str()
	known := false
	for _, e := range extensions {
		known = known || e[0] == ext
	}
	for _, w := range s.without {
		known = known && w != ext
	}
	op, _, _ := strings.Cut(ext, "@")
	if !known {
		return nil, syscall.ENOSYS
	}
	switch op {
	case "limits":
		return newReply(fxpExtReply).u32(id).u64(maxPacket).u64(maxData).u64(maxData).u64(maxHandles), nil
	case "posix-rename":
		from, to := below(m.str()), below(m.str())
		return nil, s.do(m, op, to, func() error { return s.root.Rename(from, to) })
	case "hardlink":
		from, to := below(m.str()), below(m.str())
		return nil, s.do(m, op, to, func() error { return s.root.Link(from, to) })
	case "lsetstat":
		p, a := below(m.str()), m.attrs()
		return nil, s.do(m, op, p, func() error { return s.lsetstat(p, a) })
	case "copy-data":
		return nil, s.copyData(m)
	case "statvfs":
		p := below(m.str())
		var r *reply
		err := s.do(m, op, p, func() error {
			f, err := s.root.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			r, err = statvfs(id, f, nil)
			return err
		})
		if disk, ok := errors.AsType[*Disk](err); ok {
			r, err = statvfs(id, nil, disk)
		}
		return r, err
	default: // fsync, fstatvfs
		h, ok := s.handles[m.str()]
		if !ok || h.dir {
			return nil, errBadHandle
		}
		if op == "fsync" {
			return nil, s.do(m, op, h.path, h.file.Sync)
		}
		return statvfs(id, h.file, nil)
	}
}
