package sftpipe

import (
	"encoding/binary"
	"io"
	"strings"
)

// Packet types, draft-ietf-secsh-filexfer-02 §3.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

const (
	// protocolVersion is the only one OpenSSH speaks.
	protocolVersion = 3

	// maxReply is what we take from a server. OpenSSH's own limit is 256 KiB
	// (sftp-common.h); the slack is for servers that count without the header.
	maxReply = 256<<10 + 1024

	// maxHandle is the draft's limit for a handle (§6.3).
	maxHandle = 256

	// maxStatusMessage is how much of a server's words is kept.
	maxStatusMessage = 1024
)

// AttrFlags says which fields of an [Attrs] are there. The values are those of
// the protocol.
type AttrFlags uint32

const (
	HasSize  AttrFlags = 1 << iota // Size
	HasOwner                       // UID and GID
	HasMode                        // Mode
	HasTimes                       // Atime and Mtime

	hasExtended  AttrFlags = 1 << 31
	knownAttrs             = HasSize | HasOwner | HasMode | HasTimes
	encodedAttrs           = 4 + 8 + 8 + 4 + 8 // the longest encoding of an Attrs
)

// Attrs are the attributes of a file, as far as Has says they are known or to
// be set.
type Attrs struct {
	Has      AttrFlags
	Size     uint64
	UID, GID uint32
	Mode     uint32 // POSIX st_mode; in replies with the file type bits
	Atime    uint32 // seconds since the epoch, unsigned
	Mtime    uint32 // seconds since the epoch, unsigned
}

// File type bits of [Attrs.Mode], as in inode(7).
const (
	ModeType    uint32 = 0o170000
	ModeDir     uint32 = 0o040000
	ModeRegular uint32 = 0o100000
	ModeSymlink uint32 = 0o120000
)

// IsDir reports whether the attributes are known to be those of a directory.
func (a Attrs) IsDir() bool { return a.Has&HasMode != 0 && a.Mode&ModeType == ModeDir }

// IsRegular reports whether the attributes are known to be those of a regular file.
func (a Attrs) IsRegular() bool { return a.Has&HasMode != 0 && a.Mode&ModeType == ModeRegular }

// IsSymlink reports whether the attributes are known to be those of a symbolic link.
func (a Attrs) IsSymlink() bool { return a.Has&HasMode != 0 && a.Mode&ModeType == ModeSymlink }

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendAttrs(b []byte, a Attrs) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(a.Has&knownAttrs))
	if a.Has&HasSize != 0 {
		b = binary.BigEndian.AppendUint64(b, a.Size)
	}
	if a.Has&HasOwner != 0 {
		b = binary.BigEndian.AppendUint32(b, a.UID)
		b = binary.BigEndian.AppendUint32(b, a.GID)
	}
	if a.Has&HasMode != 0 {
		b = binary.BigEndian.AppendUint32(b, a.Mode)
	}
	if a.Has&HasTimes != 0 {
		b = binary.BigEndian.AppendUint32(b, a.Atime)
		b = binary.BigEndian.AppendUint32(b, a.Mtime)
	}
	return b
}

// decoder reads the fields of a packet. After the first field that is not
// there every further one is zero and short is set, so that callers check once.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if d.short || n < 0 || n > len(d.b) {
		d.short, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes gives a string field without copying it: it is valid as long as the packet is.
func (d *decoder) bytes() []byte {
	n := d.uint32()
	if uint64(n) > uint64(len(d.b)) {
		d.short, d.b = true, nil
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) attrs() Attrs {
	flags := AttrFlags(d.uint32())
	a := Attrs{Has: flags & knownAttrs}
	if flags&HasSize != 0 {
		a.Size = d.uint64()
	}
	if flags&HasOwner != 0 {
		a.UID = d.uint32()
		a.GID = d.uint32()
	}
	if flags&HasMode != 0 {
		a.Mode = d.uint32()
	}
	if flags&HasTimes != 0 {
		a.Atime = d.uint32()
		a.Mtime = d.uint32()
	}
	if flags&hasExtended != 0 {
		for count := d.uint32(); count > 0 && !d.short; count-- {
			d.bytes()
			d.bytes()
		}
	}
	if flags&^(knownAttrs|hasExtended) != 0 {
		// Version 3 has no other field; what follows cannot be told apart.
		d.short = true
	}
	if d.short {
		return Attrs{}
	}
	return a
}

// end reports whether the packet held exactly what was read from it.
func (d *decoder) end() bool { return !d.short && len(d.b) == 0 }

// readPacket reads one packet into buf, which it grows where needed. The
// result is valid until buf is used again.
func readPacket(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxReply || n == 0 {
		if text := string(head[:]); strings.TrimFunc(text, func(r rune) bool { return r >= ' ' && r < 0x7f || r == '\r' || r == '\n' }) == "" {
			return nil, violation("packet begins with the text %q (does a shell greet on this channel?)", text)
		}
		return nil, violation("packet of %d bytes", n)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf, nil
}

// DirEntry is one name of a directory.
type DirEntry struct {
	Name  string // raw bytes, no slash
	Attrs Attrs  // of the name itself: links are not followed
}

// parseReply decodes the body of a reply (after type and id) to req. Its error
// is always a protocol violation; a refusal by the server is in the reply.
func parseReply(req *Request, typ byte, body []byte) (reply, error) {
	info := &ops[req.op]
	d := decoder{b: body}
	if typ == fxpStatus {
		return parseStatus(req, &d)
	}
	if typ != info.reply {
		return reply{}, violation("reply of type %d to %s", typ, info.name)
	}
	r := reply{done: true}
	switch typ {
	case fxpHandle:
		handle := d.string()
		if d.end() && (handle == "" || len(handle) > maxHandle) {
			return reply{}, violation("handle of %d bytes", len(handle))
		}
		r.value = handle
	case fxpData:
		data := d.bytes()
		if d.end() && (len(data) == 0 || uint64(len(data)) > req.n) {
			return reply{}, violation("%d bytes of data where %d were asked for", len(data), req.n)
		}
		r.value = append([]byte(nil), data...)
	case fxpAttrs:
		r.value = d.attrs()
	case fxpName:
		names, err := parseNames(req, &d)
		if err != nil {
			return reply{}, err
		}
		r.value = names
	case fxpExtendedReply:
		// An extension may grow: bytes after the fields we know are none of our business.
		fields := make([]uint64, extendedFields(req.op))
		for i := range fields {
			fields[i] = d.uint64()
		}
		d.b = nil
		r.value = fields
	}
	if !d.end() {
		return reply{}, violation("malformed reply of type %d to %s", typ, info.name)
	}
	return r, nil
}

func parseStatus(req *Request, d *decoder) (reply, error) {
	info := &ops[req.op]
	code := d.uint32()
	var message []byte
	if len(d.b) > 0 { // some servers leave out both strings
		message = d.bytes()
		d.bytes() // language tag
	}
	if !d.end() {
		return reply{}, violation("malformed status in reply to %s", info.name)
	}
	if code == StatusOK {
		if info.reply != fxpStatus {
			return reply{}, violation("status 0 in reply to %s, which asks for more", info.name)
		}
		return reply{done: true}, nil
	}
	message = message[:min(len(message), maxStatusMessage)]
	return reply{done: true, err: &StatusError{Op: info.name, Path: req.path, Code: code, Message: string(message)}}, nil
}

func parseNames(req *Request, d *decoder) ([]DirEntry, error) {
	count := d.uint32()
	if req.op == opReaddir && count == 0 && !d.short {
		return nil, violation("listing without a name and without an end")
	}
	if req.op != opReaddir && count != 1 && !d.short {
		return nil, violation("%d names in reply to %s", count, ops[req.op].name)
	}
	// A name takes 12 bytes at least, whatever count says.
	names := make([]DirEntry, 0, min(int64(count), int64(len(d.b)/12)))
	for ; count > 0 && !d.short; count-- {
		name := d.string()
		d.bytes() // the long form, for people
		attrs := d.attrs()
		if d.short {
			break
		}
		if req.op == opReaddir && (name == "" || strings.ContainsAny(name, "/\x00")) {
			return nil, violation("%q as a name in a listing", name)
		}
		names = append(names, DirEntry{name, attrs})
	}
	return names, nil
}
