package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
)

// onTheWay counts the files under temporary names on the replica, apart from those of processes that are known, and
// returns the processes whose they are: such a name is .releve-tmp-PROCESS-NUMBER.
func (p *pair) onTheWay(known map[string]bool) (files int, processes map[string]bool) {
	processes = map[string]bool{}
	_ = filepath.WalkDir(p.replica, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		_, id, ours := strings.Cut(path, "/.releve-tmp-")
		id, _, _ = strings.Cut(id, "-")
		if ours && !known[id] {
			processes[id] = true
			if d.Type().IsRegular() {
				files++
			}
		}
		return nil
	})
	return files, processes
}

// underWay waits until so many files of the agent's first sync are on their way.
func (p *pair) underWay(t *testing.T, files int, known map[string]bool) {
	t.Helper()
	eventually(t, 60*time.Second, 5*time.Millisecond, func() (bool, string) {
		n, processes := p.onTheWay(known)
		if n >= files {
			for id := range processes {
				known[id] = true
			}
		}
		return n >= files, fmt.Sprintf("%d files are on their way, want %d", n, files)
	})
}

// slowPair is a pair whose first sync is long enough to be interrupted.
func slowPair(t *testing.T, seed uint64) (*pair, *sourceTree) {
	t.Helper()
	p := newPair(t, netlab.Options{RTT: 20 * time.Millisecond})
	tree := newTree(p.source, seed)
	if err := tree.grow(300, 4000); err != nil {
		t.Fatal(err)
	}
	p.readWhile(t)
	return p, tree
}

// recovers wants everything to end well, without help, and changes to pass again.
func (p *pair) recovers(t *testing.T, tree *sourceTree, within time.Duration) {
	t.Helper()
	took := p.inSync(t, within)
	p.identical(t, 15*time.Second)
	p.noLitter(t)
	for range 20 {
		if err := tree.change(); err != nil {
			t.Fatal(err)
		}
	}
	p.identical(t, 15*time.Second) // the machine is busy with other tests
	p.noLitter(t)
	t.Logf("in sync again after %v", took.Round(time.Millisecond))
}

// TestAgentKilledInFirstSync: kill -9 at several moments of the first sync.
func TestAgentKilledInFirstSync(t *testing.T) {
	t.Parallel()
	p, tree := slowPair(t, 2)
	known := map[string]bool{}
	for range 4 {
		p.start(t)
		p.underWay(t, 1+tree.r.IntN(3000), known)
		p.killAgent(t)
		if s, _ := os.ReadFile(p.path("state/record-webroot-home")); len(s) > 0 {
			t.Log("the kill came after the first sync")
		}
	}
	p.start(t)
	p.recovers(t, tree, 60*time.Second)
}

// TestAgentKilledWhilePushing: kill -9 in the midst of changes; what changes while nobody watches arrives as well.
func TestAgentKilledWhilePushing(t *testing.T) {
	t.Parallel()
	p := newPair(t, netlab.Options{RTT: 10 * time.Millisecond})
	tree := newTree(p.source, 3)
	if err := tree.grow(100, 1000); err != nil {
		t.Fatal(err)
	}
	p.readWhile(t)
	p.start(t)
	p.inSync(t, 60*time.Second)
	for range 5 {
		for range 60 {
			if err := tree.change(); err != nil {
				t.Fatal(err)
			}
		}
		p.killAgent(t)
		for range 20 {
			if err := tree.change(); err != nil {
				t.Fatal(err)
			}
		}
		p.start(t)
	}
	p.recovers(t, tree, 60*time.Second)
}

// TestBackupSSHDKilled: the backup's sshd, all its processes, die in the middle of the first sync and come back.
func TestBackupSSHDKilled(t *testing.T) {
	t.Parallel()
	p, tree := slowPair(t, 4)
	p.start(t)
	p.underWay(t, 1500, map[string]bool{})
	restart(t, p.backup)
	p.recovers(t, tree, 90*time.Second)
}

// TestBastionSSHDKilled: the same of the bastion.
func TestBastionSSHDKilled(t *testing.T) {
	t.Parallel()
	p, tree := slowPair(t, 5)
	p.start(t)
	p.underWay(t, 1500, map[string]bool{})
	restart(t, p.bastion)
	p.recovers(t, tree, 90*time.Second)
}

// restart kills a server and, when the agent has had the time to run into the closed door, starts it again.
func restart(t *testing.T, s *netlab.SSHD) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	<-ctx.Done()
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestWANCut: the line swallows everything for longer than a silence is tolerated, in the middle of the first sync.
func TestWANCut(t *testing.T) {
	t.Parallel()
	needLab(t)
	p, tree := slowPair(t, 6)
	p.start(t)
	p.underWay(t, 1500, map[string]bool{})
	p.lab.WAN.Cut()
	began := time.Now()
	noticed := eventually(t, 40*time.Second, 100*time.Millisecond, func() (bool, string) {
		s, err := p.status(t)
		if err != nil {
			return false, err.Error()
		}
		return len(s.Backups) == 1 && !s.Backups[0].Connected && s.State == "failing", fmt.Sprintf("%+v", s)
	})
	for range 50 { // life goes on at the source
		if err := tree.change(); err != nil {
			t.Fatal(err)
		}
	}
	rest := time.NewTimer(40*time.Second - time.Since(began))
	<-rest.C
	p.lab.WAN.Mend()
	p.recovers(t, tree, 90*time.Second)
	t.Logf("the cut was noticed after %v", noticed.Round(time.Millisecond))
}
