package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/test/netlab"
)

// repository is a git repository of several thousand real files: a part of Go's own sources, on a branch main; the same
// with every file changed but a few, some gone and some new, on next; and a few commits away from main on topic.
type repository struct {
	origin string
	both   []string // files that are on main and on next, and differ
}

// git runs git in a folder, with no settings but these.
func git(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "user.name=e2e", "-c", "user.email=e2e@example.net", "-c", "gc.auto=0",
		"-c", "advice.detachedHead=false", "-c", "core.autocrlf=false", "-c", "safe.directory=*"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, &stderr)
	}
	return stdout.Bytes()
}

// newRepository makes one of so many files.
func newRepository(t *testing.T, origin string, files int) *repository {
	t.Helper()
	need(t, "git")
	root, sources, err := goSources(t.Context(), files)
	if err != nil {
		t.Skipf("left out: no Go sources to make a repository of: %v", err)
	}
	r := &repository{origin: origin}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, text []byte) {
		t.Helper()
		path := filepath.Join(origin, name)
		do(os.MkdirAll(filepath.Dir(path), 0o755))
		do(os.WriteFile(path, text, 0o644))
	}
	do(os.Mkdir(origin, 0o755))
	git(t, origin, "init", "-q", "-b", "main")
	git(t, origin, "config", "core.compression", "1")
	git(t, origin, "config", "pack.window", "0")
	texts := map[string][]byte{}
	for _, name := range sources {
		text, err := os.ReadFile(filepath.Join(root, name))
		do(err)
		texts[name] = text
		put(name, text)
	}
	git(t, origin, "add", "-A")
	git(t, origin, "commit", "-q", "-m", "main")

	git(t, origin, "checkout", "-q", "-b", "next")
	for i, name := range sources {
		switch {
		case i%100 == 1:
			do(os.Remove(filepath.Join(origin, name)))
		case i%100 == 2:
			put("new/"+name, texts[name])
		case i%20 == 3:
		default:
			put(name, append(slices.Clone(texts[name]), "\n// on next\n"...))
			r.both = append(r.both, name)
		}
	}
	git(t, origin, "add", "-A")
	git(t, origin, "commit", "-q", "-m", "next")

	git(t, origin, "checkout", "-q", "-b", "topic", "main")
	for n := range 5 {
		for i, name := range sources {
			if i%100 == 10*n+5 {
				put(name, append(fmt.Appendf(nil, "// on topic, %d\n\n", n), texts[name]...))
			}
		}
		git(t, origin, "commit", "-q", "-a", "-m", fmt.Sprint("topic ", n))
	}
	// The same as the test will do: these contents are right as well.
	git(t, origin, "checkout", "-q", "-b", "rebased")
	git(t, origin, "rebase", "-q", "next")
	git(t, origin, "checkout", "-q", "main")
	return r
}

// goSources lists small files of Go's own sources, below root.
func goSources(ctx context.Context, files int) (root string, names []string, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", nil, fmt.Errorf("go env: %w", err)
	}
	root = filepath.Join(strings.TrimSpace(string(out)), "src")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		fi, err := d.Info()
		if err == nil && fi.Mode().IsRegular() && fi.Size() > 100 && fi.Size() < 20_000 {
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err == nil && len(names) < files {
		err = fmt.Errorf("%d files in %s, want %d", len(names), root, files)
	}
	return root, names[:min(files, len(names))], err
}

// contents are the hashes of every version of every file in a repository.
func contents(t *testing.T, dir string) map[[32]byte]fs.FileMode {
	t.Helper()
	all := map[[32]byte]fs.FileMode{}
	in := bufio.NewReader(bytes.NewReader(git(t, dir, "cat-file", "--batch-all-objects", "--batch", "--unordered")))
	for {
		var id, kind string
		var size int
		if _, err := fmt.Fscanf(in, "%s %s %d\n", &id, &kind, &size); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, size+1)
		if _, err := io.ReadFull(in, text); err != nil {
			t.Fatal(err)
		}
		if kind == "blob" {
			all[sha256.Sum256(text[:size])] = 0o777
		}
	}
}

// flip watches files of the replica being replaced: when the first and when the last of them was seen as another file.
type flip struct {
	first, last time.Time
	sent        int // at first had been replaced, or lay ready to be
	missing     int // were not seen to be replaced
}

// watchFlip begins to watch files of a folder of the replica; seen gives what came of it, and ends it.
func (p *pair) watchFlip(t *testing.T, folder string, names []string) (seen func() flip) {
	t.Helper()
	inode := func(name string) uint64 {
		fi, err := os.Lstat(filepath.Join(p.replica, folder, name))
		if err != nil {
			return 0 // never, on the way from one version to the next
		}
		return fi.Sys().(*syscall.Stat_t).Ino
	}
	before := make([]uint64, len(names))
	for i, name := range names {
		if before[i] = inode(name); before[i] == 0 {
			t.Fatalf("%s is not on the replica", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan flip, 1)
	go func() {
		var f flip
		left := map[int]bool{}
		for i := range names {
			left[i] = true
		}
		look := func() {
			for i := range left {
				if now := inode(names[i]); now != 0 && now != before[i] {
					delete(left, i)
					f.last = time.Now()
				}
			}
		}
		for len(left) > 0 && ctx.Err() == nil {
			look()
			if f.first.IsZero() && !f.last.IsZero() {
				f.first = f.last
				ready, _ := p.onTheWay(nil)
				look() // what was renamed before its folder was looked at
				f.sent = len(names) - len(left) + ready
			}
			<-time.After(20 * time.Millisecond) // looking at all of them is work too
		}
		f.missing = len(left)
		end <- f
	}()
	return func() flip {
		cancel()
		return <-end
	}
}

// TestRepository: a webroot that holds the working tree of a repository of several thousand files, its store included,
// and what people do to one.
func TestRepository(t *testing.T) {
	t.Parallel()
	const files = 5300
	p := newPair(t, netlab.Options{RTT: 10 * time.Millisecond})
	repo := newRepository(t, p.path("origin"), files)
	reads := newReader(p.replica)
	reads.allow, reads.skip = contents(t, repo.origin), ".git"
	reads.start(t)
	p.start(t)
	p.inSync(t, 30*time.Second)
	site := filepath.Join(p.source, "site")

	p.follows(t, "git clone", func() { git(t, p.source, "clone", "-q", "file://"+repo.origin, site) })
	for _, branch := range []string{"next", "main"} {
		p.flips(t, repo, site, branch)
	}
	p.follows(t, "git rebase", func() {
		git(t, site, "checkout", "-q", "topic")
		git(t, site, "rebase", "-q", "origin/next")
	})
	site = p.moves(t, site)
	p.removesSome(t, site)
	p.removesMost(t, site)
	p.noLitter(t)
}

// follows does something, and wants the replica to follow without help.
func (p *pair) follows(t *testing.T, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	done := time.Now()
	p.inSync(t, 60*time.Second)
	equal := p.identical(t, 30*time.Second)
	t.Logf("%s took %v, identical %v after its end", what, done.Sub(began).Round(time.Millisecond), equal.Sub(done).Round(time.Millisecond))
}

// flips checks a branch out. The replica shows a mix of both for no longer than the renames take: when the first file is
// replaced, all others have been sent.
func (p *pair) flips(t *testing.T, repo *repository, site, branch string) {
	t.Helper()
	var done time.Time
	seen := p.watchFlip(t, filepath.Base(site), repo.both)
	p.follows(t, "git checkout "+branch, func() {
		git(t, site, "checkout", "-q", branch)
		done = time.Now()
	})
	f, all := seen(), len(repo.both)
	mixed := f.last.Sub(f.first)
	t.Logf("of %d files, the replica showed the first of the new branch %v after the end of the checkout, the last %v later",
		all, f.first.Sub(done).Round(time.Millisecond), mixed.Round(time.Millisecond))
	const ahead = 8 // lie elsewhere before they are put in place
	if f.sent < all-ahead || f.missing > 0 {
		t.Errorf("when the first was replaced, %d had been sent; %d were never seen to be replaced", f.sent, f.missing)
	}
	if longest := time.Duration(all) * 5 * time.Millisecond; mixed > longest {
		t.Errorf("the replica showed a mix of two branches for %v", mixed)
	}
}

// moves gives a folder another name: on the replica too, and nothing is sent for it.
func (p *pair) moves(t *testing.T, site string) (to string) {
	t.Helper()
	to = site + ".old"
	was := inodes(t, p.replica)
	var sent int64
	if p.lab != nil {
		sent, _ = p.lab.WAN.Bytes()
	}
	p.follows(t, "mv", func() {
		if err := os.Rename(site, to); err != nil {
			t.Fatal(err)
		}
	})
	if p.lab != nil {
		now, _ := p.lab.WAN.Bytes()
		if sent = now - sent; sent > 100_000 {
			t.Errorf("%d bytes were sent for a folder that has been renamed", sent)
		}
	}
	touched, is := 0, inodes(t, p.replica)
	for path, file := range was {
		under, in := strings.CutPrefix(path, filepath.Base(site)+"/")
		switch now := is[filepath.Base(to)+"/"+under]; {
		case !in:
		case now.number != file.number:
			t.Fatalf("%q is another file now", path)
		case now.changed != file.changed:
			touched++ // one that changed as it was looked at is looked at again
		}
	}
	if touched > len(was)/20 {
		t.Errorf("%d files were touched", touched)
	}
	t.Logf("mv of a folder with %d files: %d bytes sent, %d files touched", len(was), sent, touched)
	return to
}

// inode is what a rename of a folder leaves alone in every file below; that of a file itself changes the time.
type inode struct {
	number  uint64
	changed syscall.Timespec
}

// inodes are those of the regular files of a folder.
func inodes(t *testing.T, root string) map[string]inode {
	t.Helper()
	all := map[string]inode{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		all[strings.TrimPrefix(path, root+"/")] = inode{st.Ino, st.Ctim}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// remove runs rm -rf on as many folders of a tree as it takes to remove a share of its entries.
func remove(t *testing.T, root string, share float64) (gone, of int) {
	t.Helper()
	below := map[string]int{}
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for dir := filepath.Dir(path); len(dir) >= len(root); dir = filepath.Dir(dir) {
			below[dir]++
		}
		if d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	of = below[root]
	args, covered := []string{"-rf"}, ""
	for _, dir := range dirs[1:] {
		if covered != "" && strings.HasPrefix(dir, covered) || float64(gone+below[dir]+1) > share*float64(of) {
			continue
		}
		args, covered = append(args, dir), dir+"/"
		gone += below[dir] + 1
	}
	if out, err := exec.Command("rm", args...).CombinedOutput(); err != nil {
		t.Fatalf("rm: %v: %s", err, out)
	}
	return gone, of
}

// removesSome removes a tenth, which nobody has to be asked for.
func (p *pair) removesSome(t *testing.T, site string) {
	t.Helper()
	var gone, of int
	p.follows(t, "rm -rf of a tenth", func() { gone, of = remove(t, site, 0.1) })
	t.Logf("%d of %d entries were removed", gone, of)
	if n := p.told("held"); n != 0 {
		t.Errorf("the owner was asked about a tenth %d times", n)
	}
}

// removesMost removes nine tenths. They stay on the replica, and the owner is asked once, until he approves.
func (p *pair) removesMost(t *testing.T, site string) {
	t.Helper()
	before := len(inodes(t, filepath.Join(p.replica, filepath.Base(site))))
	gone, of := remove(t, site, 0.9)
	held := 0
	eventually(t, 30*time.Second, 100*time.Millisecond, func() (bool, string) {
		s, err := p.status(t)
		if err != nil {
			return false, err.Error()
		}
		held = 0
		for _, h := range s.Folders[0].Held {
			held += h.Entries
		}
		return s.Folders[0].State == "held" && p.told("held") > 0, fmt.Sprintf("%+v", s)
	})
	write(t, filepath.Join(p.source, "more"), string(content(rand.New(rand.NewPCG(9, 9)), 0o644, 100)), 0o644)
	eventually(t, 10*time.Second, 50*time.Millisecond, func() (bool, string) {
		_, err := os.Stat(filepath.Join(p.replica, "more"))
		return err == nil, "what is new does not arrive beside deletions that are held"
	})
	if left := len(inodes(t, filepath.Join(p.replica, filepath.Base(site)))); float64(left) < 0.75*float64(before) {
		t.Errorf("of %d files the replica kept %d unasked", before, left)
	}
	t.Logf("%d of %d entries were removed, %d are held", gone, of, held)
	if n := p.told("held"); n != 1 {
		t.Errorf("the owner was asked %d times", n)
	}
	p.follows(t, "approve", func() {
		if r := p.syncagent(t, "approve", "webroot"); r.code != 0 {
			t.Fatalf("approve: exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
	})
}
