package syncagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
	"releve/test/sshworld"
)

// cutting is a connection to an SFTP server that ends at a given point.
type cutting struct {
	net.Conn
	left atomic.Int64 // bytes that may still be written; negative: no limit
}

func (c *cutting) Write(p []byte) (int, error) {
	left := c.left.Load()
	if left < 0 || left >= int64(len(p)) {
		if left >= 0 {
			c.left.Add(-int64(len(p)))
		}
		return c.Conn.Write(p)
	}
	n, _ := c.Conn.Write(p[:left])
	c.Close()
	return n, io.ErrClosedPipe
}

// deaf is the server's end of a connection whose answers are lost from some point on.
type deaf struct {
	net.Conn
	off atomic.Bool
}

func (d *deaf) Write(p []byte) (int, error) {
	if d.off.Load() {
		d.Close()
		return 0, io.ErrClosedPipe
	}
	return d.Conn.Write(p)
}

// serve starts an SFTP server for dir and connects to it. After bytes have been sent, or after the request with the number
// request has been carried out, the connection ends; negative means never. join waits until the server has worked off what it
// has received.
func serve(t *testing.T, dir string, bytes, request int64, look ...func()) (client *sftpipe.Client, join func()) {
	t.Helper()
	near, far := net.Pipe()
	up := &cutting{Conn: near}
	up.left.Store(bytes)
	return serveOn(t, dir, up, far, request, look...)
}

// serveCounting is serve without an end, but it takes from left what is sent.
func serveCounting(t *testing.T, dir string, left int64) (client *sftpipe.Client, up *cutting) {
	t.Helper()
	near, far := net.Pipe()
	up = &cutting{Conn: near}
	up.left.Store(left)
	client, _ = serveOn(t, dir, up, far, -1)
	return client, up
}

func serveOn(t *testing.T, dir string, up *cutting, far net.Conn, request int64, look ...func()) (client *sftpipe.Client, join func()) {
	t.Helper()
	near, down := up.Conn, &deaf{Conn: far}
	var requests atomic.Int64
	fault := func(string, string) error {
		for _, f := range look {
			f()
		}
		switch n := requests.Add(1); {
		case request >= 0 && n == request:
			down.off.Store(true) // done, and nobody hears of it
		case request >= 0 && n > request:
			return syscall.EIO
		}
		return nil
	}
	root, err := os.OpenRoot(dir)
	must(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		sshworld.ServeSFTP(down, root, nil, fault)
		far.Close()
		root.Close()
	})
	client, err = sftpipe.NewClient(t.Context(), up)
	if err != nil {
		near.Close()
		served.Wait()
		return nil, func() {}
	}
	join = func() {
		client.Close()
		near.Close()
		served.Wait()
	}
	t.Cleanup(join)
	return client, join
}

// small is a folder with its replica.
type small struct {
	*agentWorld
	before, after map[string]string
}

// newEmpty is a folder with nothing in it, and an empty replica.
func newEmpty(t *testing.T) *small {
	t.Helper()
	dir := t.TempDir()
	s := &small{agentWorld: &agentWorld{src: filepath.Join(dir, "src"), dst: filepath.Join(dir, "root", "target"), state: filepath.Join(dir, "state")}}
	for _, d := range []string{s.src, s.dst, s.state} {
		must(t, os.MkdirAll(d, 0o755))
	}
	filter, err := tree.ParseFilter(nil)
	must(t, err)
	s.folder = Folder{Name: "webroot", Kind: Files, Source: s.src, Target: "/target", Filter: filter, Keep: time.Hour, MaxDelete: 100, MaxDeletePercent: 100}
	return s
}

// newSmall is a folder with its replica, made identical, and then changed in every way at once.
func newSmall(t *testing.T) *small {
	t.Helper()
	s := newEmpty(t)
	at := func(p string) string { return filepath.Join(s.src, p) }
	then := time.Unix(1_700_000_000, 0)
	for _, p := range []string{"replaced", "same", "gone/f", "mv/p", "mv/q", "shut/page", "was-file", "was-dir/in", "log", "names/one", "names/twin", "single"} {
		write(t, at(p), "old "+p)
		must(t, os.Chtimes(at(p), then, then))
	}
	must(t, os.Symlink("replaced", at("link")))
	must(t, os.Link(at("names/one"), at("names/two")))
	must(t, os.Link(at("names/twin"), at("twin")))
	s.begin(t)
	client, _ := serve(t, filepath.Dir(s.dst), -1, -1)
	must(t, s.push(t, client))
	s.same(t)
	s.before = s.contents(t, s.src)

	write(t, at(".new"), "new replaced, longer")
	must(t, os.Rename(at(".new"), at("replaced")))
	write(t, at("same"), "NEW same") // the same size, and the same second
	must(t, os.Chtimes(at("same"), then, then.Add(5)))
	must(t, os.RemoveAll(at("gone")))
	must(t, os.Rename(at("mv"), at("moved")))
	write(t, at("moved/p"), "new moved/p")
	must(t, os.Chmod(at("shut"), 0o700))
	write(t, at("shut/secret"), "secret")
	must(t, os.Remove(at("was-file")))
	write(t, at("was-file/now"), "in a directory")
	must(t, os.RemoveAll(at("was-dir")))
	must(t, os.Symlink("/etc", at("was-dir")))
	must(t, os.Remove(at("link")))
	must(t, os.Symlink("same", at("link")))
	must(t, os.Rename(at("log"), at("log.1")))
	write(t, at("log"), "begun anew")
	write(t, at("new/sub/file"), strings.Repeat("x", 5000))
	write(t, at("new/empty"), "")
	write(t, at("names/two"), "new names/one") // in place: both show it
	must(t, os.Chtimes(at("names/two"), then, then.Add(5)))
	must(t, os.Link(at("single"), at("names/three")))
	write(t, at(".new"), "new twin")
	must(t, os.Rename(at(".new"), at("twin")))
	s.after = s.contents(t, s.src)
	return s
}

// begin is a new process.
func (s *small) begin(t *testing.T) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s.engine = newEngine(s.folder, newLink(Backup{Name: "home"}, log), s.state, fmt.Sprint("p", time.Now().UnixNano()), log)
	s.engine.pace = pace{again: time.Millisecond, fail: time.Millisecond, failMax: time.Millisecond}
	var err error
	s.engine.remembered, err = s.engine.load()
	must(t, err)
}

// push compares everything and pushes until there is nothing left to do.
func (s *small) push(t *testing.T, client *sftpipe.Client) error {
	t.Helper()
	e := s.engine
	e.follows++
	r := push.New(push.Lanes{Small: client}, s.folder.Target, fmt.Sprint(e.id, e.follows), s.folder.Keep)
	defer r.Close(t.Context())
	err := e.begin(t.Context(), r)
	for range 10 {
		if err == nil {
			err = e.round(t.Context(), r)
		}
		if errors.Is(err, errReread) {
			e.forget()
			err = e.begin(t.Context(), r)
			continue
		}
		if err != nil || e.todo.pending() == 0 {
			break
		}
		sleep(context.Background(), time.Until(e.todo.next(time.Now().Add(time.Millisecond))))
	}
	return err
}

func (s *small) same(t *testing.T) {
	t.Helper()
	if d := s.differences(t); len(d) > 0 {
		t.Fatal(strings.Join(d, "\n"))
	}
	left, err := filepath.Glob(filepath.Join(s.dst, ".releve-tmp-*"))
	must(t, err)
	deeper, err := filepath.Glob(filepath.Join(s.dst, "*/.releve-tmp-*"))
	must(t, err)
	if left = append(left, deeper...); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}

// contents reads all files of a folder without following anything.
func (s *small) contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".releve") {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if p, _ := filepath.Rel(dir, name); d.Type().IsRegular() {
			content, err := os.ReadFile(name)
			found[p] = string(content)
			return err
		}
		return nil
	}))
	return found
}

// whole makes sure that every file of the replica is an old version or a new one, and that none was lost that both have.
func (s *small) whole(t *testing.T) {
	t.Helper()
	now := s.contents(t, s.dst)
	for p, content := range now {
		allowed := []string{s.before[p], s.after[p], s.before["mv"+strings.TrimPrefix(p, "moved")]}
		if p == "log.1" {
			allowed = append(allowed, s.before["log"])
		}
		if !slices.Contains(allowed, content) || content == "" && p != "new/empty" {
			t.Errorf("torn: %s holds %.40q", p, content)
		}
	}
	for p := range s.before {
		if _, stays := s.after[p]; stays && now[p] == "" && p != "new/empty" {
			t.Errorf("%s is missing, which was there before and is there after", p)
		}
	}
	if info, err := os.Stat(filepath.Join(s.dst, "shut")); err != nil || info.Mode().Perm()&0o077 != 0 {
		if _, seen := now["shut/secret"]; seen {
			t.Errorf("a file lies open in a directory that is private (%v)", err)
		}
	}
}

// interrupted plays one interruption, and what comes after it: the next connection of the same process, or of the next.
func interrupted(t *testing.T, bytes, request int64, killed bool) (cut bool) {
	s := newSmall(t)
	root := filepath.Dir(s.dst)
	if !killed {
		s.engine.forget()
	} else {
		s.engine.keep()
		s.begin(t)
	}
	client, join := serve(t, root, bytes, request)
	var err error
	if client != nil {
		err = s.push(t, client)
	}
	join()
	cut = client == nil || err != nil
	s.whole(t)
	if killed {
		s.begin(t) // without a word from the one before
	} else {
		s.engine.forget()
	}
	// What was on its way becomes another content of the same size in the same second, which no listing can show.
	for _, p := range []string{"replaced", "same", "moved/q", "new/sub/file", "log"} {
		name := filepath.Join(s.src, p)
		info, err := os.Stat(name)
		must(t, err)
		write(t, name, strings.Repeat("z", int(info.Size())))
		must(t, os.Chtimes(name, info.ModTime(), time.Unix(info.ModTime().Unix(), 77)))
	}
	client, _ = serve(t, root, -1, -1)
	if err := s.push(t, client); err != nil {
		t.Fatal(err)
	}
	s.same(t)
	return cut
}

// TestS2IdenticalAfterEveryLostReply loses the answer to each request of a push in turn, and all that come after it.
func TestS2IdenticalAfterEveryLostReply(t *testing.T) {
	for _, killed := range []bool{false, true} {
		ended := false
		for k := int64(1); !ended && k < 2000 && !t.Failed(); k++ {
			t.Run(fmt.Sprintf("killed=%v/request=%d", killed, k), func(t *testing.T) {
				cut := interrupted(t, -1, k, killed)
				ended = !cut
			})
		}
		if !ended && !t.Failed() {
			t.Error("never came to the end of a push")
		}
	}
}

// TestS1WholeWhereverItIsCut cuts the connection within requests.
func TestS1WholeWhereverItIsCut(t *testing.T) {
	step := int64(41)
	if testing.Short() {
		step = 997
	}
	ended := false
	for k := int64(0); !ended && !t.Failed(); k += step {
		t.Run(fmt.Sprint("bytes=", k), func(t *testing.T) {
			cut := interrupted(t, k, -1, k/step%2 == 1)
			ended = !cut
		})
	}
}

func everythingScope() plan.Scope { return plan.Scope{All: true} }

func diffOf(e *engine, l view) plan.Plan { return plan.Diff(l.src, e.known, l.scope) }
