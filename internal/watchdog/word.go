package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/failover"
	"releve/internal/pairing"
	"releve/internal/report"
)

// wordEvery is the pause between two words to the agent, which takes two minutes of silence for a sign.
const wordEvery = 10 * time.Second

// word tells the agent, through the control folder, who serves each site: the agent pushes nothing while the standby
// does (S8).
type word struct {
	control string // "" = there is no agent
	log     *slog.Logger
	now     func() time.Time
	news    chan struct{}
	earlier map[string]pairing.Who // what was said of each site before this start

	mu  sync.Mutex
	err error // why it could not be said
}

// newWord remembers what was said last: a site whose zone has not been read since then is still served by whoever
// served it. What was said and cannot be read any more may have been that the standby serves.
func newWord(control string, sites []Site, log *slog.Logger, now func() time.Time) *word {
	w := &word{control: control, log: log, now: now, news: make(chan struct{}, 1), earlier: map[string]pairing.Who{}}
	if control == "" {
		return w
	}
	said, err := pairing.ReadWatchdog(control)
	switch {
	case err == nil:
		for _, s := range said.Sites {
			w.earlier[s.Name] = s.Serving
		}
	case !errors.Is(err, fs.ErrNotExist):
		for _, s := range sites {
			w.earlier[s.Name] = pairing.Standby
		}
	}
	return w
}

// standbyServes reports whether visitors may be led to the standby: from the moment at which something may be written
// to that end until the zone is known to lead to prod again.
func standbyServes(st failover.State) bool {
	return st.Goal == failover.Standby || st.Serving == failover.Standby || st.Unsettled && !st.Prepares()
}

// leaveWord leaves word for the agent until ctx ends.
func (w *watchdog) leaveWord(ctx context.Context) error {
	if w.word.control == "" {
		<-ctx.Done()
		return nil
	}
	for {
		w.word.leave(w.say())
		if !wait(ctx, wordEvery, w.word.news) {
			return nil
		}
	}
}

// say is what there is to say of each site.
func (w *watchdog) say() pairing.Watchdog {
	now := w.now()
	out := pairing.Watchdog{Time: now}
	for _, s := range w.sites {
		v := s.get()
		said := pairing.Site{Name: s.cfg.Name, Serving: pairing.Prod, Term: v.State.Term}
		switch {
		case standbyServes(v.State), !v.State.ZoneSeen && w.word.earlier[s.cfg.Name] == pairing.Standby:
			said.Serving = pairing.Standby
		}
		if l := v.State.Last; l != nil {
			since := l.Decided
			if since.After(now) {
				since = now
			}
			said.Since = &since
		}
		if end := v.Answer.NotAfter; !end.IsZero() {
			left := int(end.Sub(now).Hours() / 24)
			said.CertificateDays = &left
		}
		out.Sites = append(out.Sites, said)
	}
	return out
}

// leave writes it.
func (w *word) leave(said pairing.Watchdog) {
	var st unix.Statfs_t
	err := unix.Statfs(w.control, &st)
	if err == nil {
		said.DiskFree = st.Bavail * uint64(st.Bsize) //nolint:gosec,unconvert // block sizes are positive, and narrower on some architectures
		err = pairing.WriteWatchdog(w.control, said)
	} else {
		err = fmt.Errorf("look at %s: %w", w.control, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && w.err == nil:
		w.log.Error("no word left for the agent", "error", err)
	case err == nil && w.err != nil:
		w.log.Info("word left for the agent again")
	}
	w.err = err
}

// problem is what the owner should know.
func (w *word) problem(bad func(report.State, string, ...any)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		bad(report.Degraded, "syncagent cannot be told who serves, and would go on pushing while the standby does: %v; is the disk mounted, and may this user write to it?", w.err)
	}
}
