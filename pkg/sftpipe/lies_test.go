package sftpipe_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"releve/pkg/sftpipe"
)

// TestLies: whatever a server says against the protocol ends the connection
// with a sentence about it, and neither panics nor hangs.
func TestLies(t *testing.T) {
	upload := func(ctx context.Context, c *sftpipe.Client) error {
		_, err := c.Upload(ctx, "/f", strings.NewReader("data"), sftpipe.Attrs{Has: sftpipe.HasMode, Mode: 0o644})
		return err
	}
	lstat := func(ctx context.Context, c *sftpipe.Client) error {
		_, err := c.Lstat(ctx, "/f")
		return err
	}
	list := func(ctx context.Context, c *sftpipe.Client) error {
		_, err := c.ReadDir(ctx, "/f")
		return err
	}
	read := func(ctx context.Context, c *sftpipe.Client) error {
		_, err := c.ReadFile(ctx, "/f", 10)
		return err
	}
	link := func(ctx context.Context, c *sftpipe.Client) error {
		_, err := c.Readlink(ctx, "/f")
		return err
	}
	vfs := func(ctx context.Context, c *sftpipe.Client) error {
		_, err := c.StatVFS(ctx, "/f")
		return err
	}
	tests := []struct {
		name string
		call func(context.Context, *sftpipe.Client) error
		typ  byte // what the lie is told about
		lie  func(id uint32) [][]byte
		want string
	}{
		{"unknown id", lstat, 7, func(id uint32) [][]byte { return [][]byte{status(id+1, 0)} }, "not outstanding"},
		{"duplicate reply", upload, 6, func(id uint32) [][]byte { return [][]byte{status(id, 0), status(id, 0)} }, "not outstanding"},
		{"status 0 for a handle", upload, 3, func(id uint32) [][]byte { return [][]byte{status(id, 0)} }, "status 0 in reply to open"},
		{"attributes for a write", upload, 6, func(id uint32) [][]byte { return [][]byte{packet(byte(105), id, uint32(0))} }, "reply of type 105 to write"},
		{"handle for a close", upload, 4, func(id uint32) [][]byte { return [][]byte{packet(byte(102), id, "h")} }, "reply of type 102 to close"},
		{"a type nobody knows", lstat, 7, func(id uint32) [][]byte { return [][]byte{packet(byte(77), id)} }, "reply of type 77"},
		{"empty handle", upload, 3, func(id uint32) [][]byte { return [][]byte{packet(byte(102), id, "")} }, "handle of 0 bytes"},
		{"long handle", upload, 3, func(id uint32) [][]byte { return [][]byte{packet(byte(102), id, strings.Repeat("h", 257))} }, "handle of 257 bytes"},
		{"truncated handle", upload, 3, func(id uint32) [][]byte { return [][]byte{packet(byte(102), id, uint32(9), byte('h'))} }, "malformed"},
		{"string beyond 2 GiB", upload, 3, func(id uint32) [][]byte { return [][]byte{packet(byte(102), id, uint32(1<<32-1), byte('h'))} }, "malformed"},
		{"truncated status", lstat, 7, func(id uint32) [][]byte { return [][]byte{packet(byte(101), id, byte(0))} }, "malformed status"},
		{"truncated message", lstat, 7, func(id uint32) [][]byte { return [][]byte{packet(byte(101), id, uint32(4), uint32(8), "x")} }, "malformed status"},
		{"bytes after the end", lstat, 7, func(id uint32) [][]byte { return [][]byte{packet(byte(105), id, uint32(0), byte(0))} }, "malformed"},
		{"unknown attributes", lstat, 7, func(id uint32) [][]byte { return [][]byte{packet(byte(105), id, uint32(0x10))} }, "malformed"},
		{"a billion extended attributes", lstat, 7, func(id uint32) [][]byte {
			return [][]byte{packet(byte(105), id, uint32(1<<31), uint32(1<<32-1), "a", "b")}
		}, "malformed"},
		{"a billion names", list, 12, func(id uint32) [][]byte {
			return [][]byte{packet(byte(104), id, uint32(1<<32-1), "a", "b", uint32(0))}
		}, "malformed"},
		{"no name, no end", list, 12, func(id uint32) [][]byte { return [][]byte{packet(byte(104), id, uint32(0))} }, "without a name"},
		{"a path as a name", list, 12, func(id uint32) [][]byte {
			return [][]byte{packet(byte(104), id, uint32(1), "../x", "", uint32(0))}
		}, `"../x" as a name`},
		{"two links", link, 19, func(id uint32) [][]byte {
			return [][]byte{packet(byte(104), id, uint32(2), "a", "", uint32(0), "b", "", uint32(0))}
		}, "2 names in reply to readlink"},
		{"no link", link, 19, func(id uint32) [][]byte { return [][]byte{packet(byte(104), id, uint32(0))} }, "0 names in reply to readlink"},
		{"more data than asked for", read, 5, func(id uint32) [][]byte { return [][]byte{packet(byte(103), id, "more than ten bytes")} }, "19 bytes of data where 11"},
		{"data without data", read, 5, func(id uint32) [][]byte { return [][]byte{packet(byte(103), id, "")} }, "0 bytes of data"},
		{"short statvfs", vfs, 200, func(id uint32) [][]byte { return [][]byte{packet(byte(201), id, uint64(1))} }, "malformed"},
		{"packet of 300 KiB", lstat, 7, func(uint32) [][]byte { return [][]byte{{0, 4, 0xb0, 0}} }, "packet of 307200 bytes"},
		{"packet of 4 GiB", lstat, 7, func(uint32) [][]byte { return [][]byte{{0xff, 0xff, 0xff, 0xff}} }, "packet of 4294967295 bytes"},
		{"empty packet", lstat, 7, func(uint32) [][]byte { return [][]byte{{0, 0, 0, 0}} }, "packet of 0 bytes"},
		{"packet without id", lstat, 7, func(uint32) [][]byte { return [][]byte{packet(byte(101), byte(0))} }, "packet of 2 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
				if w.typ != test.typ || w.typ == 200 && w.str(0) == "limits@openssh.com" {
					return nil, false
				}
				return test.lie(w.id), true
			})
			err := test.call(soon(t), c)
			select {
			case <-c.Done(): // the call may have got its answer before a second lie
			case <-soon(t).Done():
				t.Fatal("the connection outlived the lie")
			}
			if err == nil {
				err = c.Err()
			}
			if !errors.Is(err, sftpipe.ErrConnectionLost) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
			if _, err := c.Lstat(soon(t), "/"); !errors.Is(err, sftpipe.ErrConnectionLost) {
				t.Errorf("a later call: %v", err)
			}
		})
	}
}

func TestHandshakeLies(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"greeting", "Welcome to the machine", `text "Welc"`},
		{"nothing", "", "server ended the session"},
		{"half a packet", "\x00\x00\x00\x05\x02\x00", "unexpected EOF"},
		{"other type", string(packet(byte(101), uint32(3))), "packet of type 101"},
		{"other version", string(packet(byte(2), uint32(6))), "version 6"},
		{"short version", string(packet(byte(2), byte(3))), "packet of type 2"},
		{"torn extensions", string(packet(byte(2), uint32(3), "name")), "malformed list"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				theirs.Read(make([]byte, 100))
				theirs.Write([]byte(test.answer))
				theirs.Close()
			}()
			_, err := sftpipe.NewClient(soon(t), ours)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
			if _, err := ours.Write(nil); err == nil {
				t.Error("the connection was left open")
			}
			<-ended
		})
	}
}

func TestAbsurdLimits(t *testing.T) {
	for _, l := range [][4]uint64{{1, 1, 1, 1}, {262144, 10, 10, 0}, {512, 261120, 261120, 0}} {
		_, conn := serve(t, func(w wire) ([][]byte, bool) {
			if w.typ == 200 {
				return [][]byte{packet(byte(201), w.id, l[0], l[1], l[2], l[3])}, true
			}
			return nil, false
		})
		if _, err := sftpipe.NewClient(soon(t), conn); err == nil {
			t.Errorf("limits %v were taken", l)
		}
	}
	_, c := fakeClient(t, func(w wire) ([][]byte, bool) {
		if w.typ == 200 {
			return [][]byte{packet(byte(201), w.id, uint64(1)<<63, uint64(1)<<63, uint64(1)<<63, uint64(0), "more")}, true
		}
		return nil, false
	})
	if l := c.Limits(); l.MaxPacket > 256<<10 || l.MaxWrite > 261120 || l.MaxRead > 261120 {
		t.Errorf("limits %+v", l)
	}
}

// TestSilentServer: with a peer that neither reads nor answers, deadlines hold
// at every step and Close returns.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := sftpipe.NewClient(ctx, ours); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("handshake: %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("handshake took %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		silent := make(chan struct{})
		_, conn := serve(t, func(w wire) ([][]byte, bool) {
			if w.typ == 7 {
				<-silent
			}
			return nil, false
		})
		defer close(silent)
		c, err := sftpipe.NewClient(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			if _, err := c.Lstat(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("lstat: %v", err)
			}
			if d := time.Since(start); d != time.Second {
				t.Errorf("lstat took %v", d)
			}
			cancel()
		}
		c.Close()
	})
}
