package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"releve/test/netlab"
)

// arrived counts the regular files on the replica, those still on their way included.
func (p *pair) arrived() int {
	n := 0
	_ = filepath.WalkDir(p.replica, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil
	})
	return n
}

// untilArrived waits until so many files are on the replica, in place or on their way.
func (p *pair) untilArrived(t *testing.T, files int) {
	t.Helper()
	eventually(t, 60*time.Second, 5*time.Millisecond, func() (bool, string) {
		n := p.arrived()
		return n >= files, fmt.Sprintf("%d files arrived, want %d", n, files)
	})
}

// slowPair is a pair whose first sync is long enough to be interrupted.
func slowPair(t *testing.T, seed uint64) (*pair, *sourceTree) {
	t.Helper()
	p := newPair(t, netlab.Options{RTT: 20 * time.Millisecond})
	tree := newTree(p.source, seed)
	if err := tree.grow(400, 6000); err != nil {
		t.Fatal(err)
	}
	p.readWhile(t)
	return p, tree
}

// recovers wants everything to end well, without help, and changes to pass again.
func (p *pair) recovers(t *testing.T, tree *sourceTree, within time.Duration) {
	t.Helper()
	took := p.inSync(t, within)
	p.identical(t, 5*time.Second)
	p.noLitter(t)
	for range 20 {
		if err := tree.change(); err != nil {
			t.Fatal(err)
		}
	}
	p.identical(t, 5*time.Second)
	p.noLitter(t)
	t.Logf("in sync again after %v", took.Round(time.Millisecond))
}

// TestAgentKilledInFirstSync: kill -9 at several moments of the first sync costs what was on its way, no more.
func TestAgentKilledInFirstSync(t *testing.T) {
	t.Parallel()
	p, tree := slowPair(t, 2)
	for range 4 {
		p.start(t)
		// Somewhere before the end; what has arrived stays, so that the next moment is a later one.
		have := p.arrived()
		p.untilArrived(t, have+1+tree.r.IntN(1200))
		p.killAgent(t)
	}
	if n := p.arrived(); n >= 6000 {
		t.Errorf("%d files had arrived before the last kill: none of them came in the middle", n)
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
	p.untilArrived(t, 1500)
	restart(t, p.backup)
	p.recovers(t, tree, 90*time.Second)
}

// TestBastionSSHDKilled: the same of the bastion.
func TestBastionSSHDKilled(t *testing.T) {
	t.Parallel()
	p, tree := slowPair(t, 5)
	p.start(t)
	p.untilArrived(t, 1500)
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
	p.untilArrived(t, 1500)
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
