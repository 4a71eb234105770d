package syncagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"releve/pkg/sshjump"
)

// gate holds up large files on their way: their further connections wait for the file to be opened there too.
type gate struct {
	reached chan struct{} // closed when the first has come
	open    chan struct{} // closed to let all pass
	release func()

	mu     sync.Mutex
	opened map[string]bool
}

func (a *agentWorld) hold(t *testing.T) *gate {
	g := &gate{reached: make(chan struct{}), open: make(chan struct{}), opened: map[string]bool{}}
	reach := sync.OnceFunc(func() { close(g.reached) })
	g.release = sync.OnceFunc(func() {
		a.ssh.Backup.SetFault(nil)
		close(g.open)
	})
	t.Cleanup(g.release)
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op != "open" || !strings.Contains(path, ".releve-spool/") {
			return nil
		}
		g.mu.Lock()
		again := g.opened[path]
		g.opened[path] = true
		g.mu.Unlock()
		if again {
			reach()
			<-g.open
		}
		return nil
	})
	return g
}

func (g *gate) await(t *testing.T) {
	t.Helper()
	select {
	case <-g.reached:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is written")
	}
}

// newFar is a world whose backup is far away, so that there are several connections for large files.
func newFar(t *testing.T) *agentWorld {
	a := newAgentWorld(t)
	w := newWAN(t, a.ssh.BastionAddr)
	w.Break(wanFault{delay: 4 * time.Millisecond})
	known := filepath.Join(a.state, "known_hosts")
	line := knownhosts.Line([]string{w.Addr()}, a.ssh.Bastion.HostKey()) + "\n" + knownhosts.Line([]string{a.ssh.BackupName}, a.ssh.Backup.HostKey()) + "\n"
	must(t, os.WriteFile(known, []byte(line), 0o600))
	a.hops = []sshjump.Hop{
		{Name: "bastion", Address: w.Addr(), User: a.ssh.BastionUser, KeyFile: a.ssh.BastionKey, KnownHosts: []string{known}},
		{Name: "backup", Address: a.ssh.BackupName, User: a.ssh.BackupUser, KeyFile: a.ssh.BackupKey, KnownHosts: []string{known}},
	}
	a.pace = quick()
	return a
}

// quick is a pace of little patience.
func quick() pace {
	p := normalPace()
	p.again, p.fail, p.failMax, p.retry, p.retryMax = 10*time.Millisecond, 20*time.Millisecond, 300*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond
	return p
}

func (a *agentWorld) session() *session {
	a.link.mu.Lock()
	defer a.link.mu.Unlock()
	return a.link.session
}

// chains are the connections for large files that are open now.
func (a *agentWorld) chains() []*chain {
	c := a.session().more
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*chain(nil), c.live...)
}

// clean waits until nothing lies in the spool but what is kept open ahead.
func (a *agentWorld) clean(t *testing.T) {
	t.Helper()
	eventually(t, "nothing is left in the spool", func() bool {
		large := 0
		entries, err := os.ReadDir(filepath.Join(a.dst, ".releve-spool"))
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				large++
			}
		}
		return err == nil && large == 0
	})
}

// large writes a large file beside the source, and puts it into it whole.
func (a *agentWorld) large(t *testing.T, name string, size int, seed byte) {
	t.Helper()
	largeNoise(t, a.src+".new", size, seed)
	must(t, os.Rename(a.src+".new", filepath.Join(a.src, name)))
}

func (a *agentWorld) has(name string) bool {
	_, err := os.Stat(filepath.Join(a.dst, name))
	return err == nil
}

// TestLargeFilesBesideRounds: what is small arrives while what is large is on its way, over several connections.
func TestLargeFilesBesideRounds(t *testing.T) {
	t.Parallel()
	a := newFar(t)
	write(t, filepath.Join(a.src, "page"), "one")
	a.start(t)
	a.identical(t)
	g := a.hold(t)
	a.large(t, "large", 20<<20, 1)
	g.await(t)
	eventually(t, "four connections", func() bool { return len(a.chains()) == chainsFar })
	for _, text := range []string{"two", "three"} {
		write(t, filepath.Join(a.src, "page"), text)
		eventually(t, "the small change", func() bool {
			got, _ := os.ReadFile(filepath.Join(a.dst, "page"))
			return string(got) == text
		})
	}
	if a.has("large") {
		t.Error("the large file came through the gate")
	}
	if a.engine.snapshot().state == stateInSync {
		t.Error("it is said to be in sync")
	}
	g.release()
	a.identical(t)
	a.clean(t)

	session, bytes := a.session(), 0
	a.session().more.rest() // a minute later
	if len(a.chains()) != 0 {
		t.Error("what nobody uses stays open")
	}
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "copy-data" {
			bytes++
		}
		return nil
	})
	f, err := os.OpenFile(filepath.Join(a.src, "large"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("changed"), 5<<20)
	must(t, errors.Join(err, f.Close()))
	eventually(t, "it is noticed", func() bool { return a.engine.snapshot().state != stateInSync || len(a.differences(t)) == 0 })
	a.identical(t)
	if len(a.chains()) != 0 {
		t.Error("connections were opened for a few bytes")
	}
	if a.session() != session {
		t.Error("the session is another")
	}
}

// TestChainDiesInTheMiddle: the file is sent again; the session, and what goes over it, does not notice.
func TestChainDiesInTheMiddle(t *testing.T) {
	t.Parallel()
	a := newFar(t)
	write(t, filepath.Join(a.src, "page"), "one")
	a.start(t)
	a.identical(t)
	session := a.session()
	for i, dead := range []int{0, 2} {
		g := a.hold(t)
		a.large(t, fmt.Sprint("large", i), 20<<20, byte(i))
		g.await(t)
		a.chains()[dead].conn.Close()
		g.release()
		a.identical(t)
	}
	if a.session() != session {
		t.Error("the session ended too")
	}
	a.clean(t)
}

// TestNoChains: where no further connection can be had, large files go over the one there is.
func TestNoChains(t *testing.T) {
	t.Parallel()
	a := newFar(t)
	write(t, filepath.Join(a.src, "page"), "one")
	a.start(t)
	a.identical(t)
	a.ssh.Bastion.Refuse()
	a.large(t, "large", 12<<20, 1)
	a.identical(t)
	if n := len(a.chains()); n != 0 {
		t.Errorf("%d connections", n)
	}
	must(t, a.ssh.Bastion.Welcome())
}

// TestLargeFileAndTheSession: the session ends while a large file is on its way; the engine resumes with the next one.
func TestLargeFileAndTheSession(t *testing.T) {
	t.Parallel()
	a := newFar(t)
	a.start(t)
	a.identical(t)
	for i, end := range []func(){a.ssh.Backup.Kill, a.ssh.Bastion.Kill, func() { a.stop(); a.start(t) }} {
		g := a.hold(t)
		a.large(t, fmt.Sprint("large", i), 12<<20, byte(i))
		g.await(t)
		done := make(chan struct{})
		go func() { defer close(done); end() }() // joined below; a server's end waits for what it has begun
		write(t, filepath.Join(a.src, "page"), strings.Repeat("x", i+1))
		g.release()
		<-done
		a.identical(t)
	}
	a.clean(t)
}

// TestLargeFileChangesOnItsWay: what was under way is given up for the newer version, or for none.
func TestLargeFileChangesOnItsWay(t *testing.T) {
	t.Parallel()
	a := newFar(t)
	write(t, filepath.Join(a.src, "page"), "one")
	a.start(t)
	a.identical(t)
	change := map[string]func(){
		"replaced": func() { a.large(t, "large", 9<<20, 2) },
		"small": func() {
			write(t, a.src+".new", "small")
			must(t, os.Rename(a.src+".new", filepath.Join(a.src, "large")))
		},
		"renamed": func() { must(t, os.Rename(filepath.Join(a.src, "large"), filepath.Join(a.src, "other"))) },
		"private": func() { must(t, os.Chmod(filepath.Join(a.src, "large"), 0o600)) },
		"gone":    func() { must(t, os.Remove(filepath.Join(a.src, "large"))) },
		"a folder": func() {
			must(t, os.Remove(filepath.Join(a.src, "large")))
			write(t, filepath.Join(a.src, "large/in"), "a folder")
		},
	}
	for name, do := range change {
		must(t, os.RemoveAll(filepath.Join(a.src, "large")))
		a.identical(t)
		g := a.hold(t)
		a.large(t, "large", 12<<20, 1)
		g.await(t)
		do()
		write(t, filepath.Join(a.src, "page"), name)
		eventually(t, "what is small", func() bool {
			got, _ := os.ReadFile(filepath.Join(a.dst, "page"))
			return string(got) == name
		})
		g.release()
		a.identical(t)
		a.clean(t)
	}
}

// TestLargeFileRefused: that is said, and when there is room it goes out.
func TestLargeFileRefused(t *testing.T) {
	t.Parallel()
	a := newFar(t)
	a.start(t)
	a.identical(t)
	a.ssh.Backup.SetFault(func(op, path string) error {
		if op == "write" && strings.Contains(path, ".releve-spool/") {
			return syscall.EIO
		}
		return nil
	})
	a.large(t, "large", 12<<20, 1)
	eventually(t, "the refusal is told", func() bool { return len(a.engine.snapshot().problems) > 0 })
	a.ssh.Backup.SetFault(nil)
	a.identical(t)
	a.clean(t)
}
