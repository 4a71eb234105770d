package watch_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"releve/internal/watch"
)

// A model is what somebody believes to be in a folder who reads nothing but what Next names.
type model map[string]string

func look(path string) string {
	fi, err := os.Lstat(path)
	if err != nil {
		return ""
	}
	switch {
	case fi.IsDir():
		return fmt.Sprintf("dir %d %v", fi.Sys().(*syscall.Stat_t).Ino, fi.Mode().Perm())
	case fi.Mode().IsRegular():
		text, _ := os.ReadFile(path)
		return fmt.Sprintf("file %v %q", fi.Mode().Perm(), text)
	case fi.Mode()&fs.ModeSymlink != 0:
		target, _ := os.Readlink(path)
		return "link " + target
	}
	return fi.Mode().Type().String()
}

func (m model) read(root, path string) {
	if s := look(filepath.Join(root, path)); s != "" {
		m[path] = s
	} else {
		delete(m, path)
	}
}

// readPath also compares the names in a directory, as Changes.Paths asks for.
func (m model) readPath(root, path string) {
	if path != "." {
		m.read(root, path)
		if !strings.HasPrefix(m[path], "dir") {
			for p := range m {
				if strings.HasPrefix(p, path+"/") {
					delete(m, p)
				}
			}
			return
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, path))
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, e := range entries {
		p := filepath.Join(path, e.Name())
		there[p] = true
		if m[p] != look(filepath.Join(root, p)) {
			m.scan(root, p)
		}
	}
	for p := range m {
		if child := childOf(path, p); child != "" && !there[child] {
			m.scan(root, child)
		}
	}
}

// childOf returns the name in dir through which path leads; "" when it does not.
func childOf(dir, path string) string {
	rest := path
	if dir != "." {
		var below bool
		if rest, below = strings.CutPrefix(path, dir+"/"); !below {
			return ""
		}
	}
	name, _, _ := strings.Cut(rest, "/")
	return filepath.Join(dir, name)
}

func (m model) scan(root, sub string) {
	for p := range m {
		if sub == "." || p == sub || strings.HasPrefix(p, sub+"/") {
			delete(m, p)
		}
	}
	filepath.WalkDir(filepath.Join(root, sub), func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); err == nil && rel != "." {
			m.read(root, rel)
		}
		return nil
	})
}

func (m model) apply(root string, c watch.Changes) {
	if c.All {
		m.scan(root, ".")
	}
	for _, p := range c.Subtrees {
		m.scan(root, p)
	}
	for _, p := range c.Paths {
		m.readPath(root, p)
	}
}

func (m model) diff(o model) []string {
	var out []string
	for p, s := range m {
		if o[p] != s {
			out = append(out, fmt.Sprintf("%q: believed %s, is %s", p, s, o[p]))
		}
	}
	for p, s := range o {
		if _, ok := m[p]; !ok {
			out = append(out, fmt.Sprintf("%q: not known, is %s", p, s))
		}
	}
	slices.Sort(out)
	return out
}

// hammer does random things to a folder.
type hammer struct {
	rnd  *rand.Rand
	root string
	away string   // a folder next to it
	dirs []string // candidates; some are gone
	n    int
	log  []string
}

func (h *hammer) dir() string { return h.dirs[h.rnd.IntN(len(h.dirs))] }

func (h *hammer) name() string { return filepath.Join(h.dir(), string(rune('a'+h.rnd.IntN(6)))) }

func (h *hammer) blow() {
	h.n++
	p := func(s string) string { return filepath.Join(h.root, s) }
	text := []byte(fmt.Sprint(h.n))
	a, b := h.name(), h.name()
	did := ""
	switch k := h.rnd.IntN(100); {
	case k < 25:
		did = "write " + a
		os.WriteFile(p(a), text, 0o644)
	case k < 35:
		did = "append " + a
		if f, err := os.OpenFile(p(a), os.O_WRONLY|os.O_APPEND, 0); err == nil {
			f.Write(text)
			f.Close()
		}
	case k < 45:
		did = "mkdir " + a
		if os.Mkdir(p(a), 0o755) == nil && len(h.dirs) < 60 {
			h.dirs = append(h.dirs, a)
		}
	case k < 55:
		deep := filepath.Join(a, "p", "q")
		did = "mkdir -p and write " + deep
		if os.MkdirAll(p(deep), 0o755) == nil {
			os.WriteFile(p(filepath.Join(deep, "f")), text, 0o644)
			if len(h.dirs) < 60 {
				h.dirs = append(h.dirs, deep)
			}
		}
	case k < 75:
		did = "rename " + a + " " + b
		os.Rename(p(a), p(b))
	case k < 80:
		d, e := h.dir(), h.name()
		did = "rename directory " + d + " " + e
		if d != "." {
			os.Rename(p(d), p(e))
			if len(h.dirs) < 60 {
				h.dirs = append(h.dirs, e)
			}
		}
	case k < 82:
		out := filepath.Join(h.away, string(rune('a'+h.rnd.IntN(3))))
		did = "exchange with the world outside " + a
		os.Rename(p(a), out+"new")
		os.Rename(out, p(a))
		os.Rename(out+"new", out)
	case k < 85:
		did = "symlink " + a + " " + b
		os.Symlink(filepath.Base(a), p(b))
	case k < 93:
		did = "rm " + a
		os.Remove(p(a))
	case k < 97:
		did = "rm -rf " + a
		os.RemoveAll(p(a))
	default:
		did = "chmod " + a
		if fi, err := os.Lstat(p(a)); err == nil && fi.Mode()&fs.ModeSymlink == 0 {
			os.Chmod(p(a), fs.FileMode(0o700|h.rnd.IntN(8)))
		}
	}
	h.log = append(h.log, did)
}

// settled bounds the time from the last change to the truth.
const settled = 5 * time.Second

// TestModelConverges is the promise of the package: whoever applies what Next names, and nothing else,
// ends with the truth, whatever was done to the folder, without a full reading.
func TestModelConverges(t *testing.T) {
	for round := range 3 {
		seed := uint64(time.Now().UnixNano()) + uint64(round)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { converge(t, seed, 1000) })
	}
}

func converge(t *testing.T, seed uint64, blows int, tricks ...watch.Trick) {
	root := folder(t)
	h := &hammer{rnd: rand.New(rand.NewPCG(seed, 1)), root: root, away: folder(t), dirs: []string{"."}}
	for range 100 {
		h.blow()
	}
	w := follow(t, watch.Config{Root: root, PollInterval: 20 * time.Millisecond}, tricks...)
	m := model{}
	m.scan(root, ".")

	var hammering sync.WaitGroup
	hammering.Go(func() {
		for i := range blows {
			h.blow()
			if i%100 == 0 {
				time.Sleep(time.Duration(h.rnd.IntN(30)) * time.Millisecond) // lets bursts end: scenario, not synchronisation
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	finished := make(chan struct{})
	go func() {
		hammering.Wait()
		time.AfterFunc(settled, cancel)
		close(finished)
	}()
	all := 0
	var seen []watch.Changes
	for {
		pause, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		c, err := w.Next(pause)
		stop()
		if err == nil {
			if c.All {
				all++
				t.Logf("All: %s", c.Reason)
			}
			seen = append(seen, c)
			m.apply(root, c)
			continue
		}
		select {
		case <-finished:
		default:
			continue
		}
		truth := model{}
		truth.scan(root, ".")
		wrong := m.diff(truth)
		if len(wrong) == 0 && maps.Equal(m, truth) {
			break
		}
		if ctx.Err() == nil {
			continue // a long burst is let out in slices
		}
		tail := seen[max(0, len(seen)-10):]
		t.Fatalf("seed %d: %d blows, the model is wrong:\n%s\nlast changes: %+v\nlast blows:\n%s", seed, h.n,
			strings.Join(wrong, "\n"), tail, strings.Join(h.log[max(0, len(h.log)-40):], "\n"))
	}
	if all > 0 {
		t.Errorf("seed %d: asked for %d full readings", seed, all)
	}
}
