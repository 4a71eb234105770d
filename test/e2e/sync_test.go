package e2e_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
)

// TestWholeTreeThenChanges: 20,000 files in 2,000 directories arrive identical through the bastion, and so do 1,000
// random operations that are done while it runs, within 5 s of the last.
func TestWholeTreeThenChanges(t *testing.T) {
	p := newPair(t, netlab.Options{RTT: 20 * time.Millisecond})
	dirs, files, changes := 2000, 20_000, 1000
	if testing.Short() {
		dirs, files, changes = 200, 2000, 200
	}
	tree := newTree(p.source, 1)
	if err := tree.grow(dirs, files); err != nil {
		t.Fatal(err)
	}
	p.readWhile(t)
	began := time.Now()
	p.start(t)
	p.inSync(t, 2*time.Minute)
	took := time.Since(began)
	p.identical(t, 0)
	t.Logf("%d files in %d directories arrived within %v (%.0f files/s)", files, dirs, took.Round(time.Millisecond), float64(files)/took.Seconds())

	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	for range changes {
		<-pace.C
		if err := tree.change(); err != nil {
			t.Fatal(err)
		}
	}
	last := time.Now()
	// The last look may begin 5 s after the last change, and no later.
	equal := p.identical(t, 5*time.Second)
	t.Logf("identical %v after the last of %d changes", equal.Sub(last).Round(time.Millisecond), changes)
	p.noLitter(t)
	privateTrash(t, p)
}

// privateTrash wants what the replica keeps of replaced and deleted content to be for its owner alone: it may have been
// in a private directory.
func privateTrash(t *testing.T, p *pair) {
	t.Helper()
	err := filepath.WalkDir(p.replica, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || !strings.HasPrefix(d.Name(), ".releve") {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q has mode %v", strings.TrimPrefix(path, p.replica), fi.Mode())
		}
		return filepath.SkipDir
	})
	if err != nil {
		t.Error(err)
	}
}
