package sftpipe_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"releve/pkg/sftpipe"
)

// wire is one packet as the server sees it.
type wire struct {
	typ  byte
	id   uint32
	body []byte // after the id
}

// str takes the n-th of the strings that the body begins with.
func (w wire) str(n int) string {
	b := w.body
	for {
		length := binary.BigEndian.Uint32(b)
		if n == 0 {
			return string(b[4:][:length])
		}
		b, n = b[4+length:], n-1
	}
}

// packet builds one from fields: byte, uint32, uint64, string.
func packet(fields ...any) []byte {
	b := make([]byte, 4)
	for _, f := range fields {
		switch f := f.(type) {
		case byte:
			b = append(b, f)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case string:
			b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
			b = append(b, f...)
		default:
			panic(fmt.Sprintf("field of type %T", f))
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func status(id, code uint32) []byte { return packet(byte(101), id, code, "words", "en") }

// fake is a server that answers everything well, unless its hook says otherwise.
// It keeps no file, only the sizes of those being written.
type fake struct {
	conn io.ReadWriteCloser
	hook func(w wire) (replies [][]byte, handled bool)

	mu      sync.Mutex
	seen    []wire
	handles int
	open    map[string]uint64 // handle → size
	listed  map[string]bool
	wrong   []string // requests about handles that are not open
	ended   chan struct{}
}

func newFake(conn io.ReadWriteCloser, hook func(w wire) ([][]byte, bool)) *fake {
	return &fake{conn: conn, hook: hook, open: map[string]uint64{}, listed: map[string]bool{}, ended: make(chan struct{})}
}

// serve starts a fake and gives the client's end of the connection.
func serve(t testing.TB, hook func(w wire) ([][]byte, bool)) (*fake, net.Conn) {
	ours, theirs := net.Pipe()
	f := newFake(theirs, hook)
	go f.run()
	t.Cleanup(func() { theirs.Close(); <-f.ended })
	return f, ours
}

// fakeClient is a client of a fake.
func fakeClient(t testing.TB, hook func(w wire) ([][]byte, bool)) (*fake, *sftpipe.Client) {
	f, conn := serve(t, hook)
	return f, connect(t, conn)
}

func (f *fake) run() {
	defer close(f.ended)
	defer f.conn.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(f.conn, head[:]); err != nil {
			return
		}
		p := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(f.conn, p); err != nil {
			return
		}
		w := wire{typ: p[0], id: binary.BigEndian.Uint32(p[1:]), body: p[5:]}
		f.mu.Lock()
		f.seen = append(f.seen, w)
		f.mu.Unlock()
		replies, handled := [][]byte(nil), false
		if f.hook != nil {
			replies, handled = f.hook(w)
		}
		if !handled {
			replies = [][]byte{f.answer(w)}
		}
		for _, r := range replies {
			if _, err := f.conn.Write(r); err != nil {
				return
			}
		}
	}
}

func (f *fake) answer(w wire) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch w.typ {
	case 4, 5, 6, 8, 10, 12:
		// OpenSSH gives the number of a closed handle to the next file: a
		// request that comes too late would hit that one.
		if _, ok := f.open[w.str(0)]; !ok {
			f.wrong = append(f.wrong, fmt.Sprintf("type %d on %s", w.typ, w.str(0)))
			return status(w.id, 4)
		}
	}
	switch w.typ {
	case 1:
		return packet(byte(2), uint32(3), "posix-rename@openssh.com", "1", "limits@openssh.com", "1")
	case 3, 11:
		f.handles++
		h := fmt.Sprint("h", f.handles)
		f.open[h] = 0
		return packet(byte(102), w.id, h)
	case 4:
		delete(f.open, w.str(0))
	case 5:
		return status(w.id, 1)
	case 6:
		h := w.str(0)
		rest := w.body[4+len(h):]
		end := binary.BigEndian.Uint64(rest) + uint64(binary.BigEndian.Uint32(rest[8:]))
		f.open[h] = max(f.open[h], end)
	case 7, 17:
		return packet(byte(105), w.id, uint32(0))
	case 8:
		return packet(byte(105), w.id, uint32(1), f.open[w.str(0)])
	case 12:
		if f.listed[w.str(0)] {
			return status(w.id, 1)
		}
		f.listed[w.str(0)] = true
		return packet(byte(104), w.id, uint32(1), "name", "long name", uint32(0))
	case 16, 19:
		return packet(byte(104), w.id, uint32(1), "/name", "", uint32(0))
	case 200:
		switch w.str(0) {
		case "copy-data":
			f.copied(w)
		case "limits@openssh.com":
			return packet(byte(201), w.id, uint64(262144), uint64(261120), uint64(261120), uint64(100))
		case "statvfs@openssh.com":
			return packet(byte(201), w.id, uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6), uint64(7), uint64(8), uint64(9), uint64(10), uint64(11))
		}
	}
	return status(w.id, 0)
}

// check reports what the client did to handles that were not open.
func (f *fake) check(t interface{ Errorf(string, ...any) }) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open) > 0 {
		t.Errorf("%d handles left open", len(f.open))
	}
	if len(f.wrong) > 0 {
		t.Errorf("requests on closed handles: %q", f.wrong)
	}
}

// types lists what was asked for, in order.
func (f *fake) types() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var types []byte
	for _, w := range f.seen {
		types = append(types, w.typ)
	}
	return types
}
