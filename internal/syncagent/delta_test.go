package syncagent

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"releve/internal/tree"
)

// largeNoise writes a large file, and puts its time into the past.
func largeNoise(t testing.TB, name string, size int, seed byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data) //nolint:errcheck // it never fails
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, data, 0o644))
	must(t, os.Chtimes(name, time.Unix(1e9, 0), time.Unix(1e9+int64(seed), 0)))
}

// newLarge is a folder of one large file with its replica, of which a little has changed then.
func newLarge(t *testing.T) (s *small, old, now []byte) {
	t.Helper()
	dir := t.TempDir()
	s = &small{agentWorld: &agentWorld{src: filepath.Join(dir, "src"), dst: filepath.Join(dir, "root", "target"), state: filepath.Join(dir, "state")}}
	for _, d := range []string{s.src, s.dst, s.state} {
		must(t, os.MkdirAll(d, 0o755))
	}
	filter, err := tree.ParseFilter(nil)
	must(t, err)
	s.folder = Folder{Name: "webroot", Kind: Files, Source: s.src, Target: "/target", Filter: filter, Keep: time.Hour, MaxDelete: 100, MaxDeletePercent: 100}
	name := filepath.Join(s.src, "large")
	largeNoise(t, name, 8<<20+1000, 1)
	s.begin(t)
	client, _ := serve(t, filepath.Dir(s.dst), -1, -1)
	must(t, s.push(t, client))
	s.same(t)
	old, err = os.ReadFile(name)
	must(t, err)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	for _, off := range []int64{3 << 20, 5<<20 + 77, 8<<20 + 1000} {
		_, err = f.WriteAt([]byte("changed"), off)
		must(t, err)
	}
	must(t, f.Close())
	now, err = os.ReadFile(name)
	must(t, err)
	return s, old, now
}

// sentBy makes a push and returns how many bytes it sent.
func (s *small) sentBy(t *testing.T) int64 {
	t.Helper()
	const plenty = 1 << 40
	client, up := serveCounting(t, filepath.Dir(s.dst), plenty)
	must(t, s.push(t, client))
	return plenty - up.left.Load()
}

// TestDeltaCutAnywhere loses the answer to each request of a push in turn: at every instant the large file is the old
// one or the new one, and afterwards it becomes the new one, with or without what was remembered.
func TestDeltaCutAnywhere(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 5
	}
	ended := false
	for k := int64(1); !ended && k < 200 && !t.Failed(); k += int64(step) {
		t.Run(fmt.Sprint("request=", k), func(t *testing.T) {
			s, old, now := newLarge(t)
			if k%2 == 0 {
				s.engine.forget()
			} else {
				s.engine.keep()
				s.begin(t)
			}
			client, join := serve(t, filepath.Dir(s.dst), -1, k)
			var err error
			if client != nil {
				err = s.push(t, client)
			}
			join()
			ended = client != nil && err == nil
			have, err := os.ReadFile(filepath.Join(s.dst, "large"))
			must(t, err)
			if !bytes.Equal(have, old) && !bytes.Equal(have, now) {
				t.Fatal("it is neither the old version nor the new one")
			}
			if k%3 == 0 { // killed, without a word
				s.begin(t)
			} else {
				s.engine.forget()
			}
			if n := s.sentBy(t); n > 1<<20 && k%3 != 0 {
				t.Errorf("%d bytes were sent then", n)
			}
			s.same(t)
		})
	}
	if !ended && !t.Failed() {
		t.Error("never came to the end of a push")
	}
}

// TestDeltaAfterARestart: what was remembered of a large file is good for the next run, and what is lost or damaged of it
// costs bytes alone.
func TestDeltaAfterARestart(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, s *small, files []string)
		whole bool
	}{
		"nothing lost": {func(*testing.T, *small, []string) {}, false},
		"record lost": {func(t *testing.T, s *small, _ []string) {
			must(t, os.Remove(s.engine.memory.record))
			must(t, os.Remove(s.engine.memory.journalFile()))
		}, true},
		"hashes lost": {func(t *testing.T, _ *small, files []string) { must(t, os.Remove(files[0])) }, true},
		"hashes damaged": {func(t *testing.T, _ *small, files []string) {
			data, err := os.ReadFile(files[0])
			must(t, err)
			data[100] ^= 1
			must(t, os.WriteFile(files[0], data, 0o600))
		}, true},
		"hashes empty": {func(t *testing.T, _ *small, files []string) { must(t, os.Truncate(files[0], 0)) }, true},
		"hashes a folder": {func(t *testing.T, _ *small, files []string) {
			must(t, os.Remove(files[0]))
			must(t, os.Mkdir(files[0], 0o700))
		}, true},
		"replica's, other": {func(t *testing.T, s *small, _ []string) { largeNoise(t, filepath.Join(s.dst, "large"), 8<<20+1000, 9) }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, _, _ := newLarge(t)
			s.engine.keep()
			files, err := filepath.Glob(filepath.Join(s.engine.blocks.dir, "*"))
			must(t, err)
			if len(files) != 1 {
				t.Fatalf("hashes: %q", files)
			}
			test.spoil(t, s, files)
			s.begin(t)
			if n := s.sentBy(t); test.whole != (n > 8<<20) {
				t.Errorf("%d bytes were sent", n)
			}
			s.same(t)
			// And the next version is known by its blocks again.
			f, err := os.OpenFile(filepath.Join(s.src, "large"), os.O_WRONLY, 0)
			must(t, err)
			_, err = io.WriteString(f, "again")
			must(t, err)
			must(t, f.Close())
			s.engine.keep()
			s.begin(t)
			if n := s.sentBy(t); n > 1<<20 && name != "hashes a folder" {
				t.Errorf("%d bytes were sent for the next version", n)
			}
			s.same(t)
		})
	}
}
