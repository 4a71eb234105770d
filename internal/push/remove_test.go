package push_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"releve/internal/push"
	"releve/internal/tree"
)

// far delays what is read, as a long way does: by so much each byte, however many there are.
func far(delay time.Duration) func(io.Reader) io.Reader {
	type chunk struct {
		due  time.Time
		data []byte
	}
	return func(r io.Reader) io.Reader {
		chunks := make(chan chunk, 1<<16)
		go func() {
			defer close(chunks)
			for {
				buf := make([]byte, 1<<15)
				n, err := r.Read(buf)
				if n > 0 {
					chunks <- chunk{time.Now().Add(delay), buf[:n]}
				}
				if err != nil {
					return
				}
			}
		}()
		out, in := io.Pipe()
		go func() {
			timer := time.NewTimer(0)
			for c := range chunks {
				timer.Reset(time.Until(c.due))
				<-timer.C
				if _, err := in.Write(c.data); err != nil {
					return
				}
			}
			in.Close()
		}()
		return out
	}
}

// TestSweepOfManyIsQuick: what a killed first sync leaves is many directories; none may cost round trips of its own.
func TestSweepOfManyIsQuick(t *testing.T) {
	const dirs, delay = 300, 5 * time.Millisecond
	w := newWorld(t, dialThrough(t, far(delay), nil), t.TempDir(), time.Hour)
	for i := range dirs {
		dir := filepath.Join(w.dst, ".releve-tmp-dead-1", fmt.Sprint(i%10), fmt.Sprint(i))
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o400))
		must(t, os.Chmod(dir, 0o555))
	}
	began := time.Now()
	w.read(t)
	if left := w.leftovers(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if took := time.Since(began); took > dirs*delay {
		t.Errorf("sweeping %d directories took %v", dirs, took)
	}
}

// TestTimesSurviveOurOwn: making the trash, and looking whether a target can be written to, changes no directory's time.
func TestTimesSurviveOurOwn(t *testing.T) {
	client := dial(t)
	w := newWorld(t, client, t.TempDir(), time.Hour)
	must(t, os.Mkdir(filepath.Join(w.src, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.src, "dir/file"), []byte("old"), 0o644))
	long := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	must(t, os.Chtimes(w.src, long, long))
	w.push(t)
	w.identical(t)
	must(t, os.WriteFile(filepath.Join(w.src, "dir/file"), []byte("newer"), 0o644))
	w.push(t)
	w.identical(t)
	must(t, push.Probe(t.Context(), client, w.dst, "probe"))
	w.identical(t)
}

// TestReadOnlyRoot: a source folder that its owner may not write to takes changes all the same, and keeps what was there.
func TestReadOnlyRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("left out: nothing is read-only for root")
	}
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	t.Cleanup(func() {
		for _, dir := range []string{w.src, w.dst} {
			must(t, os.Chmod(dir, 0o755)) // or the temporary folder stays
		}
	})
	for _, text := range []string{"one", "three"} {
		must(t, os.Chmod(w.src, 0o755))
		must(t, os.WriteFile(filepath.Join(w.src, "file"), []byte(text), 0o644))
		if text == "one" {
			must(t, os.WriteFile(filepath.Join(w.src, "goes"), nil, 0o644))
		} else {
			must(t, os.Remove(filepath.Join(w.src, "goes")))
		}
		must(t, os.Chmod(w.src, 0o555))
		if out := w.push(t); len(out.Failed) > 0 {
			t.Errorf("%v", out.Failed)
		}
		w.identical(t)
	}
	if kept, _ := filepath.Glob(filepath.Join(w.dst, ".releve-trash/*/*")); len(kept) != 2 {
		t.Errorf("kept: %q", kept)
	}
}

// TestTimesSurviveASweep: removing what an interrupted push left in a folder changes the folder's time, which is set again.
func TestTimesSurviveASweep(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	must(t, os.MkdirAll(filepath.Join(w.src, "dir"), 0o755))
	long := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, dir := range []string{"dir", "."} {
		must(t, os.Chtimes(filepath.Join(w.src, dir), long, long))
	}
	w.push(t)
	w.identical(t)
	for _, dir := range []string{"dir", "."} {
		must(t, os.WriteFile(filepath.Join(w.dst, dir, ".releve-tmp-dead-1"), nil, 0o600))
		must(t, os.Chtimes(filepath.Join(w.dst, dir), long, long))
	}
	w.read(t)
	w.push(t)
	w.identical(t)
}

// TestListSaysWhatIsClosed: who may not change anything cannot look into a directory that keeps its owner out, and says so
// rather than calling it empty.
func TestListSaysWhatIsClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs to be root, to run the server as somebody else")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		must(t, os.Chmod(d, 0o755))
	}
	const nobody = 65534
	dst := filepath.Join(dir, "dst")
	for name, mode := range map[string]os.FileMode{"open": 0o755, "no-x": 0o644, "no-r": 0o311, "empty": 0o600} {
		at := filepath.Join(dst, name)
		must(t, os.MkdirAll(at, 0o755))
		if name != "empty" {
			must(t, os.WriteFile(filepath.Join(at, "file"), nil, 0o644))
		}
		must(t, os.Chown(at, nobody, nobody))
		must(t, os.Chmod(at, mode))
	}
	must(t, os.Chown(dst, nobody, nobody))
	client := dialThrough(t, func(r io.Reader) io.Reader { return r }, &syscall.Credential{Uid: nobody, Gid: nobody})
	r := push.New(push.Lanes{Small: client}, dst, "test", 0)
	must(t, r.Check(t.Context()))
	filter, err := tree.ParseFilter(nil)
	must(t, err)
	listed, closed, err := r.List(t.Context(), filter)
	must(t, err)
	slices.Sort(closed)
	if want := []string{"empty", "no-r", "no-x"}; !slices.Equal(closed, want) {
		t.Errorf("closed: %q, want %q", closed, want)
	}
	if _, ok := listed["open/file"]; !ok || len(listed) != 6 {
		t.Errorf("listed: %v", listed)
	}
}
