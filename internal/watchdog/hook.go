package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"releve/internal/notify"
	"releve/internal/pairing"
	"releve/internal/report"
)

const (
	hookPath   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // where a hook finds the programs it runs
	hookGrace  = time.Second                                                    // for who still holds a hook's output open when it is over
	hookOutput = 1000                                                           // bytes that are kept of the output
)

// hookRhythm is how often and how long.
type hookRhythm struct {
	look             time.Duration // between two looks at the agent's word
	timeout          time.Duration // of a run; it is killed then, and its children
	retry, retryMost time.Duration // after a failure, doubled each time
}

var hookPace = hookRhythm{look: 2 * time.Second, timeout: time.Minute, retry: 10 * time.Second, retryMost: 5 * time.Minute}

// hooks runs the commands of [[replica.folder]], one at a time, after their folder changed: once for each time that the
// agent says so, and again if it failed. It would rather run a hook once too often than once too few: a change may have
// arrived of which the agent, cut off or started anew, could not tell.
type hooks struct {
	control string
	folders []ReplicaFolder // those that have a hook
	file    string          // what past is kept in
	rhythm  hookRhythm
	now     func() time.Time
	alarms  *alarms
	log     *slog.Logger
	retries map[string]hookRetry // of those that failed last; only run uses it

	mu   sync.Mutex
	past map[string]hookPast // by folder
}

// hookPast is what is remembered of a hook over a restart.
type hookPast struct {
	Ran time.Time `json:"ran"` // when it last ended
	Err string    `json:"error,omitempty"`
	// What the agent had said of the folder when the hook last succeeded. The times are by prod's clock, and are compared
	// with nothing but each other.
	LastChange  *time.Time `json:"last_change"`
	InSyncSince *time.Time `json:"in_sync_since"`
}

type hookRetry struct {
	at    time.Time
	pause time.Duration
}

func newHooks(cfg Replica, st store, rhythm hookRhythm, now func() time.Time, alarms *alarms, log *slog.Logger) *hooks {
	h := &hooks{
		control: cfg.Control, file: st.hooksPath(), rhythm: rhythm, now: now, alarms: alarms, log: log,
		retries: map[string]hookRetry{}, past: map[string]hookPast{},
	}
	for _, f := range cfg.Folders {
		if len(f.Hook) > 0 {
			h.folders = append(h.folders, f)
		}
	}
	loadJSON(h.file, &h.past)
	if h.past == nil { // the file said null
		h.past = map[string]hookPast{}
	}
	return h
}

// run runs what is due until ctx ends.
func (h *hooks) run(ctx context.Context) error {
	if h.control == "" || len(h.folders) == 0 {
		<-ctx.Done()
		return nil
	}
	for {
		for _, f := range h.folders {
			h.look(ctx, f)
		}
		if !wait(ctx, h.rhythm.look, nil) {
			return nil
		}
	}
}

// look runs the hook of one folder if it is due. The word is read for each: the hook before may have taken a minute.
func (h *hooks) look(ctx context.Context, f ReplicaFolder) {
	if ctx.Err() != nil || time.Now().Before(h.retries[f.Name].at) {
		return
	}
	word := readAgentWord(h.control)
	if word.Err != nil {
		return // nothing is known, so nothing has changed
	}
	said, known := word.Folder(f.Name)
	past := h.get(f.Name)
	if !known || !hookDue(word.Agent, said, past) {
		return
	}
	began := time.Now()
	output, err := runHook(ctx, f, h.rhythm.timeout)
	if ctx.Err() != nil {
		return // we end, and it with us; the next start runs it again
	}
	log := h.log.With("folder", f.Name, "took", time.Since(began).Round(time.Millisecond))
	failedBefore := past.Err != ""
	past.Ran, past.Err = h.now(), ""
	if err != nil {
		past.Err = strings.TrimSuffix(err.Error()+": "+output, ": ")
		h.set(f.Name, past)
		pause := min(max(2*h.retries[f.Name].pause, h.rhythm.retry), h.rhythm.retryMost)
		h.retries[f.Name] = hookRetry{time.Now().Add(pause), pause}
		log.Error("hook failed", "error", err, "output", output, "again_in", pause)
		h.alarms.raise(alarmHook+f.Name, hookMessage(f, past.Err, h.rhythm.retryMost))
		return
	}
	past.LastChange, past.InSyncSince = later(said.LastChange, past.LastChange), later(said.InSyncSince, past.InSyncSince)
	h.set(f.Name, past)
	delete(h.retries, f.Name)
	log.Info("hook ran", "after_failure", failedBefore, "output", output)
	h.alarms.clear(alarmHook + f.Name)
}

const alarmHook = "hook-"

// hookDue reports whether something may have arrived since the hook last succeeded, and is there whole: in the middle
// of a push the folder is no state that prod was ever in. A push that began since the word was written is not seen; its
// end is news, and the hook runs again.
//
// The end of a push renews in_sync_since, and so does the comparison after a connection that was lost, perhaps with the
// reply to a push that had arrived; of deletions that are held last_change alone is left. Either says enough by being
// another than before. It need not be a later one, for prod's clock may have been set back.
func hookDue(a pairing.Agent, said pairing.Folder, past hookPast) bool {
	if said.State != pairing.InSync && said.State != pairing.Held {
		return false
	}
	news := func(t, done *time.Time) bool {
		// The agent's "now" stands for a time that is in the future since its clock was set back: with each writing
		// another one, it would be news for ever.
		return t != nil && !t.Equal(a.Time) && (done == nil || !t.Equal(*done))
	}
	return news(said.LastChange, past.LastChange) || news(said.InSyncSince, past.InSyncSince)
}

// later is what is to be remembered: what was said, or, if nothing was, what was said before.
func later(said, before *time.Time) *time.Time {
	if said != nil {
		return said
	}
	return before
}

func (h *hooks) get(folder string) hookPast {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.past[folder]
}

func (h *hooks) set(folder string, p hookPast) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past[folder] = p
	if err := saveJSON(h.file, h.past); err != nil {
		h.log.Error("what hooks ran for is not on disk; they will run again after a restart", "error", err)
	}
}

// runHook runs a hook to its end, and returns what it said on one line. Nothing of our environment is in its own.
func runHook(ctx context.Context, f ReplicaFolder, timeout time.Duration) (output string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("killed after %s", short(timeout)))
	defer cancel()
	cmd := exec.CommandContext(ctx, f.Hook[0], f.Hook[1:]...)
	cmd.Env = []string{"PATH=" + hookPath, "RELEVE_FOLDER=" + f.Name, "RELEVE_PATH=" + f.Path}
	cmd.Dir = "/"
	var out hookHead
	cmd.Stdout, cmd.Stderr = &out, &out
	// A group of its own, so that its children end with it; and one that holds the pipes open must not keep us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = hookGrace
	err = cmd.Run()
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it is over, and was fine; what it left running is its own affair
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w", f.Hook[0], err)
	}
	return out.line(), err
}

// hookHead keeps the beginning of what is written to it.
type hookHead struct{ text []byte }

func (h *hookHead) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), hookOutput-len(h.text))]...)
	return len(p), nil
}

// line is the text on one line, without control characters.
func (h *hookHead) line() string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(h.text), "?"))
	return strings.Join(strings.Fields(text), " ")
}

func hookMessage(f ReplicaFolder, why string, most time.Duration) notify.Message {
	return notify.Message{
		Event:    EventHookFailed,
		About:    f.Name,
		Subject:  fmt.Sprintf("The hook of %s failed: what arrived may not be in use", f.Name),
		Text:     fmt.Sprintf("%s.\nIt is tried again, at least every %s, until it succeeds. Nothing to do once watchdog status shows it ✓.", why, short(most)),
		Severity: notify.Warning,
	}
}

// hookStatus is a hook as `status` shows it.
type hookStatus struct {
	Folder  string     `json:"folder"`
	LastRun *time.Time `json:"last_run"`
	OK      bool       `json:"ok"` // false before the first run, too
	Error   string     `json:"error,omitempty"`
}

func (h *hooks) status() []hookStatus {
	out := []hookStatus{}
	for _, f := range h.folders {
		p := h.get(f.Name)
		out = append(out, hookStatus{Folder: f.Name, LastRun: timeOrNil(p.Ran), OK: !p.Ran.IsZero() && p.Err == "", Error: p.Err})
	}
	return out
}

// text is the status in words.
func (s hookStatus) text(now time.Time) string {
	switch {
	case s.LastRun == nil:
		return "not run yet"
	case s.OK:
		return fmt.Sprintf("✓ ran %s ago", short(now.Sub(*s.LastRun)))
	}
	return fmt.Sprintf("✗ failed %s ago", short(now.Sub(*s.LastRun)))
}

// problem is what the owner should know.
func (s hookStatus) problem(bad func(report.State, string, ...any)) {
	if s.Error != "" {
		bad(report.Degraded, "the hook of %s failed: %s", s.Folder, s.Error)
	}
}
