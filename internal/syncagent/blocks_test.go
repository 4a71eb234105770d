package syncagent

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
)

func someBlocks(n int) *push.Blocks {
	b := &push.Blocks{Size: int64(n)*64<<10 - 5}
	for i := range n {
		b.Hashes = append(b.Hashes, push.BlockHash(bytes.Repeat([]byte{byte(i)}, 16)))
	}
	return b
}

func newBlockStore(t *testing.T) blockStore {
	return blockStore{filepath.Join(t.TempDir(), "blocks"), slog.New(slog.DiscardHandler)}
}

func TestBlockStore(t *testing.T) {
	s, sum, want := newBlockStore(t), sha256.Sum256([]byte("x")), someBlocks(200)
	if s.Load(sum) != nil {
		t.Error("something of nothing")
	}
	for range 2 { // it may be said again
		s.Save(sum, want)
		if got := s.Load(sum); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v", got)
		}
	}
	info, err := os.Stat(s.file(sum))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, os.Rename(s.file(sum), s.file([32]byte{1})))
	if s.Load(sum) != nil {
		t.Error("hashes of another content")
	}
}

// TestBlocksDamage: hashes that are cut or changed at any byte are not used.
func TestBlocksDamage(t *testing.T) {
	data := encodeBlocks(someBlocks(9))
	for i := range data {
		if _, err := parseBlocks(data[:i]); err == nil {
			t.Errorf("cut to %d bytes and used", i)
		}
		other := slices.Clone(data)
		other[i] ^= 0x10
		if _, err := parseBlocks(other); err == nil {
			t.Errorf("changed at %d and used", i)
		}
	}
	if _, err := parseBlocks(append(data, 0)); err == nil {
		t.Error("lengthened and used")
	}
}

// FuzzParseBlocks wants of whatever is well signed that it is what encodeBlocks would write, or is refused.
func FuzzParseBlocks(f *testing.F) {
	for _, n := range []int{0, 1, 9} {
		data := encodeBlocks(someBlocks(max(n, 1)))
		f.Add(data[:len(data)-sha256.Size])
	}
	f.Add([]byte(blocksHeader))
	f.Add([]byte(blocksHeader + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"))
	f.Add([]byte(blocksHeader + "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		b, err := parseBlocks(append(slices.Clone(body), sum[:]...))
		if err != nil {
			return
		}
		if !b.Valid() {
			t.Fatalf("%+v", b)
		}
		again, err := parseBlocks(encodeBlocks(b))
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func TestBlocksPrune(t *testing.T) {
	s := newBlockStore(t)
	must(t, s.prune(plan.NewKnown(nil), time.Now()))
	sum := func(name string) [32]byte { return sha256.Sum256([]byte(name)) }
	for _, name := range []string{"held", "sent", "gone", "small"} {
		s.Save(sum(name), someBlocks(1))
	}
	known := plan.NewKnown(tree.Tree{"a": {Sum: sum("held"), Size: push.CarrySize}, "b": {Sum: sum("small"), Size: 7}})
	known.Expect("c", tree.Entry{Sum: sum("sent"), Size: push.CarrySize})
	must(t, s.prune(known, time.Now()))
	for _, name := range []string{"held", "sent", "gone", "small"} {
		if s.Load(sum(name)) == nil {
			t.Errorf("%s was removed at once", name)
		}
	}
	must(t, os.WriteFile(filepath.Join(s.dir, "new-123"), nil, 0o600)) // of a crash
	must(t, s.prune(known, time.Now().Add(2*blocksRest)))
	for name, want := range map[string]bool{"held": true, "sent": true, "gone": false, "small": false} {
		if got := s.Load(sum(name)) != nil; got != want {
			t.Errorf("%s is there: %v", name, got)
		}
	}
	if left, _ := os.ReadDir(s.dir); len(left) != 2 {
		t.Errorf("%d files are left", len(left))
	}
}
