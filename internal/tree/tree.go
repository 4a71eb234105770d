// Package tree says what a directory tree looks like, and reads one without ever leaving it.
//
// Names are bytes: nothing here assumes UTF-8. A tree may be changed by others while it is read, by an adversary too:
// every path is resolved by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS (component by component with
// O_NOFOLLOW where the kernel or a seccomp filter refuses that call), so that a path is read only while every component
// of it is a real directory. That is stricter than [os.Root], which follows symbolic links that stay inside. Nothing
// but directories and regular files is ever opened.
//
// Filters follow the exclude patterns of rsync(1), "FILTER RULES".
package tree

import (
	"crypto/sha256"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Prefix begins the name of everything this project itself puts into a tree. Such names are never content: [Root.Scan]
// and [Filter.Excluded] leave them out at any depth.
const Prefix = ".releve"

// A Type is what a name stands for.
type Type uint8

const (
	File  Type = iota // a regular file
	Dir               // a directory
	Link              // a symbolic link, never followed
	Other             // a socket, FIFO or device; never opened
)

func (t Type) String() string {
	switch t {
	case File:
		return "file"
	case Dir:
		return "directory"
	case Link:
		return "symbolic link"
	default:
		return "special file"
	}
}

// An Entry is what is known of one name. The zero values named below mean "not known".
type Entry struct {
	Link  string // the target, of links
	Size  int64  // in bytes, of files; 0 for the rest
	MTime int64  // nanoseconds since the epoch; whole seconds on a replica

	// The identity of the local inode; zero on a replica.
	Dev, Ino uint64
	CTime    int64 // nanoseconds since the epoch

	Mode  fs.FileMode // permission, setuid, setgid and sticky bits alone; 0 for links
	Nlink uint32      // hard links to the inode; zero on a replica
	// Shared is of a replica alone: paths with the same number are names of one file there. 0 is not known to be so.
	Shared uint64
	Type   Type
	Sum    [sha256.Size]byte // SHA-256 of the content of a file; zero is not known
}

// A Tree holds entries by path: relative, slash-separated, raw bytes. The root itself is ".".
type Tree map[string]Entry

// Split cuts a path of a [Tree] into the directory that holds it and its name there. Unlike path.Split it takes the path
// for clean, as these are.
func Split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// Parent is the directory that holds path; the root's is the root.
func Parent(path string) string {
	dir, _ := Split(path)
	return dir
}

// Seconds is e's modification time in whole seconds since the epoch, rounded down: all that SFTP version 3 can carry.
func (e Entry) Seconds() int64 {
	seconds := e.MTime / int64(time.Second)
	if e.MTime%int64(time.Second) < 0 {
		seconds--
	}
	return seconds
}

// Equal reports whether a and b are identical as far as can be told without reading: type, mode, size, modification
// time in seconds, link target.
func Equal(a, b Entry) bool {
	return a.Type == b.Type && a.Mode == b.Mode && a.Size == b.Size && a.Seconds() == b.Seconds() && a.Link == b.Link
}

// Unchanged reports whether a and b, two looks at one local path, saw the same inode in the same state. ctime moves
// with every change of content or metadata and cannot be set by hand; it advances by clock ticks of some milliseconds,
// so that a write within the tick of the first look can go unnoticed unless it changed the size.
func Unchanged(a, b Entry) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.CTime == b.CTime && a.MTime == b.MTime && a.Size == b.Size &&
		a.Type == b.Type && a.Mode == b.Mode && a.Link == b.Link
}

// Hash reads r to its end: the SHA-256 and number of the bytes that came.
func Hash(r io.Reader) ([sha256.Size]byte, int64, error) {
	h := sha256.New()
	var buf []byte
	if _, ok := r.(*os.File); ok { // it would be copied in small pieces
		r, buf = struct{ io.Reader }{r}, make([]byte, 256<<10)
	}
	n, err := io.CopyBuffer(h, r, buf)
	return [sha256.Size]byte(h.Sum(nil)), n, err
}

// entryOf is st as an Entry, without a link's target.
func entryOf(st *unix.Stat_t) Entry {
	e := Entry{
		MTime: nanoseconds(st.Mtim),
		CTime: nanoseconds(st.Ctim),
		Dev:   uint64(st.Dev), //nolint:unconvert // narrower on some architectures
		Ino:   st.Ino,
		Nlink: uint32(st.Nlink),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = File, st.Size
	case unix.S_IFDIR:
		e.Type = Dir
	case unix.S_IFLNK:
		e.Type = Link
		return e // a link has no mode of its own
	default:
		e.Type = Other
	}
	e.Mode = fs.FileMode(st.Mode & 0o777)
	if st.Mode&unix.S_ISUID != 0 {
		e.Mode |= fs.ModeSetuid
	}
	if st.Mode&unix.S_ISGID != 0 {
		e.Mode |= fs.ModeSetgid
	}
	if st.Mode&unix.S_ISVTX != 0 {
		e.Mode |= fs.ModeSticky
	}
	return e
}

// nanoseconds saturates: some file systems hold times that 64 bits of nanoseconds (years 1677 to 2262) do not.
func nanoseconds(ts unix.Timespec) int64 {
	sec, nsec := int64(ts.Sec), int64(ts.Nsec) //nolint:unconvert // narrower on some architectures
	switch limit := int64(math.MaxInt64 / time.Second); {
	case sec >= limit:
		return math.MaxInt64
	case sec <= -limit:
		return math.MinInt64
	}
	return sec*int64(time.Second) + nsec
}

// Within reports whether the path p is dir or lies below it.
func Within(p, dir string) bool {
	return p == dir || dir == "." || strings.HasPrefix(p, dir+"/")
}
