package sftpipe

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// FuzzReply feeds every kind of reply to every kind of request.
func FuzzReply(f *testing.F) {
	f.Add(uint8(opOpen), byte(fxpHandle), []byte{0, 0, 0, 1, 'h'})
	f.Add(uint8(opWrite), byte(fxpStatus), []byte{0, 0, 0, 4, 0, 0, 0, 1, 'm', 0, 0, 0, 0})
	f.Add(uint8(opRead), byte(fxpData), []byte{0, 0, 0, 1, 'd'})
	f.Add(uint8(opLstat), byte(fxpAttrs), []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Add(uint8(opReaddir), byte(fxpName), []byte{0, 0, 0, 1, 0, 0, 0, 1, 'n', 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(opStatVFS), byte(fxpExtendedReply), make([]byte, 88))
	f.Fuzz(func(t *testing.T, o uint8, typ byte, body []byte) {
		req := Request{op: op(o) % op(len(ops)), n: 100}
		r, err := parseReply(&req, typ, body)
		if err != nil {
			return
		}
		if !r.done {
			t.Fatal("a reply that is none")
		}
		// What callers rely on without looking.
		switch want := ops[req.op].reply; {
		case r.err != nil:
		case want == fxpHandle:
			if h := r.value.(string); h == "" || len(h) > maxHandle {
				t.Errorf("handle %q", h)
			}
		case want == fxpData:
			if d := r.value.([]byte); len(d) == 0 || len(d) > 100 {
				t.Errorf("%d bytes of data", len(d))
			}
		case want == fxpName:
			names := r.value.([]DirEntry)
			if len(names) == 0 || req.op != opReaddir && len(names) != 1 || len(names)*12 > len(body) {
				t.Errorf("%d names from %d bytes", len(names), len(body))
			}
		case want == fxpAttrs:
			_ = r.value.(Attrs)
		case want == fxpExtendedReply:
			_ = r.value.([]uint64)[extendedFields(req.op)-1]
		}
	})
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 5})
	f.Add([]byte("Last login"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		p, err := readPacket(bytes.NewReader(stream), nil)
		if err == nil && (len(p) == 0 || len(p) > maxReply) {
			t.Errorf("packet of %d bytes", len(p))
		}
	})
}

// TestAttrsRoundTrip: attributes are read back as they were written.
func TestAttrsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Attrs{Has: AttrFlags(rapid.Uint32Range(0, uint32(knownAttrs)).Draw(t, "has"))}
		if a.Has&HasSize != 0 {
			a.Size = rapid.Uint64().Draw(t, "size")
		}
		if a.Has&HasOwner != 0 {
			a.UID, a.GID = rapid.Uint32().Draw(t, "uid"), rapid.Uint32().Draw(t, "gid")
		}
		if a.Has&HasMode != 0 {
			a.Mode = rapid.Uint32().Draw(t, "mode")
		}
		if a.Has&HasTimes != 0 {
			a.Atime, a.Mtime = rapid.Uint32().Draw(t, "atime"), rapid.Uint32().Draw(t, "mtime")
		}
		b := appendAttrs(nil, a)
		d := decoder{b: b}
		if got := d.attrs(); !reflect.DeepEqual(got, a) || !d.end() || len(b) > encodedAttrs {
			t.Errorf("%+v came back as %+v", a, got)
		}
		for cut := range b {
			if d := (decoder{b: b[:cut]}); d.attrs() != (Attrs{}) || d.end() {
				t.Errorf("%d of %d bytes are taken for attributes", cut, len(b))
			}
		}
	})
}

// TestRequestOverhead: no request is longer than what check allows for.
func TestRequestOverhead(t *testing.T) {
	handle := string(make([]byte, maxHandle))
	attrs := Attrs{Has: knownAttrs}
	for o, info := range ops {
		req := Request{op: op(o), path: "path", path2: "path2", handle: handle, handle2: handle, attrs: attrs, data: &buffer{}}
		b := req.append(nil, 1)
		if len(b) > len("path")+len("path2")+requestOverhead {
			t.Errorf("%s takes %d bytes", info.name, len(b))
		}
		if got := int(b[2])<<8 + int(b[3]); got != len(b)-4 {
			t.Errorf("%s says it is %d bytes long, not %d", info.name, got, len(b)-4)
		}
		if info.name == "" {
			t.Errorf("request %d is not in the table", o)
		}
	}
}
