package syncagent

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dustin/go-humanize"

	"releve/internal/notify"
	"releve/internal/report"
)

// isHeld reports whether the folder waits because the standby serves, or may.
func (s folderStatus) isHeld() bool {
	_, held := errors.AsType[*heldError](s.err)
	return held && s.state == stateWaiting
}

// report says in b what is known of the watchdog, and what is wrong with the word between it and us.
func (w *word) report(b *backupReport, now time.Time, worse func(report.State, string, ...any)) {
	h, unsaid := w.state()
	b.Serving, b.DiskFree = h.serving(), h.word.DiskFree
	if h.known() {
		b.Watchdog = timeOrNil(h.news)
	}
	switch why := h.holds(now); {
	case why != nil:
		b.Holding = why.Error()
		worse(report.Degraded, "On %s, %v.", b.Name, why)
	case b.Connected && h.quiet(now) > silentAfter:
		worse(report.Degraded, "The watchdog on %s has said nothing for %v: if prod died now, it might not take over.", b.Name, h.quiet(now).Round(time.Minute))
	}
	if unsaid != nil && b.Connected {
		worse(report.Degraded, "The watchdog on %s cannot know how old the replicas are: %v.", b.Name, unsaid)
	}
}

// conditions tells the owner of a watchdog that is not heard, or not understood, while there is a connection.
func (w *word) conditions(backup string, now time.Time) []condition {
	h, _ := w.state()
	quiet := h.quiet(now)
	if quiet <= silentAfter {
		return nil
	}
	text := fmt.Sprintf("%s on %s has not changed for %v, and the watchdog there writes it every 10 s.", h.file, backup, quiet.Round(time.Minute))
	if h.err != nil {
		text = fmt.Sprintf("For %v now the watchdog's word on %s cannot be understood: %v.", quiet.Round(time.Minute), backup, h.err)
	}
	consequence := "If prod died now, nothing might take over. Is it running? On the backup: systemctl status watchdog"
	if why := h.holds(now); why != nil {
		consequence = fmt.Sprintf("NOTHING IS REPLICATED: %v.", why)
	}
	return []condition{{
		Event: EventWatchdogSilent, About: backup, Severity: notify.Warning,
		Subject: fmt.Sprintf("The watchdog on %s is silent", backup), Text: text + "\n" + consequence,
	}}
}

// watchdog is what `check` says of the watchdog's word.
func (c *checker) watchdog(b Backup, s *session) {
	const what = "watchdog's word"
	w := newWord(b, slog.New(slog.DiscardHandler), normalPace().word)
	if err := w.listen(c.app.ctx, s); err != nil {
		c.fail(what, err, "")
		return
	}
	h, _ := w.state()
	switch why := h.holds(time.Now()); {
	case h.err != nil:
		c.fail(what, why, "")
	case why != nil:
		c.pass(what, "%v", why)
	case !h.known():
		c.pass(what, "%s is not there: no watchdog, or it has not run yet", w.file())
	default:
		c.pass(what, "%s serves; %s free on its disk", h.serving(), humanize.IBytes(h.word.DiskFree))
	}
}
