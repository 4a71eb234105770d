package syncagent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/pairing"
	"releve/internal/tree"
	"releve/pkg/sshjump"
	"releve/test/sshworld"
	"releve/test/treecmp"
)

// agentWorld is a source folder, a bastion and a backup in this process, and an engine between them.
type agentWorld struct {
	ssh      *sshworld.World
	src, dst string
	control  string // the control folder, on the backup
	state    string
	folder   Folder
	link     *link
	engine   *engine
	hops     []sshjump.Hop // where they are not the world's own
	pace     pace          // the engine's, where that is not the normal one
	beat     func()        // the engine's, if not nil
	stop     func()
}

func newAgentWorld(t *testing.T) *agentWorld {
	t.Helper()
	dir := t.TempDir()
	w, err := sshworld.Start(t.Context(), filepath.Join(dir, "ssh"), sshworld.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	a := &agentWorld{ssh: w, src: filepath.Join(dir, "src"), dst: filepath.Join(w.Root, "target"), control: filepath.Join(w.Root, "control"), state: filepath.Join(dir, "state")}
	for _, d := range []string{a.src, a.dst, a.control, a.state} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	filter, err := tree.ParseFilter(nil)
	if err != nil {
		t.Fatal(err)
	}
	a.folder = Folder{
		Name: "webroot", Kind: Files, Source: a.src, Target: w.Remote("target"), Filter: filter,
		Settle: 50 * time.Millisecond, Keep: time.Hour, MaxDelete: 100, MaxDeletePercent: 20,
	}
	return a
}

func (a *agentWorld) start(t *testing.T) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hops := a.hops
	if hops == nil {
		hops = []sshjump.Hop{
			{Name: "bastion", Address: a.ssh.BastionAddr, User: a.ssh.BastionUser, KeyFile: a.ssh.BastionKey, KnownHosts: []string{a.ssh.KnownHosts}},
			{Name: "backup", Address: a.ssh.BackupName, User: a.ssh.BackupUser, KeyFile: a.ssh.BackupKey, KnownHosts: []string{a.ssh.KnownHosts}},
		}
	}
	a.link = newLink(Backup{Name: "home", Hops: hops, Control: a.ssh.Remote("control")}, log)
	a.engine = newEngine(a.folder, a.link, a.state, fmt.Sprintf("t%d", time.Now().UnixNano()%1e6), log)
	if a.pace != (pace{}) {
		a.engine.pace = a.pace
	}
	if a.beat != nil {
		a.engine.beat = a.beat
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.link.word.pace = 50 * time.Millisecond
	a.link.word.folders = func(now time.Time) []pairing.Folder { return []pairing.Folder{a.engine.snapshot().word(now)} }
	done := make(chan struct{}, 3)
	go func() { a.link.talk(ctx); done <- struct{}{} }()
	go func() { a.link.run(ctx); done <- struct{}{} }()
	go func() { a.engine.run(ctx); done <- struct{}{} }()
	a.stop = func() {
		cancel()
		<-done
		<-done
		<-done
		a.stop = func() {}
	}
	t.Cleanup(func() { a.stop() })
}

// eventually waits until ok holds. The wait polls: what it looks at is another process's file system, in principle.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (a *agentWorld) differences(t *testing.T) []string {
	t.Helper()
	d, err := treecmp.Compare(a.src, a.dst, func(name string) bool { return strings.HasPrefix(name, ".releve") })
	if err != nil {
		return []string{err.Error()}
	}
	return d
}

func (a *agentWorld) identical(t *testing.T) {
	t.Helper()
	var last []string
	defer func() {
		if t.Failed() {
			t.Log(strings.Join(last, "\n"))
		}
	}()
	eventually(t, "the replica is identical and said to be in sync", func() bool {
		last = a.differences(t)
		return len(last) == 0 && a.engine.snapshot().state == stateInSync
	})
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEngineFollowsChanges(t *testing.T) {
	a := newAgentWorld(t)
	write(t, filepath.Join(a.src, "index.html"), "one")
	write(t, filepath.Join(a.src, "css/site.css"), "two")
	a.start(t)
	a.identical(t)

	steps := []func(){
		func() { write(t, filepath.Join(a.src, "new/deep/er.txt"), "x") },
		func() { write(t, filepath.Join(a.src, "index.html"), "changed") },
		func() { must(t, os.Truncate(filepath.Join(a.src, "index.html"), 0)) },
		func() { must(t, os.Chmod(filepath.Join(a.src, "css"), 0o700)) },
		func() { must(t, os.Symlink("css/site.css", filepath.Join(a.src, "link"))) },
		func() { must(t, os.Chtimes(filepath.Join(a.src, "css/site.css"), time.Now(), time.Unix(1e9, 0))) },
		func() { must(t, os.RemoveAll(filepath.Join(a.src, "link"))) },
		func() {
			must(t, os.Remove(filepath.Join(a.src, "index.html")))
			write(t, filepath.Join(a.src, "index.html/in"), "a directory now")
		},
		func() { must(t, os.Rename(filepath.Join(a.src, "css"), filepath.Join(a.src, "style"))) },
		func() { write(t, filepath.Join(a.src, "style/site.css"), "after the rename") },
	}
	for i, step := range steps {
		step()
		a.identical(t)
		t.Logf("step %d done", i)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestEngineSurvivesTheBackup: the backup is killed, frozen and refused in turn while the source changes.
func TestEngineSurvivesTheBackup(t *testing.T) {
	a := newAgentWorld(t)
	for i := range 200 {
		write(t, filepath.Join(a.src, fmt.Sprintf("d%d/f%d", i%7, i)), strings.Repeat("x", i*100))
	}
	a.start(t)
	a.identical(t)
	for i := range 2 {
		a.ssh.Backup.Kill()
		write(t, filepath.Join(a.src, fmt.Sprintf("after%d", i)), "kill")
		a.identical(t)
		a.ssh.Bastion.Kill()
		write(t, filepath.Join(a.src, fmt.Sprintf("after%d", i)), "again")
		a.identical(t)
	}
}

// TestEngineHoldsMassDeletion (S5).
func TestEngineHoldsMassDeletion(t *testing.T) {
	a := newAgentWorld(t)
	for i := range 300 {
		write(t, filepath.Join(a.src, fmt.Sprintf("d/f%d", i)), "x")
	}
	a.start(t)
	a.identical(t)
	must(t, os.RemoveAll(filepath.Join(a.src, "d")))
	write(t, filepath.Join(a.src, "still"), "pushed")
	eventually(t, "held", func() bool { return a.engine.snapshot().state == stateHeld })
	eventually(t, "pushes go on", func() bool {
		_, err := os.Stat(filepath.Join(a.dst, "still"))
		return err == nil
	})
	if _, err := os.Stat(filepath.Join(a.dst, "d/f299")); err != nil {
		t.Fatalf("deleted without being asked: %v", err)
	}
	if held := a.engine.approve(); len(held) == 0 {
		t.Fatal("nothing to approve")
	}
	a.identical(t)
}

// TestEngineRestart: what changed while the agent was down is found, same size and same second included.
func TestEngineRestart(t *testing.T) {
	a := newAgentWorld(t)
	name := filepath.Join(a.src, "same")
	when := time.Unix(1_700_000_000, 1)
	write(t, name, "old")
	must(t, os.Chtimes(name, when, when))
	a.start(t)
	a.identical(t)
	a.stop()
	write(t, name, "new")
	must(t, os.Chtimes(name, when, when.Add(time.Nanosecond)))
	a.start(t)
	a.identical(t)
}
