package sftpipe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// op is what a request asks for.
type op uint8

const (
	opOpen op = iota
	opClose
	opRead
	opWrite
	opLstat
	opStat
	opFstat
	opSetstat
	opFsetstat
	opOpendir
	opReaddir
	opRemove
	opMkdir
	opRmdir
	opRealpath
	opReadlink
	opSymlink
	opRename
	opHardlink
	opLsetstat
	opFsync
	opCopyData
	opStatVFS
	opLimits
)

type opInfo struct {
	name    string
	typ     byte
	ext     string // name of the extension, where typ is fxpExtended
	reply   byte   // type of the reply that means success
	changes bool   // something on the server: its effect is unknown without a reply
}

// ops is the table of requests, read only.
var ops = [...]opInfo{
	opOpen:     {"open", fxpOpen, "", fxpHandle, true},
	opClose:    {"close", fxpClose, "", fxpStatus, true},
	opRead:     {"read", fxpRead, "", fxpData, false},
	opWrite:    {"write", fxpWrite, "", fxpStatus, true},
	opLstat:    {"lstat", fxpLstat, "", fxpAttrs, false},
	opStat:     {"stat", fxpStat, "", fxpAttrs, false},
	opFstat:    {"fstat", fxpFstat, "", fxpAttrs, false},
	opSetstat:  {"setstat", fxpSetstat, "", fxpStatus, true},
	opFsetstat: {"fsetstat", fxpFsetstat, "", fxpStatus, true},
	opOpendir:  {"opendir", fxpOpendir, "", fxpHandle, false},
	opReaddir:  {"readdir", fxpReaddir, "", fxpName, false},
	opRemove:   {"remove", fxpRemove, "", fxpStatus, true},
	opMkdir:    {"mkdir", fxpMkdir, "", fxpStatus, true},
	opRmdir:    {"rmdir", fxpRmdir, "", fxpStatus, true},
	opRealpath: {"realpath", fxpRealpath, "", fxpName, false},
	opReadlink: {"readlink", fxpReadlink, "", fxpName, false},
	opSymlink:  {"symlink", fxpSymlink, "", fxpStatus, true},
	opRename:   {"rename", fxpExtended, "posix-rename@openssh.com", fxpStatus, true},
	opHardlink: {"hardlink", fxpExtended, "hardlink@openssh.com", fxpStatus, true},
	opLsetstat: {"lsetstat", fxpExtended, "lsetstat@openssh.com", fxpStatus, true},
	opFsync:    {"fsync", fxpExtended, "fsync@openssh.com", fxpStatus, true},
	opCopyData: {"copy-data", fxpExtended, "copy-data", fxpStatus, true},
	opStatVFS:  {"statvfs", fxpExtended, "statvfs@openssh.com", fxpExtendedReply, false},
	opLimits:   {"limits", fxpExtended, "limits@openssh.com", fxpExtendedReply, false},
}

// extendedFields is how many uint64 the extended reply to op consists of.
func extendedFields(op op) int {
	if op == opStatVFS {
		return 11
	}
	return 4
}

// Request is one request whose reply is a status, made by [Rename], [Remove]
// and their like, and sent by [Client.Do].
type Request struct {
	op      op
	path    string // what the request is about; for requests on a handle only shown in errors
	path2   string
	handle  string
	handle2 string // copy-data: where from
	flags   OpenFlags
	attrs   Attrs
	off     uint64
	off2    uint64 // copy-data: where from
	n       uint64
	data    *buffer
	charge  charge
}

// Rename replaces newpath by oldpath atomically, as rename(2) does
// (posix-rename@openssh.com).
func Rename(oldpath, newpath string) Request {
	return Request{op: opRename, path: oldpath, path2: newpath}
}

// Remove unlinks a file or a symbolic link.
func Remove(path string) Request { return Request{op: opRemove, path: path} }

// Rmdir removes an empty directory.
func Rmdir(path string) Request { return Request{op: opRmdir, path: path} }

// Mkdir makes a directory. Of attrs, OpenSSH uses the mode, less the umask.
func Mkdir(path string, attrs Attrs) Request { return Request{op: opMkdir, path: path, attrs: attrs} }

// Setstat sets the attributes of path, or of what it leads to if it is a
// symbolic link. A size truncates or extends.
func Setstat(path string, attrs Attrs) Request {
	return Request{op: opSetstat, path: path, attrs: attrs}
}

// Lsetstat sets the attributes of path itself, also of a symbolic link
// (lsetstat@openssh.com).
func Lsetstat(path string, attrs Attrs) Request {
	return Request{op: opLsetstat, path: path, attrs: attrs}
}

// Symlink makes link, which must not exist, a symbolic link that holds target.
// The arguments travel in OpenSSH's order, which is the reverse of the draft's.
func Symlink(target, link string) Request {
	return Request{op: opSymlink, path: target, path2: link}
}

// Hardlink gives the file oldpath the further name newpath, which must not
// exist (hardlink@openssh.com).
func Hardlink(oldpath, newpath string) Request {
	return Request{op: opHardlink, path: oldpath, path2: newpath}
}

// String names the request and its path.
func (r *Request) String() string { return fmt.Sprintf("%s %q", ops[r.op].name, r.path) }

// check refuses what would make the server end the session: OpenSSH takes a
// path with a zero byte, and a packet above its limit, for an attack.
func (r *Request) check(maxPacket int) error {
	if strings.IndexByte(r.path, 0) >= 0 || strings.IndexByte(r.path2, 0) >= 0 {
		return fmt.Errorf("%s: zero byte in path", r)
	}
	if len(r.path)+len(r.path2)+requestOverhead > maxPacket {
		return fmt.Errorf("%s %.40q…: path too long", ops[r.op].name, r.path)
	}
	return nil
}

// requestOverhead bounds everything in a request but its paths and its data.
const requestOverhead = 4 + 1 + 4 + 64 + 5*4 + 2*maxHandle + 3*8 + encodedAttrs

// append encodes the request. The data of a WRITE is counted but not appended:
// it follows from where it lies.
func (r *Request) append(b []byte, id uint32) []byte {
	info := &ops[r.op]
	start := len(b)
	b = append(b, 0, 0, 0, 0, info.typ)
	b = binary.BigEndian.AppendUint32(b, id)
	if info.ext != "" {
		b = appendString(b, info.ext)
	}
	follows := 0
	switch r.op {
	case opOpen:
		b = appendString(b, r.path)
		b = binary.BigEndian.AppendUint32(b, uint32(r.flags))
		b = appendAttrs(b, r.attrs)
	case opClose, opFstat, opReaddir, opFsync:
		b = appendString(b, r.handle)
	case opRead:
		b = appendString(b, r.handle)
		b = binary.BigEndian.AppendUint64(b, r.off)
		b = binary.BigEndian.AppendUint32(b, uint32(r.n))
	case opWrite:
		follows = len(r.data.b)
		b = appendString(b, r.handle)
		b = binary.BigEndian.AppendUint64(b, r.off)
		b = binary.BigEndian.AppendUint32(b, uint32(follows))
	case opFsetstat:
		b = appendString(b, r.handle)
		b = appendAttrs(b, r.attrs)
	case opSetstat, opLsetstat, opMkdir:
		b = appendString(b, r.path)
		b = appendAttrs(b, r.attrs)
	case opRename, opHardlink, opSymlink:
		b = appendString(b, r.path)
		b = appendString(b, r.path2)
	case opCopyData:
		b = appendString(b, r.handle2)
		b = binary.BigEndian.AppendUint64(b, r.off2)
		b = binary.BigEndian.AppendUint64(b, r.n)
		b = appendString(b, r.handle)
		b = binary.BigEndian.AppendUint64(b, r.off)
	case opLimits:
	default: // one path
		b = appendString(b, r.path)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4+follows))
	return b
}

// unconfirmed describes a request that has no reply because of err.
func (r *Request) unconfirmed(sent bool, err error) error {
	if sent && ops[r.op].changes {
		return fmt.Errorf("could not confirm %s: %w", r, err)
	}
	return fmt.Errorf("%s: %w", r, err)
}

var errNotSent = errors.New("not sent, another request of the flight is not valid")

// Do sends the requests as one flight, in this order and with nothing of
// anybody else in between, and awaits all replies. errs[i] belongs to reqs[i]
// and is nil where the server did as asked. The server does not stop at a
// failure: all that follows is carried out regardless. OpenSSH works strictly
// in order.
//
// If a request is not valid (a zero byte in a path), nothing is sent. If ctx
// ends before the first request was sent, nothing will be; once it was, all
// the others are sent too.
func (c *Client) Do(ctx context.Context, reqs ...Request) (errs []error) {
	if len(reqs) == 0 {
		return nil
	}
	errs = make([]error, len(reqs))
	refused := false
	for i := range reqs {
		errs[i] = reqs[i].check(c.limits.MaxPacket)
		refused = refused || errs[i] != nil
	}
	if refused {
		for i := range reqs {
			if errs[i] == nil {
				errs[i] = reqs[i].unconfirmed(false, errNotSent)
			}
		}
		return errs
	}
	fl := newFlight(c.urgent, reqs...)
	if err := ctx.Err(); err != nil {
		for i := range reqs {
			errs[i] = reqs[i].unconfirmed(false, contextError(ctx))
		}
		return errs
	}
	c.enqueue(fl)
	err := c.wait(ctx, fl)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range errs {
		if r := fl.replies[i]; r.done {
			errs[i] = r.err
		} else {
			errs[i] = fl.reqs[i].unconfirmed(fl.sent > 0, err) // all or none will be sent
		}
	}
	return errs
}

// one sends a single request and gives the value of its reply.
func (c *Client) one(ctx context.Context, l *lane, req Request) (any, error) {
	if err := req.check(c.limits.MaxPacket); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, req.unconfirmed(false, contextError(ctx))
	}
	fl := newFlight(l, req)
	c.enqueue(fl)
	return c.await(ctx, fl)
}

// await is wait for a flight of one request.
func (c *Client) await(ctx context.Context, fl *flight) (any, error) {
	if err := c.wait(ctx, fl); err != nil {
		return nil, c.unconfirmed(fl, err)
	}
	return fl.replies[0].value, fl.replies[0].err
}

// unconfirmed describes an abandoned flight by its first request.
func (c *Client) unconfirmed(fl *flight, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fl.reqs[0].unconfirmed(fl.sent > 0, err)
}
