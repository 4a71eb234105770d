package sshworld

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Flags of ATTRS, section 5 of the draft.
const (
	attrSize     = 1
	attrOwner    = 2
	attrMode     = 4
	attrTimes    = 8
	attrExtended = 1 << 31
)

type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	mode         uint32
	atime, mtime uint32
}

func (m *message) attrs() attrs {
	a := attrs{flags: m.u32()}
	if a.flags&attrSize != 0 {
		a.size = m.u64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = m.u32(), m.u32()
	}
	if a.flags&attrMode != 0 {
		a.mode = m.u32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = m.u32(), m.u32()
	}
	if a.flags&attrExtended != 0 {
		for n := m.u32(); n > 0 && !m.bad; n-- {
			m.str()
			m.str()
		}
	}
	return a
}

func (r *reply) attrs(info fs.FileInfo) *reply {
	st := info.Sys().(*syscall.Stat_t)
	return r.u32(attrSize | attrOwner | attrMode | attrTimes).
		u64(uint64(st.Size)).u32(st.Uid).u32(st.Gid).u32(st.Mode).
		u32(uint32(st.Atim.Sec)).u32(uint32(st.Mtim.Sec))
}

// permissions turns the mode of ATTRS into Go's.
func (a attrs) permissions() fs.FileMode {
	mode := fs.FileMode(a.mode & 0o777)
	if a.mode&syscall.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if a.mode&syscall.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if a.mode&syscall.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

func (a attrs) times() (atime, mtime time.Time) {
	return time.Unix(int64(a.atime), 0), time.Unix(int64(a.mtime), 0)
}

// apply does what flags ask for in the order of sftp-server: each is tried, and
// the last failure is the answer.
func (a attrs) apply(size, mode, times, owner func() error) (failed error) {
	for _, step := range []struct {
		flag uint32
		do   func() error
	}{{attrSize, size}, {attrMode, mode}, {attrTimes, times}, {attrOwner, owner}} {
		if a.flags&step.flag == 0 {
			continue
		}
		if err := step.do(); err != nil {
			failed = err
		}
	}
	return failed
}

func fsetstat(f *os.File, a attrs) error {
	return a.apply(
		func() error { return f.Truncate(int64(a.size)) },
		func() error { return f.Chmod(a.permissions()) },
		func() error {
			return control(f, func(fd int) error {
				return unix.Futimes(fd, []unix.Timeval{{Sec: int64(a.atime)}, {Sec: int64(a.mtime)}})
			})
		},
		func() error { return f.Chown(int(a.uid), int(a.gid)) },
	)
}

func (s *sftpServer) setstat(p string, a attrs) error {
	return a.apply(
		func() error {
			f, err := s.root.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(int64(a.size))
		},
		func() error { return s.root.Chmod(p, a.permissions()) },
		func() error {
			atime, mtime := a.times()
			return s.root.Chtimes(p, atime, mtime)
		},
		func() error { return s.root.Chown(p, int(a.uid), int(a.gid)) },
	)
}

// lsetstat does not follow a link at p.
func (s *sftpServer) lsetstat(p string, a attrs) error {
	return a.apply(
		func() error { return syscall.EINVAL },
		func() error {
			if info, err := s.root.Lstat(p); err != nil {
				return err
			} else if info.Mode().Type() == fs.ModeSymlink {
				return syscall.EOPNOTSUPP
			}
			return s.root.Chmod(p, a.permissions())
		},
		func() error {
			dir, err := s.root.Open(path.Dir(p))
			if err != nil {
				return err
			}
			defer dir.Close()
			return control(dir, func(fd int) error {
				return unix.UtimesNanoAt(fd, path.Base(p), []unix.Timespec{{Sec: int64(a.atime)}, {Sec: int64(a.mtime)}}, unix.AT_SYMLINK_NOFOLLOW)
			})
		},
		func() error { return s.root.Lchown(p, int(a.uid), int(a.gid)) },
	)
}

// statvfs answers statvfs@openssh.com and its twin for handles.
// Disk is given as an error by a fault for "statvfs" that wants another disk described than there is.
type Disk struct{ Size, Free uint64 } // bytes

func (d *Disk) Error() string {
	return fmt.Sprintf("a disk of %d bytes, %d of them free", d.Size, d.Free)
}

func statvfs(id uint32, f *os.File, disk *Disk) (*reply, error) {
	var st unix.Statfs_t
	if disk != nil {
		st = unix.Statfs_t{Bsize: 1, Frsize: 1, Blocks: disk.Size, Bfree: disk.Free, Bavail: disk.Free, Files: 1, Ffree: 1, Namelen: 255}
	} else if err := control(f, func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return nil, err
	}
	var flags uint64
	if st.Flags&unix.ST_RDONLY != 0 {
		flags |= 1
	}
	if st.Flags&unix.ST_NOSUID != 0 {
		flags |= 2
	}
	return newReply(fxpExtReply).u32(id).
		u64(uint64(st.Bsize)).u64(uint64(st.Frsize)).
		u64(st.Blocks).u64(st.Bfree).u64(st.Bavail).
		u64(st.Files).u64(st.Ffree).u64(st.Ffree).
		u64(uint64(uint32(st.Fsid.Val[0]))).u64(flags).u64(uint64(st.Namelen)), nil
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
