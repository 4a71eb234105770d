package e2e_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"releve/test/netlab"
)

// TestLargeFile: a large file arrives over several connections, and of its later versions only what has changed travels,
// also after the agent was killed.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	p := newPair(t, netlab.Options{RTT: 10 * time.Millisecond})
	name := filepath.Join(p.source, "dump.sql")
	data := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	write(t, name, string(data), 0o640)
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, then, then); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	p.inSync(t, time.Minute)
	p.identical(t, 0)

	sent := func() int64 {
		if p.lab == nil {
			return 0 // not known
		}
		up, _ := p.lab.WAN.Bytes()
		return up
	}
	edit := func(off int64, text []byte) func() {
		return func() {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(text, off); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	steps := []struct {
		what string
		do   func()
	}{
		{"4 KiB overwritten", edit(20<<20+777, make([]byte, 4<<10))},
		{"64 KiB appended", edit(40<<20, bytes.Repeat([]byte("more"), 16<<10))},
		{"cut off", func() {
			if err := os.Truncate(name, 33<<20+5); err != nil {
				t.Fatal(err)
			}
		}},
		{"mode", func() {
			if err := os.Chmod(name, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"changed while the agent was dead", func() {
			p.killAgent(t)
			edit(3, []byte("x"))()
			p.start(t)
		}},
	}
	for _, s := range steps {
		before := sent()
		s.do()
		p.identical(t, time.Minute)
		p.inSync(t, time.Minute)
		if n := sent() - before; n > 1<<20 {
			t.Errorf("%s: %d bytes were sent", s.what, n)
		} else {
			t.Logf("%s: %d bytes were sent", s.what, n)
		}
	}
	p.noLitter(t)
	left, err := filepath.Glob(filepath.Join(p.replica, ".releve-spool", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if fi, err := os.Stat(l); err == nil && fi.Size() > 0 {
			t.Errorf("left in the spool: %s, %d bytes", l, fi.Size())
		}
	}
}
