package push_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
	"releve/test/memnet"
	"releve/test/sshworld"
)

// TestRefusedRenameLeavesNoTrace (S2): what could not be put in place is removed again, and the directory it lay in has
// its own time afterwards, not that of the removal.
func TestRefusedRenameLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	for _, d := range []string{filepath.Join(src, "d"), filepath.Join(dst, "d")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	for _, name := range []string{"d/one", "d/two"} {
		must(t, os.WriteFile(filepath.Join(src, name), []byte(name), 0o644))
	}
	old := time.Unix(1_700_000_000, 0)
	must(t, os.Chtimes(filepath.Join(src, "d"), old, old))

	far, err := os.OpenRoot(dir)
	must(t, err)
	defer far.Close()
	ours, theirs := memnet.Pipe(memnet.Addr("agent"), memnet.Addr("server"))
	done := make(chan error, 1)
	go func() {
		renames := 0
		done <- sshworld.ServeSFTP(theirs, far, nil, func(op, _ string) error {
			if op != "posix-rename" {
				return nil
			}
			if renames++; renames == 1 {
				return syscall.EIO
			}
			return nil
		})
	}()
	client, err := sftpipe.NewClient(t.Context(), ours)
	must(t, err)
	defer func() { client.Close(); theirs.Close(); <-done }()

	root, err := tree.Open(src)
	must(t, err)
	defer root.Close()
	r := push.New(push.Lanes{Small: client}, "/dst", "test", time.Hour)
	must(t, r.Check(t.Context()))
	filter, err := tree.ParseFilter(nil)
	must(t, err)
	listed, err := r.Read(t.Context(), filter)
	must(t, err)
	known, entries := plan.NewKnown(listed), tree.Tree{}
	_, err = root.Scan(t.Context(), ".", filter, entries)
	must(t, err)
	out, err := r.Apply(t.Context(), root, plan.Diff(entries, known, plan.Scope{All: true}), known, time.Now(), nil)
	must(t, err)
	if len(out.Failed) != 1 || out.Files != 1 {
		t.Fatalf("got %+v, want one file in place and one refused", out)
	}
	st, err := os.Stat(filepath.Join(dst, "d"))
	must(t, err)
	if !st.ModTime().Equal(old) {
		t.Errorf("the directory's time is %v, want %v", st.ModTime(), old)
	}
	left, err := os.ReadDir(filepath.Join(dst, "d"))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
