package e2e_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
	"releve/test/treecmp"
)

// TestNpm: what npm does to a webroot arrives, and what it removes of it is held where that is much.
func TestNpm(t *testing.T) {
	t.Parallel()
	need(t, "npm")
	p := newPair(t, netlab.Options{RTT: 10 * time.Millisecond})
	npm := func(within time.Duration, args ...string) error {
		ctx, cancel := context.WithTimeoutCause(t.Context(), within, fmt.Errorf("no answer within %v", within))
		defer cancel()
		cmd := exec.CommandContext(ctx, "npm", args...)
		cmd.Dir = p.source
		cmd.Env = append(os.Environ(), "npm_config_cache="+p.path("npm"), "npm_config_update_notifier=false", "npm_config_fund=false",
			"npm_config_audit=false", "npm_config_ignore_scripts=true")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("npm %s: %w: %s", strings.Join(args, " "), err, tail(string(out), 5))
		}
		return nil
	}
	if err := npm(20*time.Second, "ping"); err != nil {
		t.Skipf("left out: no npm registry: %v", err)
	}
	reads := newReader(p.replica)
	reads.ask = true // nobody knows the contents before they are there
	reads.start(t)
	p.start(t)
	p.inSync(t, 30*time.Second)

	right := map[[32]byte]bool{}
	for _, args := range [][]string{{"install", "express@4", "lodash@4"}, {"install", "express@5"}, {"uninstall", "lodash"}} {
		began := time.Now()
		if err := npm(90*time.Second, args...); err != nil {
			t.Fatal(err)
		}
		done := time.Now()
		held := p.endsWell(t)
		t.Logf("npm %s took %v, identical %v after its end; held: %d", strings.Join(args, " "),
			done.Sub(began).Round(time.Millisecond), time.Since(done).Round(time.Millisecond), held)
		hashAll(t, p.source, right)
	}
	p.noLitter(t)
	reads.mu.Lock()
	defer reads.mu.Unlock()
	for sum, path := range reads.strange {
		// npm writes these several times over.
		if name := filepath.Base(path); !right[sum] && name != ".package-lock.json" && name != "package-lock.json" && name != "package.json" {
			t.Errorf("%q had content that never was at the source", path)
		}
	}
	t.Logf("%d different contents were read", len(reads.strange))
}

// endsWell wants the replica to end identical, or with deletions held, which are then approved. It returns how many.
func (p *pair) endsWell(t *testing.T) (held int) {
	t.Helper()
	eventually(t, 60*time.Second, 200*time.Millisecond, func() (bool, string) {
		if differ, err := treecmp.Compare(p.source, p.replica, ours); err == nil && len(differ) == 0 {
			return true, ""
		}
		s, err := p.status(t)
		if err != nil {
			return false, err.Error()
		}
		f := s.Folders[0]
		if f.State == "held" && f.Pending == 0 {
			for _, h := range f.Held {
				held += h.Entries
			}
			if r := p.syncagent(t, "approve", "webroot"); r.code != 0 {
				t.Fatalf("approve: exit code %d: %s%s", r.code, r.stdout, r.stderr)
			}
		}
		return false, fmt.Sprintf("%+v", s)
	})
	return held
}

// hashAll adds the hashes of all files of a folder.
func hashAll(t *testing.T, root string, to map[[32]byte]bool) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		to[sha256.Sum256(text)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
