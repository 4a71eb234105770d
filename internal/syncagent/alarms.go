package syncagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"releve/internal/notify"
	"releve/internal/push"
	"releve/internal/tree"
)

const (
	// alarmEvery is the pause between two looks at what the owner might have to know.
	alarmEvery = 5 * time.Second
	// unreachableAfter is how long the backup may be out of reach before the owner is told: a router that restarts or
	// a provider that renews an address takes a few minutes.
	unreachableAfter = 10 * time.Minute
	// certificateDays is how long before its end the standby's certificate is complained about: Let's Encrypt's are
	// renewed 30 days before theirs.
	certificateDays = 14
)

// alarms tells the owner, once each, of what begins and ends. It looks at conditions rather than at events, so that
// nothing is lost between two looks that still matters, and what passes by itself in between troubles nobody.
type alarms struct {
	*notify.Alarms
	agent *agent
}

// condition is something the owner has to know while it lasts.
type condition struct {
	Event    string
	About    string // distinguishes conditions of one event
	Subject  string
	Text     string
	Severity notify.Severity
}

func newAlarms(g *agent) *alarms {
	book, lost := notify.OpenAlarms(filepath.Join(g.cfg.StateDir, "alarms.json"), g.outbox.Post)
	if lost != nil {
		g.app.log.Warn("forgetting what was told; it may be told again", "err", lost)
	}
	return &alarms{book, g}
}

func (a *alarms) run(ctx context.Context) error {
	for sleep(ctx, alarmEvery) {
		a.look(time.Now())
	}
	return nil
}

// look tells of each condition that has begun or ended since the last look.
func (a *alarms) look(now time.Time) {
	log := a.agent.app.log
	present := map[string]bool{}
	for _, c := range a.agent.conditions(now) {
		key := c.Event + " " + c.About
		present[key] = true
		told, err := a.Raise(key, notify.Message{Event: c.Event, About: c.About, Subject: c.Subject, Text: c.Text, Severity: c.Severity}, now)
		if told {
			log.Warn("telling the owner", "event", c.Event, "subject", c.Subject)
		}
		if told && err != nil { // it is tried again with each look, which need not be said each time
			log.Error("could not keep a message on disk", "event", c.Event, "err", err)
		}
	}
	for _, m := range a.Lasting() {
		key := m.Event + " " + m.About
		if present[key] || a.agent.undecided(m.Event, m.About) {
			continue
		}
		if err := a.over(m, now); err != nil {
			log.Error("could not keep a message on disk", "event", m.Event, "err", err)
		}
		if _, _, err := a.Clear(key); err != nil {
			log.Error("could not save which alarms last", "err", err)
		}
	}
}

// over tells that m is, where that is worth a message.
func (a *alarms) over(m notify.Message, now time.Time) error {
	event, ok := map[string]string{EventStandbyDown: EventStandbyUp, EventBackupUnreachable: EventBackupBack}[m.Event]
	if !ok {
		return nil
	}
	subject := "Resolved: " + m.Subject
	a.agent.app.log.Warn("telling the owner", "event", event, "subject", subject)
	return a.agent.outbox.Post(notify.Message{
		Event: event, Key: m.Key + " over", About: m.About, Subject: subject, Time: now, Severity: notify.Info,
		Text: fmt.Sprintf("This is over since %s; it had lasted %v.\n\n%s", clock(now), now.Sub(m.Time).Round(time.Second), m.Text),
	})
}

// undecided reports whether it cannot be told yet if a condition still holds: after a start everything has to be looked
// at first.
func (g *agent) undecided(event, about string) bool {
	for _, l := range g.links {
		if event == EventBackupUnreachable && about == l.backup.Name {
			connected, _, _ := l.state()
			return !connected
		}
		if event == EventWatchdogSilent && about == l.backup.Name {
			connected, _, _ := l.state()
			return !connected // or it has been listened to
		}
	}
	for _, s := range g.standby {
		if (event == EventStandbyDown || event == EventCertificate) && about == s.backup.Name {
			verdict, _ := s.report()
			return verdict == standbyUnknown
		}
	}
	for _, e := range g.engines {
		if s := e.snapshot(); about == s.where() {
			return s.state == stateWaiting || s.state == stateSyncing
		}
	}
	return false
}

// conditions is everything that is wrong at the time now and worth a message.
func (g *agent) conditions(now time.Time) []condition {
	var all []condition
	for _, l := range g.links {
		connected, since, err := l.state()
		if !connected && now.Sub(since) > unreachableAfter {
			all = append(all, condition{
				Event: EventBackupUnreachable, About: l.backup.Name, Severity: notify.Warning,
				Subject: fmt.Sprintf("The backup %s is out of reach", l.backup.Name),
				Text: fmt.Sprintf("Nothing can be replicated to %s since %s: %v.\nThe agent keeps trying, and catches up by itself.",
					l.backup.Name, clock(since), err),
			})
		}
		if connected {
			all = append(all, l.word.conditions(l.backup.Name, now)...)
		}
	}
	for _, s := range g.standby {
		all = append(all, s.conditions(now)...)
	}
	for _, e := range g.engines {
		all = append(all, e.conditions(now)...)
	}
	return all
}

func (s *standby) conditions(now time.Time) []condition {
	verdict, why := s.report()
	if verdict == standbyDown {
		return []condition{{
			Event: EventStandbyDown, About: s.backup.Name, Severity: notify.Warning,
			Subject: fmt.Sprintf("The standby on %s does not answer", s.backup.Name),
			Text: fmt.Sprintf("Seen from prod, %s at %s does not answer as it should: %s.\nIf prod died now, the standby could not take over. "+
				"Look at its web server, its certificate and the port forwarding at home.", s.target.URL, s.target.Address, why),
		}}
	}
	end := s.certificate()
	if left := end.Sub(now); verdict == standbyUp && !end.IsZero() && left < certificateDays*24*time.Hour {
		return []condition{{
			Event: EventCertificate, About: s.backup.Name, Severity: notify.Warning,
			Subject: fmt.Sprintf("The standby's certificate ends on %s", end.Format("2 January")),
			Text: fmt.Sprintf("The certificate that %s serves for %s ends on %s. Has its web server been reloaded since the last renewal?",
				s.backup.Name, s.target.URL.Host, end.Format(time.RFC1123Z)),
		}}
	}
	return nil
}

func (e *engine) conditions(now time.Time) []condition {
	s := e.snapshot()
	var all []condition
	where := s.where()
	if len(s.held) > 0 && now.Sub(s.heldAt) >= alarmEvery { // not while a large folder is still being deleted
		lines := make([]string, 0, len(s.held))
		for _, d := range s.held[:min(len(s.held), 20)] {
			lines = append(lines, fmt.Sprintf("  %s (%s)", printable(d.Path), entries(d.Count)))
		}
		all = append(all, condition{
			Event: EventHeld, About: where, Severity: notify.Warning,
			Subject: fmt.Sprintf("%s held in %s", deletions(heldEntries(s.held)), where),
			Text: fmt.Sprintf("These are gone from the source and still on the replica, because of %s:\n%s\n\nIf that is right: syncagent approve %s\n"+
				"If not: restore the files. Everything else is being replicated.", s.heldWhy, strings.Join(lines, "\n"), s.name),
		})
	}
	switch {
	case s.err == nil:
	case errors.Is(s.err, tree.ErrRootChanged), errors.Is(s.err, os.ErrNotExist) && !errors.Is(s.err, push.ErrStale):
		all = append(all, condition{
			Event: EventSourceGone, About: where, Severity: notify.Warning,
			Subject: fmt.Sprintf("%s cannot be read", where),
			Text:    fmt.Sprintf("The folder cannot be replicated: %v.\nNothing is deleted on the replica because of this.", s.err),
		})
	case errors.Is(s.err, push.ErrNoSpace):
		all = append(all, e.diskFull(where, s.err.Error()))
	}
	for _, p := range s.problems {
		if strings.Contains(p, push.ErrNoSpace.Error()) {
			all = append(all, e.diskFull(where, p))
			break
		}
	}
	return all
}

func (e *engine) diskFull(where, detail string) condition {
	return condition{
		Event: EventReplicaFull, About: where, Severity: notify.Warning,
		Subject: fmt.Sprintf("The backup's disk is full: %s is not complete", where),
		Text: fmt.Sprintf("%s.\nWhat is on the replica stays whole; new content waits until there is room. The trash (%s/.releve-trash on the backup) may be emptied.",
			detail, e.folder.Target),
	}
}

// where names a folder on a backup, for people.
func (s folderStatus) where() string { return s.name + " on " + s.backup }
