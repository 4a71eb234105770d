package syncagent

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"releve/internal/tree"
	"releve/pkg/sshjump"
	"releve/test/sshworld"
	"releve/test/treecmp"
)

// TestSoak plays random histories: things happen to a source folder while the line, the disk, both servers and the
// agent itself fail; then all is well again, and source and replica must be identical. All the while somebody reads the
// replica and must never see what was not whole at the source, or more readable than there.
//
// SOAK_SEEDS=N plays N histories; SOAK_SEED=S plays the one that failed. What happens follows from the seed, how it
// interleaves does not.
func TestSoak(t *testing.T) {
	first, n := uint64(time.Now().UnixNano()%1e9), 200
	if testing.Short() {
		n = 20
	}
	if s := os.Getenv("SOAK_SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("SOAK_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		n = 1
	}
	var read, steps atomic.Int64
	t.Run("histories", func(t *testing.T) {
		for i := range n {
			seed := first + uint64(i)
			t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
				t.Parallel()
				h := newHistory(t, seed)
				r, s := h.play(t)
				read.Add(int64(r))
				steps.Add(int64(s))
			})
		}
	})
	t.Logf("%d histories from seed %d on: %d changes at the source, %d files read on the replica", n, first, steps.Load(), read.Load())
}

// history is one world and what happens in it.
type history struct {
	*agentWorld
	rng      *rand.Rand
	source   *source
	wan      *wan
	hops     []sshjump.Hop
	starts   int
	lossy    bool // the record may be lost
	fallible bool // the server's disk may fail
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	dir := t.TempDir()
	o := sshworld.Options{}
	h := &history{rng: rand.New(rand.NewPCG(seed, 2)), fallible: seed%4 != 3}
	if !h.fallible {
		if _, err := os.Stat(sshworld.SFTPServer); err == nil {
			o.Command = []string{sshworld.SFTPServer}
		}
	}
	w, err := sshworld.Start(t.Context(), filepath.Join(dir, "ssh"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	h.agentWorld = &agentWorld{ssh: w, src: filepath.Join(dir, "src"), dst: filepath.Join(w.Root, "target"), state: filepath.Join(dir, "state")}
	for _, d := range []string{h.src, h.dst, h.state} {
		must(t, os.MkdirAll(d, 0o755))
	}
	filter, err := tree.ParseFilter(nil)
	must(t, err)
	h.folder = Folder{
		Name: "webroot", Kind: Files, Source: h.src, Target: w.Remote("target"), Filter: filter,
		Settle: 20 * time.Millisecond, Keep: time.Duration(seed%2) * time.Hour, MaxDelete: 1e6, MaxDeletePercent: 100,
	}
	h.wan = newWAN(t, w.BastionAddr)
	known := filepath.Join(dir, "known_hosts")
	line := knownhosts.Line([]string{h.wan.Addr()}, w.Bastion.HostKey()) + "\n" + knownhosts.Line([]string{w.BackupName}, w.Backup.HostKey()) + "\n"
	must(t, os.WriteFile(known, []byte(line), 0o600))
	h.hops = []sshjump.Hop{
		{Name: "bastion", Address: h.wan.Addr(), User: w.BastionUser, KeyFile: w.BastionKey, KnownHosts: []string{known}},
		{Name: "backup", Address: w.BackupName, User: w.BackupUser, KeyFile: w.BackupKey, KnownHosts: []string{known}},
	}
	h.source = newSource(h.src, seed)
	h.lossy = !h.source.recklessly
	return h
}

// start starts an agent, with little patience.
func (h *history) start(t *testing.T) {
	t.Helper()
	h.starts++
	level := slog.LevelError
	if os.Getenv("SOAK_SEED") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
	quick := pace{again: 10 * time.Millisecond, fail: 20 * time.Millisecond, failMax: 300 * time.Millisecond, retry: 20 * time.Millisecond, retryMax: 100 * time.Millisecond,
		doubt: [2]time.Duration{500 * time.Millisecond, 3 * time.Second}}
	h.link = newLink(Backup{Name: "home", Hops: h.hops}, log)
	h.link.pace = quick
	h.engine = newEngine(h.folder, h.link, h.state, fmt.Sprint("t", h.starts), log)
	h.engine.pace = quick
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { h.link.run(ctx); done <- struct{}{} }()
	go func() { h.engine.run(ctx); done <- struct{}{} }()
	h.stop = func() {
		cancel()
		<-done
		<-done
		h.stop = func() {}
	}
}

// kill ends the agent so that it has no time to save anything.
func (h *history) kill(t *testing.T) {
	was := h.stateFiles(t)
	h.stop()
	for name := range h.stateFiles(t) {
		must(t, os.Remove(name))
	}
	for name, content := range was {
		must(t, os.WriteFile(name, content, 0o600))
	}
}

func (h *history) stateFiles(t *testing.T) map[string][]byte {
	files := map[string][]byte{}
	entries, err := os.ReadDir(h.state)
	must(t, err)
	for _, e := range entries {
		name := filepath.Join(h.state, e.Name())
		if content, err := os.ReadFile(name); err == nil {
			files[name] = content
		}
	}
	return files
}

func (h *history) play(t *testing.T) (read, steps int) {
	defer func() { // last, as the reader may have something to say
		if t.Failed() {
			t.Log("what happened:\n" + strings.Join(h.source.log, "\n"))
		}
	}()
	stopReading := watchReplica(t, h.source, h.dst)
	defer func() { read = stopReading() }()
	h.start(t)
	defer func() { h.stop() }()
	for range 3 + h.rng.IntN(3) {
		for range 5 + h.rng.IntN(20) {
			h.source.step()
			steps++
			if h.rng.IntN(3) == 0 {
				<-time.After(time.Duration(h.rng.IntN(15)) * time.Millisecond)
			}
			if h.rng.IntN(6) == 0 {
				h.misfortune(t)
			}
		}
		h.heal(t)
		h.stabilise(t)
		if t.Failed() {
			return 0, steps
		}
	}
	return 0, steps
}

func (h *history) note(format string, args ...any) {
	h.source.mu.Lock()
	defer h.source.mu.Unlock()
	h.source.log = append(h.source.log, time.Now().Format("05.000")+" --- "+fmt.Sprintf(format, args...))
}

// misfortune breaks something.
func (h *history) misfortune(t *testing.T) {
	k := int64(1 + h.rng.IntN(20_000))
	switch n := h.rng.IntN(12); n {
	case 0:
		h.note("slow line")
		h.wan.Break(wanFault{delay: time.Duration(h.rng.IntN(5)) * time.Millisecond, piece: 1 + h.rng.IntN(2000)})
	case 1:
		h.note("cut after %d bytes up", k)
		h.wan.Break(wanFault{cutUp: k})
	case 2:
		h.note("cut after %d bytes down", k)
		h.wan.Break(wanFault{cutDown: k})
	case 3, 4:
		h.note("answers lost")
		h.wan.Break(wanFault{mute: true})
		<-time.After(time.Duration(10+h.rng.IntN(50)) * time.Millisecond)
		h.wan.Cut()
	case 5:
		h.note("black hole")
		h.wan.Break(wanFault{hole: true})
		<-time.After(time.Duration(h.rng.IntN(50)) * time.Millisecond)
		h.wan.Cut()
	case 6:
		h.note("backup killed")
		h.ssh.Backup.Kill()
	case 7:
		h.note("bastion killed")
		h.ssh.Bastion.Kill()
	case 8, 9:
		if h.fallible {
			errno := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EACCES}[h.rng.IntN(3)]
			op := []string{"", "open", "write", "posix-rename", "mkdir", "hardlink", "lsetstat", "fsetstat", "symlink", "close", "setstat"}[h.rng.IntN(11)]
			odds := 1 + h.rng.Uint64N(4)
			h.note("%v on %q 1:%d", errno, op, odds)
			var n atomic.Uint64
			h.ssh.Backup.SetFault(func(did, path string) error {
				// The watchdog's word is another story: while it cannot be read, nothing is pushed, and it is not read often.
				if !strings.HasSuffix(path, "watchdog.json") && (op == "" || did == op) && n.Add(1)%odds == 0 {
					return errno
				}
				return nil
			})
		}
	case 10:
		h.note("agent stopped")
		h.stop()
		h.betweenRuns(t)
	case 11:
		h.note("agent killed")
		h.kill(t)
		h.betweenRuns(t)
	}
}

// betweenRuns is what happens while no agent runs.
func (h *history) betweenRuns(t *testing.T) {
	for range h.rng.IntN(4) {
		h.source.step()
	}
	if h.lossy {
		record := h.engine.memory.record
		switch content, err := os.ReadFile(record); {
		case err != nil:
		case h.rng.IntN(3) == 0:
			h.note("record lost")
			must(t, os.Remove(record))
		case h.rng.IntN(3) == 0 && len(content) > 0:
			h.note("record damaged")
			content[h.rng.IntN(len(content))] ^= 1
			must(t, os.WriteFile(record, content[:len(content)-h.rng.IntN(2)], 0o600))
		}
	}
	h.start(t)
}

func (h *history) heal(t *testing.T) {
	h.note("all is well")
	h.ssh.Backup.SetFault(nil)
	if h.rng.IntN(2) == 0 {
		h.wan.Cut()
	} else {
		h.wan.Break(wanFault{})
	}
}

// stabilise waits until both are identical, and says so if they do not become it.
func (h *history) stabilise(t *testing.T) {
	t.Helper()
	// The patience is counted in looks and not in seconds: on a machine that has no time for us they come late, and what
	// we wait for has no more time than we have.
	const patience = 8000
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	var diffs []string
	for looks := 0; ; looks++ {
		s := h.engine.snapshot()
		if s.state == stateHeld {
			h.engine.approve() // an emptied folder is believed when a human says so
		}
		if s.state == stateInSync && s.pending == 0 {
			if diffs = h.compare(); len(diffs) == 0 {
				return
			}
		}
		<-tick.C
		if looks == patience || time.Since(began) > 10*time.Minute {
			t.Errorf("not identical after %v: state %s, pending %d, err %v, problems %q, held %v\n%s", time.Since(began).Round(time.Second), s.state, s.pending, s.err, s.problems, s.held,
				strings.Join(append(diffs, h.compare()...), "\n"))
			return
		}
	}
}

// compare lists how the replica differs, and what was left lying about on it.
func (h *history) compare() []string {
	diffs, err := treecmp.Compare(h.src, h.dst, func(name string) bool { return strings.HasPrefix(name, ".releve") })
	if err != nil {
		return []string{err.Error()}
	}
	var bad []string
	for _, d := range diffs {
		if p, err := strconv.QuotedPrefix(d); err == nil {
			p, _ = strconv.Unquote(p)
			if info, err := os.Lstat(filepath.Join(h.src, p)); err == nil && info.Mode().Type() == fs.ModeNamedPipe && strings.Contains(d, ": only in "+h.src) {
				continue // never replicated
			}
		}
		bad = append(bad, d)
	}
	_ = filepath.WalkDir(h.dst, func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), ".releve-tmp-") {
			bad = append(bad, "left behind: "+name)
		}
		return nil
	})
	return bad
}
