package e2e_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reader reads the replica for as long as a test runs, as a web server might, and holds every file to two promises: it
// is whole, and no wider than at the source. What has a name of ours is no content yet: there only the modes count.
type reader struct {
	root  string
	allow map[[32]byte]fs.FileMode // contents that do not describe themselves, and their widest modes
	skip  string                   // a name that is not looked at, with what lies below
	ask   bool                     // what does not describe itself goes to strange, for the test to judge

	mu      sync.Mutex
	strange map[[32]byte]string // by content, where it was seen
	files   int
	wrongs  []string
}

func newReader(root string, allow ...string) *reader {
	r := &reader{root: root, allow: map[[32]byte]fs.FileMode{}, strange: map[[32]byte]string{}}
	for _, text := range allow {
		r.allow[sha256.Sum256([]byte(text))] = 0o777
	}
	return r
}

// readWhile starts a reader; what it has found by the end of the test fails it. allow lists contents that are right
// although they do not describe themselves.
func (p *pair) readWhile(t *testing.T, allow ...string) {
	t.Helper()
	newReader(p.replica, allow...).start(t)
}

func (r *reader) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		t.Logf("the reader of the replica saw %d files", r.files)
		if len(r.wrongs) > 0 {
			t.Errorf("on the replica, %d times:\n%s", len(r.wrongs), strings.Join(r.wrongs[:min(len(r.wrongs), 20)], "\n"))
		}
	})
}

// run goes round and round. It rests after each batch of files: the machine is not its own.
func (r *reader) run(ctx context.Context) {
	const batch = 100
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	rest := func() bool {
		select {
		case <-tick.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for n := 0; rest(); {
		_ = filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // gone since
			}
			if d.Name() == r.skip {
				return filepath.SkipDir
			}
			if d.Type().IsRegular() {
				r.look(path)
			}
			if n++; n%batch == 0 && !rest() {
				return filepath.SkipAll
			}
			return nil
		})
	}
}

func (r *reader) look(path string) {
	if swap, _ := filepath.Match(".*.sw?", filepath.Base(path)); swap {
		return // vim's own: nobody here knows what it should hold
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return // gone since, or a link by now
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil || !before.Mode().IsRegular() {
		return
	}
	text, err := io.ReadAll(f)
	if err != nil {
		r.wrong(path, err)
		return
	}
	r.mu.Lock()
	r.files++
	r.mu.Unlock()
	widest, err := r.judge(text)
	if strings.Contains(path[len(r.root):], "/.releve") {
		if err != nil && (r.skip != "" || r.ask) {
			return // on its way, and may be anything
		}
		if err != nil {
			widest, err = modeOfHead(text), nil // on its way
		}
		widest |= 0o600
	}
	if err != nil && r.ask {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.strange[sha256.Sum256(text)] = path[len(r.root):]
		return
	}
	if err != nil {
		r.wrong(path, err)
		return
	}
	// The mode was read before the content: a file that was not yet whole may have got its final mode since, never the
	// other way round.
	if wider := before.Mode().Perm() &^ widest; wider != 0 {
		r.wrong(path, fmt.Errorf("mode %04o, no more than %04o at the source", before.Mode().Perm(), widest))
	}
}

func (r *reader) judge(text []byte) (fs.FileMode, error) {
	widest, err := describes(text)
	if errors.Is(err, errTorn) {
		if mode, ok := r.allow[sha256.Sum256(text)]; ok {
			return mode, nil
		}
	}
	return widest, err
}

func (r *reader) wrong(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrongs = append(r.wrongs, fmt.Sprintf("%q: %v", strings.TrimPrefix(path, r.root), err))
}

// TestReaderCanFail: what the reader is there for, it sees.
func TestReaderCanFail(t *testing.T) {
	r := newReader(t.TempDir(), "allowed\n")
	random := rand.New(rand.NewPCG(1, 1))
	private := string(content(random, 0o600, 1000))
	for _, dir := range []string{".releve-tmp-1", "dir"} {
		if err := os.Mkdir(filepath.Join(r.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []struct {
		name, text string
		mode       fs.FileMode
		wrong      bool
	}{
		{"whole", private, 0o600, false},
		{"allowed", "allowed\n", 0o644, false},
		{".releve-tmp-1/half", private[:500], 0o600, false},
		{".releve-tmp-1/wide", private, 0o644, true},
		{".releve-tmp-1/halfwide", private[:500], 0o644, true},
		{".releve-tmp-1/none", "", 0o644, false},
		{"half", private[:500], 0o600, true},
		{"dir/longer", private + "x", 0o600, true},
		{"dir/mixed", private[:500] + strings.Repeat("y", len(private)-500), 0o600, true},
		{"empty", "", 0o600, true},
		{"dir/wide", private, 0o640, true},
	} {
		path := filepath.Join(r.root, f.name)
		write(t, path, f.text, f.mode)
		before := len(r.wrongs)
		r.look(path)
		if wrong := len(r.wrongs) > before; wrong != f.wrong {
			t.Errorf("%s: found wrong: %v, want %v: %q", f.name, wrong, f.wrong, r.wrongs[before:])
		}
	}
}
