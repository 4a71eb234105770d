package push

import (
	"io/fs"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// Permission bits as POSIX has them in st_mode, which SFTP carries as they are.
const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
	ownerRWX   = 0o700
)

// posixMode is the permission part of st_mode.
func posixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= modeSetuid
	}
	if m&fs.ModeSetgid != 0 {
		mode |= modeSetgid
	}
	if m&fs.ModeSticky != 0 {
		mode |= modeSticky
	}
	return mode
}

// fileMode is the inverse of posixMode.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if mode&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if mode&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	return m
}

func typeOf(a sftpipe.Attrs) tree.Type {
	switch a.Mode & sftpipe.ModeType {
	case sftpipe.ModeRegular:
		return tree.File
	case sftpipe.ModeDir:
		return tree.Dir
	case sftpipe.ModeSymlink:
		return tree.Link
	default:
		return tree.Other
	}
}

// entryOf is what a listing tells of a path; a link's target has to be asked for.
func entryOf(a sftpipe.Attrs) tree.Entry {
	e := tree.Entry{Type: typeOf(a), MTime: int64(a.Mtime) * 1e9}
	if e.Type != tree.Link {
		e.Mode = fileMode(a.Mode)
	}
	if e.Type == tree.File {
		e.Size = int64(a.Size)
	}
	return e
}

// attrsOf is what is set on the replica for e. A link has no mode of its own: only its times are set.
func attrsOf(e tree.Entry) sftpipe.Attrs {
	a := timesOf(e)
	if e.Type != tree.Link {
		a.Has |= sftpipe.HasMode
		a.Mode = posixMode(e.Mode)
	}
	return a
}

func timesOf(e tree.Entry) sftpipe.Attrs {
	mtime := uint32(max(0, min(e.Seconds(), 1<<32-1)))
	return sftpipe.Attrs{Has: sftpipe.HasTimes, Atime: mtime, Mtime: mtime}
}

// setattr returns the requests that give what lies at path, an entry of e's type, e's mode and times: none for a link
// on a server that cannot do that without following it.
//
// lsetstat@openssh.com follows no link, but to set a mode with it the C library needs fchmodat2(2) (Linux 6.6, glibc
// 2.39) or /proc, which a chroot does not have. Where it cannot, the mode is set by path.
func (r *Replica) setattr(path string, e tree.Entry) []sftpipe.Request {
	switch {
	case !r.lanes.Small.HasExtension(lsetstat):
		if e.Type == tree.Link {
			return nil
		}
		return []sftpipe.Request{sftpipe.Setstat(path, attrsOf(e))}
	case r.lchmod || e.Type == tree.Link:
		return []sftpipe.Request{sftpipe.Lsetstat(path, attrsOf(e))}
	}
	mode := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: posixMode(e.Mode)}
	return []sftpipe.Request{sftpipe.Setstat(path, mode), sftpipe.Lsetstat(path, timesOf(e))}
}

// withMode is e with another mode: what the replica holds until the right one is set.
func withMode(e tree.Entry, m fs.FileMode) tree.Entry {
	e.Mode = m
	return e
}
