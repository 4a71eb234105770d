package push_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
	"releve/test/treecmp"
)

const sftpServer = "/usr/lib/openssh/sftp-server"

// pipe is the stdio of a server process as one connection.
type pipe struct {
	io.Reader
	io.WriteCloser
	close func() error
}

func (p pipe) Close() error { return p.close() }

// dial starts OpenSSH's SFTP server, as sshd would, and connects to it.
func dial(t testing.TB) *sftpipe.Client {
	t.Helper()
	return dialThrough(t, func(r io.Reader) io.Reader { return r }, nil)
}

// dialThrough is dial, with something between the server's answers and the client, and a server that runs as somebody.
func dialThrough(t testing.TB, answers func(io.Reader) io.Reader, as *syscall.Credential) *sftpipe.Client {
	t.Helper()
	if _, err := os.Stat(sftpServer); err != nil {
		t.Skip("left out: OpenSSH's sftp-server is not installed (Debian: openssh-sftp-server)")
	}
	cmd := exec.Command(sftpServer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client, err := sftpipe.NewClient(t.Context(), pipe{answers(out), in, func() error {
		return errors.Join(in.Close(), cmd.Process.Kill())
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		cmd.Wait()
	})
	return client
}

// world is a source folder and a replica of it.
type world struct {
	src, dst string
	root     *tree.Root
	filter   *tree.Filter
	known    *plan.Known
	replica  *push.Replica
	at       time.Time
}

func newWorld(t testing.TB, client *sftpipe.Client, dir string, keep time.Duration) *world {
	t.Helper()
	w := &world{src: filepath.Join(dir, "src"), dst: filepath.Join(dir, "dst"), at: time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)}
	for _, d := range []string{w.src, w.dst} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	var err error
	if w.root, err = tree.Open(w.src); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.root.Close() })
	if w.filter, err = tree.ParseFilter(nil); err != nil {
		t.Fatal(err)
	}
	w.replica = push.New(push.Lanes{Small: client}, w.dst, "test", keep)
	if err := w.replica.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.read(t)
	return w
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// read makes known what the replica holds by listing it.
func (w *world) read(t fataler) {
	t.Helper()
	entries, err := w.replica.Read(context.Background(), w.filter)
	if err != nil {
		t.Fatalf("%v", err)
	}
	w.known = plan.NewKnown(entries)
}

// push compares everything and carries the plan out.
func (w *world) push(t fataler) push.Outcome {
	t.Helper()
	src := tree.Tree{}
	problems, err := w.root.Scan(context.Background(), ".", w.filter, src)
	if err != nil || len(problems) > 0 {
		t.Fatalf("scan: %v, %v", err, problems)
	}
	p := plan.Diff(src, w.known, plan.Scope{All: true})
	out, err := w.replica.Apply(context.Background(), w.root, p, w.known, w.at, nil)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return out
}

func ours(name string) bool { return strings.HasPrefix(name, tree.Prefix) }

func (w *world) identical(t fataler) {
	t.Helper()
	differences, err := treecmp.Compare(w.src, w.dst, ours)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if len(differences) > 0 {
		t.Fatalf("the replica differs:\n%s", strings.Join(differences, "\n"))
	}
}

// leftovers lists temporary names on the replica.
func (w *world) leftovers(t fataler) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(w.dst, func(p string, d os.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), ".releve-tmp-") {
			found = append(found, p)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return found
}

// scramble applies one random operation to a real folder.
func scramble(t *rapid.T, dir string, n int) {
	var paths, dirs []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if p != dir {
			paths = append(paths, p)
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	dirModes := []os.FileMode{0o755, 0o700, 0o2775}
	if os.Geteuid() == 0 { // who may go on working there
		dirModes = append(dirModes, 0o555, 0o500, 0o444, 0)
	}
	names := []string{"a", "b", "c", "a-b", "new\nline", "\xff\xfe", strings.Repeat("x", 255)}
	q := filepath.Join(rapid.SampledFrom(dirs).Draw(t, "in"), rapid.SampledFrom(names).Draw(t, "name"))
	p := q
	if len(paths) > 0 {
		p = rapid.SampledFrom(paths).Draw(t, "path")
	}
	when := time.Unix(int64(1_700_000_000+n), int64(n)*1000)
	switch rapid.IntRange(0, 11).Draw(t, "op") {
	case 0, 1:
		os.RemoveAll(q)
		content := strings.Repeat(fmt.Sprint(n), rapid.SampledFrom([]int{0, 1, 1000, 100_000}).Draw(t, "size"))
		must(t, os.WriteFile(q, []byte(content), rapid.SampledFrom([]os.FileMode{0o644, 0o600, 0o400, 0o755}).Draw(t, "mode")))
	case 2:
		os.RemoveAll(q)
		must(t, os.Mkdir(q, 0o755))
		must(t, syscall.Chmod(q, uint32(rapid.SampledFrom(dirModes).Draw(t, "mode"))))
	case 3:
		os.RemoveAll(q)
		must(t, os.Symlink(rapid.SampledFrom([]string{"/etc", "a", "../nowhere"}).Draw(t, "to"), q))
	case 4:
		must(t, os.RemoveAll(p))
	case 5:
		if strings.HasPrefix(q+"/", p+"/") || strings.HasPrefix(p+"/", q+"/") {
			return
		}
		os.RemoveAll(q)
		if err := os.Rename(p, q); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%v", err)
		}
	case 6:
		if st, err := os.Lstat(p); err == nil && st.Mode()&os.ModeSymlink == 0 {
			must(t, os.Chtimes(p, when, when))
		}
	case 8: // in place, so that all names of the file show it
		if st, err := os.Lstat(p); err == nil && st.Mode().IsRegular() {
			must(t, os.WriteFile(p, []byte(strings.Repeat(fmt.Sprint(n), 1000)), 0o644))
		}
	case 9:
		if st, err := os.Lstat(p); err == nil && st.Mode().IsRegular() {
			must(t, os.Chmod(p, rapid.SampledFrom([]os.FileMode{0o644, 0o600, 0o400, 0o755}).Draw(t, "mode")))
		}
	case 10, 11:
		if st, err := os.Lstat(p); err != nil || !st.Mode().IsRegular() || q == p {
			return
		}
		os.RemoveAll(q)
		if err := os.Link(p, q); err != nil && !errors.Is(err, os.ErrNotExist) { // it was below q
			t.Fatalf("%v", err)
		}
	case 7:
		if st, err := os.Lstat(p); err == nil && st.IsDir() {
			must(t, syscall.Chmod(p, uint32(rapid.SampledFrom(dirModes).Draw(t, "mode"))))
		}
	}
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// TestApplyMakesIdentical (S2): after any operations on the source the replica is identical, shown by an independent
// comparison of the two real folders, and what is known of the replica is what a listing says of it.
func TestApplyMakesIdentical(t *testing.T) {
	makesIdentical(t, dial(t), t.TempDir())
}

// TestReplicaOfAnOrdinaryUser: the same where the replica's owner cannot do, as the source's can, what the modes forbid.
func TestReplicaOfAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: no root, who alone may write what is read-only at the source")
	}
	const nobody = 65534
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	// Whoever makes a folder here gives it to the server's user.
	must(t, os.Chown(dir, nobody, nobody))
	client := dialThrough(t, func(r io.Reader) io.Reader { return r }, &syscall.Credential{Uid: nobody, Gid: nobody})
	makesIdentical(t, client, dir)
}

func makesIdentical(t *testing.T, client *sftpipe.Client, dir string) {
	st, err := os.Stat(dir)
	must(t, err)
	owner := st.Sys().(*syscall.Stat_t)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(dir, "")
		must(rt, err)
		must(rt, os.Chmod(dir, 0o755))
		defer os.RemoveAll(dir)
		must(rt, os.Mkdir(filepath.Join(dir, "dst"), 0o755))
		must(rt, os.Chown(filepath.Join(dir, "dst"), int(owner.Uid), int(owner.Gid)))
		w := newWorld(t, client, dir, rapid.SampledFrom([]time.Duration{0, 24 * time.Hour}).Draw(rt, "keep"))
		n := 0
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 8).Draw(rt, "changes") {
				n++
				scramble(rt, w.src, n)
			}
			out := w.push(rt)
			if len(out.Failed) > 0 || out.Stale {
				rt.Fatalf("failed %v, stale %v", out.Failed, out.Stale)
			}
			w.identical(rt)
			if left := w.leftovers(rt); len(left) > 0 {
				rt.Fatalf("left behind: %q", left)
			}
		}
		before := w.known
		w.read(rt)
		for p, e := range before.All() {
			if e.Type == tree.Dir && e.Mode&0o500 != 0o500 {
				e.Mode = 0o700 // opened to be listed
			}
			if now, ok := w.known.Get(p); !ok || !tree.Equal(now, e) {
				rt.Fatalf("%s: known as %+v, listed as %+v", p, e, now)
			}
		}
		if before.Len() != w.known.Len() {
			rt.Fatalf("%d entries known, %d listed", before.Len(), w.known.Len())
		}
		w.push(rt)
		w.identical(rt)
	})
}

// TestReplacedAndDeletedAreKept (S5): the old content can be found by path, for as long as it is to be kept.
func TestReplacedAndDeletedAreKept(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	must(t, os.Mkdir(filepath.Join(w.src, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.src, "dir/replaced"), []byte("old"), 0o644))
	must(t, os.WriteFile(filepath.Join(w.src, "dir/deleted"), []byte("gone"), 0o600))
	w.push(t)
	w.at = w.at.Add(time.Minute)
	must(t, os.WriteFile(filepath.Join(w.src, "dir/new"), []byte("new"), 0o644))
	must(t, os.Rename(filepath.Join(w.src, "dir/new"), filepath.Join(w.src, "dir/replaced")))
	must(t, os.Remove(filepath.Join(w.src, "dir/deleted")))
	w.push(t)
	w.identical(t)
	trash := filepath.Join(w.dst, ".releve-trash", "20261122T1406Z-test", "dir")
	for name, want := range map[string]string{"replaced": "old", "deleted": "gone"} {
		if got, err := os.ReadFile(filepath.Join(trash, name)); string(got) != want {
			t.Errorf("trash holds %q (%v) for %s, want %q", got, err, name, want)
		}
	}
	if st, err := os.Stat(filepath.Join(w.dst, ".releve-trash")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the trash has mode %v (%v), want 0700", st.Mode(), err)
	}

	must(t, w.replica.Prune(t.Context(), w.at.Add(50*time.Minute)))
	if _, err := os.Stat(trash); err != nil {
		t.Errorf("pruned too early: %v", err)
	}
	must(t, w.replica.Prune(t.Context(), w.at.Add(62*time.Minute)))
	if _, err := os.Stat(trash); err == nil {
		t.Errorf("not pruned")
	}
}

// TestLeftoversAreSwept: what a killed agent leaves behind goes away at the next start, links unfollowed.
func TestLeftoversAreSwept(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), nil, 0o644))
	must(t, os.MkdirAll(filepath.Join(w.dst, ".releve-tmp-dead-1/sub"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(w.dst, ".releve-tmp-dead-1/sub/link")))
	must(t, os.WriteFile(filepath.Join(w.dst, ".releve-tmp-dead-2"), []byte("half"), 0o600))
	w.read(t)
	if left := w.leftovers(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

// TestVanishedSourceIsNotDeleted: a file that goes away between plan and upload is compared again, not failed.
func TestVanishedSourceIsNotDeleted(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	for _, name := range []string{"stays", "vanishes"} {
		must(t, os.WriteFile(filepath.Join(w.src, name), []byte(name), 0o644))
	}
	src := tree.Tree{}
	_, err := w.root.Scan(t.Context(), ".", w.filter, src)
	must(t, err)
	must(t, os.Remove(filepath.Join(w.src, "vanishes")))
	out, err := w.replica.Apply(t.Context(), w.root, plan.Diff(src, w.known, plan.Scope{All: true}), w.known, w.at, nil)
	must(t, err)
	if !slices.Equal(out.Again, []string{"vanishes"}) || len(out.Failed) > 0 || out.Files != 1 {
		t.Errorf("got %+v", out)
	}
}

// TestFIFOIsNeverOpened: a file that becomes a FIFO after the plan was made must not block the push.
func TestFIFOIsNeverOpened(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	p := filepath.Join(w.src, "f")
	must(t, os.WriteFile(p, []byte("x"), 0o644))
	src := tree.Tree{}
	_, err := w.root.Scan(t.Context(), ".", w.filter, src)
	must(t, err)
	must(t, os.Remove(p))
	must(t, syscall.Mkfifo(p, 0o644))
	out, err := w.replica.Apply(t.Context(), w.root, plan.Diff(src, w.known, plan.Scope{All: true}), w.known, w.at, nil)
	must(t, err)
	if !slices.Equal(out.Again, []string{"f"}) {
		t.Errorf("got %+v", out)
	}
}

// TestChmodSendsNoContent: the content is hashed here, not sent again.
func TestChmodSendsNoContent(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	p := filepath.Join(w.src, "f")
	must(t, os.WriteFile(p, []byte("content"), 0o644))
	w.push(t)
	before, err := os.Stat(filepath.Join(w.dst, "f"))
	must(t, err)
	must(t, os.Chmod(p, 0o600))
	out := w.push(t)
	after, err := os.Stat(filepath.Join(w.dst, "f"))
	must(t, err)
	if out.Files != 0 || !os.SameFile(before, after) || after.Mode().Perm() != 0o600 {
		t.Errorf("sent %d files, same file %v, mode %v", out.Files, os.SameFile(before, after), after.Mode())
	}
}

// TestDriftIsReported: somebody removed a directory on the replica behind our back.
func TestDriftIsReported(t *testing.T) {
	w := newWorld(t, dial(t), t.TempDir(), time.Hour)
	must(t, os.Mkdir(filepath.Join(w.src, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.src, "dir/a"), nil, 0o644))
	w.push(t)
	must(t, os.RemoveAll(filepath.Join(w.dst, "dir")))
	must(t, os.WriteFile(filepath.Join(w.src, "dir/b"), nil, 0o644))
	if out := w.push(t); !out.Stale {
		t.Errorf("got %+v, want stale", out)
	}
	w.read(t)
	w.push(t)
	w.identical(t)
}
