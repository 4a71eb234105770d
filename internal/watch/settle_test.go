package watch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/watch"
)

// leases skips the test where the kernel will not say whether a file has a writer.
func leases(t *testing.T, dir string) {
	t.Helper()
	f, err := os.CreateTemp(dir, "lease")
	must(t, err)
	f.Close()
	defer os.Remove(f.Name())
	f, err = os.Open(f.Name())
	must(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Skipf("no leases on this file system: %v", err)
	}
}

// TestClosedFileGoesOutAtOnce measures from before the write to the return of Next.
func TestClosedFileGoesOutAtOnce(t *testing.T) {
	root := folder(t)
	leases(t, root)
	w := follow(t, watch.Config{Root: root, Settle: time.Hour})
	var took []time.Duration
	for i := range 100 {
		name := fmt.Sprint("f", i)
		start := time.Now()
		write(t, filepath.Join(root, name), "x")
		until(t, w, name)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("median %v, 90 %% within %v, all within %v", took[50], took[90], took[99])
	if took[50] > 6*time.Millisecond {
		t.Errorf("median %v: too slow", took[50])
	}
}

func TestOpenFileWaitsForItsWriter(t *testing.T) {
	root := folder(t)
	leases(t, root)
	w := follow(t, watch.Config{Root: root, Settle: time.Nanosecond})
	f, err := os.Create(filepath.Join(root, "upload"))
	must(t, err)
	f.WriteString("half")
	quiet(t, w, 300*time.Millisecond)
	f.WriteString("whole")
	must(t, f.Close())
	start := time.Now()
	if c := next(t, w); !slices.Equal(c.Paths, []string{"upload"}) {
		t.Errorf("got %+v", c)
	}
	if d := time.Since(start); d > 250*time.Millisecond {
		t.Errorf("it came %v after the writer was done", d)
	}
	quiet(t, w, 50*time.Millisecond)
}

// TestGrowingLogGoesOutAtABoundedRate: it is never closed.
func TestGrowingLogGoesOutAtABoundedRate(t *testing.T) {
	for name, trick := range map[string]watch.Trick{"lease": watch.WithNothing, "quiet": watch.WithoutLeases(unix.EACCES)} {
		t.Run(name, func(t *testing.T) {
			root := folder(t)
			leases(t, root)
			const maxWait = 100 * time.Millisecond
			w := follow(t, watch.Config{Root: root, MaxWait: 5 * maxWait, Settle: time.Minute}, trick)
			f, err := os.Create(filepath.Join(root, "log"))
			must(t, err)
			defer f.Close()
			var growing sync.WaitGroup
			var stop atomic.Bool
			growing.Go(func() {
				for !stop.Load() {
					f.WriteString("a line\n")
					time.Sleep(time.Millisecond) // the log's own pace
				}
			})
			defer growing.Wait()
			defer stop.Store(true)
			start := time.Now()
			for range 5 {
				until(t, w, "log")
			}
			if d := time.Since(start); d < 4*maxWait || d > 10*maxWait {
				t.Errorf("five times in %v, want one in %v", d, maxWait)
			}
		})
	}
}

// TestMappedWritesAreSeen: they make no event; a file that went out in the middle of them comes again.
func TestMappedWritesAreSeen(t *testing.T) {
	root := folder(t)
	leases(t, root)
	w := follow(t, watch.Config{Root: root, MaxWait: 100 * time.Millisecond})
	f, err := os.OpenFile(filepath.Join(root, "db"), os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	must(t, f.Truncate(4096))
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	must(t, f.Close())
	until(t, w, "db")
	copy(m, "changed through memory")
	must(t, unix.Munmap(m))
	until(t, w, "db")
	quiet(t, w, 300*time.Millisecond)
}

func TestQuietPeriodWithoutLeases(t *testing.T) {
	for _, reason := range []error{unix.EACCES, unix.EINVAL, unix.ENOSYS} {
		t.Run(reason.Error(), func(t *testing.T) {
			root := folder(t)
			const settle = 80 * time.Millisecond
			w := follow(t, watch.Config{Root: root, Settle: settle}, watch.WithoutLeases(reason))
			start := time.Now()
			write(t, filepath.Join(root, "f"), "x")
			until(t, w, "f")
			if d := time.Since(start); d < settle || d > settle+200*time.Millisecond {
				t.Errorf("it came after %v, want %v", d, settle)
			}
		})
	}
}

// TestWritersAreNotDisturbed: a writer that opens the file while the lease is held breaks it, which sends us a SIGIO; it
// must neither fail nor wait, nor must the signal do anything.
func TestWritersAreNotDisturbed(t *testing.T) {
	root := folder(t)
	leases(t, root)
	w := follow(t, watch.Config{Root: root, MaxWait: 20 * time.Millisecond})
	name := filepath.Join(root, "f")
	write(t, name, "")
	var writers sync.WaitGroup
	var slowest atomic.Int64
	var stop atomic.Bool
	for range 2 {
		writers.Go(func() {
			for !stop.Load() {
				start := time.Now()
				f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Errorf("a writer was refused: %v", err)
					return
				}
				if d := int64(time.Since(start)); d > slowest.Load() {
					slowest.Store(d)
				}
				f.WriteString("x")
				f.Close()
			}
		})
	}
	for start := time.Now(); time.Since(start) < 500*time.Millisecond; {
		until(t, w, "f")
	}
	stop.Store(true)
	writers.Wait()
	if d := time.Duration(slowest.Load()); d > time.Second {
		t.Errorf("a writer had to wait %v to open the file", d)
	}
}

// TestWrittenAfterUnlink: the events of a file without a name are named after it all the same.
func TestWrittenAfterUnlink(t *testing.T) {
	root := folder(t)
	w := follow(t, watch.Config{Root: root})
	f, err := os.Create(filepath.Join(root, "tmp"))
	must(t, err)
	defer f.Close()
	must(t, os.Remove(f.Name()))
	until(t, w, "tmp")
	for range 10 {
		f.WriteString("x")
	}
	quiet(t, w, 50*time.Millisecond)
}

func TestCheckoutIsKeptTogether(t *testing.T) {
	root := folder(t)
	git := filepath.Join(root, "site", ".git")
	mkdir(t, git)
	write(t, filepath.Join(root, "site", "index.html"), "1")
	// Most exclude it, so no event of the lock itself is to be had.
	w := follow(t, watch.Config{Root: root, Skip: func(path string, dir bool) bool {
		return strings.HasSuffix(path, ".git") && dir
	}})
	write(t, filepath.Join(git, "index.lock"), "")
	write(t, filepath.Join(root, "site", "index.html"), "2")
	mkdir(t, filepath.Join(root, "site", "new"))
	mkdir(t, filepath.Join(root, "other"))
	until(t, w, "other")
	quiet(t, w, 200*time.Millisecond)
	must(t, os.Rename(filepath.Join(git, "index.lock"), filepath.Join(git, "index")))
	c := next(t, w)
	if !slices.Contains(c.Paths, "site/index.html") || !slices.Contains(c.Subtrees, "site/new") {
		t.Errorf("got %+v, want all of it", c)
	}
}
