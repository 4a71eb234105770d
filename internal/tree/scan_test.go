package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"releve/internal/tree"
)

func scan(t *testing.T, dir, sub string, patterns ...string) (tree.Tree, []tree.Problem) {
	t.Helper()
	r, err := tree.Open(dir)
	must(t, err)
	filter, err := tree.ParseFilter(patterns)
	must(t, err)
	got := tree.Tree{}
	problems, err := r.Scan(t.Context(), sub, filter, got)
	must(t, err)
	return got, problems
}

// TestScanSeesWhatIsThere compares a scan with package os on random trees.
func TestScanSeesWhatIsThere(t *testing.T) {
	name := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "c", "\xff\xfe", "new\nline", strings.Repeat("x", 255)}),
		rapid.StringMatching(`[^/\x00]{1,20}`).Filter(func(s string) bool {
			return s != "." && s != ".." && len(s) < 256 && !strings.HasPrefix(s, tree.Prefix)
		}))
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		must(t, os.Mkdir(dir, 0o755))
		folders := []string{dir}
		for range rapid.IntRange(0, 25).Draw(rt, "entries") {
			path := filepath.Join(rapid.SampledFrom(folders).Draw(rt, "folder"), name.Draw(rt, "name"))
			if _, err := os.Lstat(path); err == nil || len(path) > 3000 {
				continue
			}
			mode := fs.FileMode(rapid.Uint32Range(0, 0o777).Draw(rt, "mode"))
			switch rapid.IntRange(0, 4).Draw(rt, "type") {
			case 0:
				must(t, os.Symlink(rapid.StringMatching(`[^\x00]{1,600}`).Draw(rt, "target"), path))
				continue
			case 1:
				must(t, unix.Mkfifo(path, uint32(mode)))
			case 2:
				must(t, os.Mkdir(path, 0o755))
				folders = append(folders, path)
				mode |= 0o700
			default:
				must(t, os.WriteFile(path, make([]byte, rapid.IntRange(0, 99).Draw(rt, "size")), 0o600))
				mode |= rapid.SampledFrom([]fs.FileMode{0, fs.ModeSetuid, fs.ModeSetgid}).Draw(rt, "bits")
			}
			must(t, os.Chmod(path, mode))
			must(t, os.Chtimes(path, time.Time{}, time.Unix(rapid.Int64Range(-1e9, 5e9).Draw(rt, "mtime"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns"))))
		}
		got, problems := scan(t, dir, ".")
		if len(problems) > 0 {
			rt.Fatal(problems)
		}
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			must(t, err)
			info, err := d.Info()
			must(t, err)
			rel, err := filepath.Rel(dir, path)
			must(t, err)
			want := tree.Entry{Type: tree.Other, MTime: info.ModTime().UnixNano()}
			want.Mode = info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
			switch info.Mode().Type() {
			case 0:
				want.Type, want.Size = tree.File, info.Size()
			case fs.ModeDir:
				want.Type = tree.Dir
			case fs.ModeSymlink:
				want.Type, want.Mode = tree.Link, 0
				want.Link, err = os.Readlink(path)
				must(t, err)
			}
			e, ok := got[rel]
			delete(got, rel)
			e.Dev, e.Ino, e.CTime, e.Nlink = 0, 0, 0, 0
			if !ok || e != want {
				rt.Errorf("%q: %+v, want %+v", rel, e, want)
			}
			return nil
		}))
		for path := range got {
			rt.Errorf("%q is not there", path)
		}
		must(t, os.RemoveAll(dir))
	})
}

func TestScanBelow(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a/b/c", "a/b/d/e", "a/f", "ab/x"} {
		write(t, filepath.Join(dir, path), "")
	}
	for sub, want := range map[string]string{
		"a/b":     "a/b a/b/c a/b/d a/b/d/e",
		"a/f":     "a/f",
		"a/g":     "",
		"a/f/x":   "",
		"nowhere": "",
	} {
		if got, problems := scan(t, dir, sub); keys(got) != want || len(problems) > 0 {
			t.Errorf("Scan(%q) = %s %v", sub, keys(got), problems)
		}
	}
	if got, _ := scan(t, dir, "a/b/d", "/a/b/"); len(got) > 0 {
		t.Errorf("below an excluded folder: %s", keys(got))
	}
	r, err := tree.Open(dir)
	must(t, err)
	if _, err := r.Scan(t.Context(), "../x", nil, tree.Tree{}); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

func TestScanLeavesOut(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{".releve/x", "a/.releve-tmp1", "a/.releve", ".relevance", "a/cache/y", "z.swp", "a/b"} {
		write(t, filepath.Join(dir, path), "")
	}
	if got, _ := scan(t, dir, ".", "cache/", "*.swp", "+ .releve*"); keys(got) != ". .relevance a a/b" {
		t.Error(keys(got))
	}
	var none *tree.Filter
	if !none.Excluded(".releve", true) || none.Excluded("x", true) || none.Excluded(".", true) || !none.Prunes("a/.releve/b", false) {
		t.Error("nil filter")
	}
}

func keys(tr tree.Tree) string {
	var names []string
	for name := range tr {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestUnreadableFolderIsAProblem runs as nobody where the tests run as root, who may read everything.
func TestUnreadableFolderIsAProblem(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"open/x", "closed/x", "nosearch/x"} {
		write(t, filepath.Join(dir, path), "")
	}
	closed := map[string]fs.FileMode{"closed": 0, "nosearch": 0o444}
	for name, mode := range closed {
		must(t, os.Chmod(filepath.Join(dir, name), mode))
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, name), 0o755) })
	}
	asNobody(t, dir, func() {
		got, problems := scan(t, dir, ".")
		if keys(got) != ". closed nosearch open open/x" {
			t.Error(keys(got))
		}
		if len(problems) != 2 || problems[0].Path != "closed" || problems[1].Path != "nosearch/x" {
			t.Fatal(problems)
		}
		for _, p := range problems {
			if !errors.Is(p, fs.ErrPermission) {
				t.Error(p)
			}
		}
		if got["closed"].Type != tree.Dir || got["closed"].Mode != 0 {
			t.Error(got["closed"])
		}
		if got, problems := scan(t, dir, "closed/x"); len(got) != 0 || len(problems) != 1 {
			t.Error(got, problems)
		}
	})
}

// TestScanWhileNamesVanish: what comes and goes during a scan is no problem, and what stays is never missed.
func TestScanWhileNamesVanish(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		write(t, filepath.Join(dir, fmt.Sprint("stay", i), "file"), "")
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for i := range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				path := filepath.Join(dir, fmt.Sprint("stay", i), "come")
				_ = os.MkdirAll(filepath.Join(path, "and", "go"), 0o755)
				_ = os.Symlink("x", filepath.Join(path, "link"))
				_ = os.WriteFile(filepath.Join(path, "file"), nil, 0o644)
				_ = os.RemoveAll(path)
				_ = os.WriteFile(path, nil, 0o644)
				_ = os.Remove(path)
			}
		})
	}
	r, err := tree.Open(dir)
	must(t, err)
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		got := tree.Tree{}
		problems, err := r.Scan(t.Context(), ".", nil, got)
		if err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		for i := range 40 {
			if _, ok := got[fmt.Sprint("stay", i, "/file")]; !ok {
				t.Fatalf("stay%d/file was missed", i)
			}
		}
	}
}

// TestScanWhileALinkBecomesAFile: a look at a link takes two calls.
func TestScanWhileALinkBecomesAFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "one"), filepath.Join(dir, "other")
	write(t, file, "")
	must(t, os.Symlink("x", link))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		}
	})
	r, err := tree.Open(dir)
	must(t, err)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		got := tree.Tree{}
		problems, err := r.Scan(t.Context(), ".", nil, got)
		if err != nil || len(problems) > 0 || len(got) != 3 {
			t.Fatal(got, problems, err)
		}
		for path, e := range got {
			if (e.Type == tree.Link) != (e.Link == "x") {
				t.Fatalf("%q: %+v", path, e)
			}
		}
	}
}

// TestScanOfAFolderThatComesBack: a folder is never listed without what it holds.
func TestScanOfAFolderThatComesBack(t *testing.T) {
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
	write(t, filepath.Join(here, "file"), "")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = os.Rename(here, there)
			_ = os.Rename(there, here)
		}
	})
	r, err := tree.Open(dir)
	must(t, err)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		got := tree.Tree{}
		problems, err := r.Scan(t.Context(), ".", nil, got)
		if err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		for _, name := range []string{"here", "there"} {
			_, folder := got[name]
			if _, file := got[name+"/file"]; folder && !file {
				t.Fatalf("%s was not read: %s", name, keys(got))
			}
		}
	}
}

// TestScanOfAVanishingRoot: a tree that is deleted as a whole while it is read does not pass for an empty one.
func TestScanOfAVanishingRoot(t *testing.T) {
	for i := range 200 {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		must(t, os.Mkdir(dir, 0o755))
		r, err := tree.Open(dir)
		must(t, err)
		var wg sync.WaitGroup
		wg.Go(func() { _ = os.Remove(dir) })
		got := tree.Tree{}
		_, err = r.Scan(t.Context(), ".", nil, got)
		wg.Wait()
		if _, ok := got["."]; err == nil && !ok || err != nil && !errors.Is(err, tree.ErrRootChanged) {
			t.Fatal(keys(got), err)
		}
	}
}

func TestScanStops(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		write(t, filepath.Join(dir, fmt.Sprint(i), "file"), "")
	}
	r, err := tree.Open(dir)
	must(t, err)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := r.Scan(ctx, ".", nil, tree.Tree{}); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestScanCrossesFileSystems(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "mounted")
	must(t, os.Mkdir(sub, 0o755))
	if err := unix.Mount("none", sub, "tmpfs", 0, ""); err != nil {
		t.Skipf("left out: mounting needs root: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(sub, 0)) })
	write(t, filepath.Join(sub, "x"), "")
	got, problems := scan(t, dir, ".")
	if keys(got) != ". mounted mounted/x" || len(problems) > 0 || got["mounted"].Dev == got["."].Dev {
		t.Error(keys(got), problems)
	}
}

func BenchmarkScan(b *testing.B) {
	dir := b.TempDir()
	for i := range 2000 {
		sub := filepath.Join(dir, fmt.Sprint(i%40), fmt.Sprint(i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 10 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("file", j)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	r, err := tree.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	filter, err := tree.ParseFilter([]string{"/cache/", "*.swp", "wp-content/cache/**"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		got := make(tree.Tree)
		if _, err := r.Scan(b.Context(), ".", filter, got); err != nil || len(got) != 22041 {
			b.Fatal(err, len(got))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/22041, "ns/entry")
}

func BenchmarkOpenFile(b *testing.B) {
	dir := b.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b/c/d"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/c/d/e"), nil, 0o644); err != nil {
		b.Fatal(err)
	}
	r, err := tree.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, _, err := r.OpenFile("a/b/c/d/e")
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

// asNobody runs f on a thread without root's power over permissions. What f starts must be done when it returns.
func asNobody(t *testing.T, dir string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err == nil && info.Mode()&0o005 != 0o005 && strings.HasPrefix(d, os.TempDir()+"/") {
			must(t, os.Chmod(d, 0o755))
		}
	}
	// setresuid of package syscall is of all threads, as the scan's goroutines need; it is undone below.
	must(t, syscall.Setresuid(-1, 65534, -1))
	defer func() { must(t, syscall.Setresuid(-1, 0, -1)) }()
	f()
}
