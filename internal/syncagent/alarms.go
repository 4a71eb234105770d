package syncagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

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
//
// What is open is kept in a file: a restart neither repeats an alarm nor forgets to say that it is over.
type alarms struct {
	agent *agent
	host  string
	file  string
	open  map[string]condition // by event and key
}

// condition is something the owner has to know while it lasts.
type condition struct {
	Event    string
	Key      string // distinguishes conditions of one event
	Subject  string
	Text     string
	Over     string // the event when it ends, "" for none
	Since    time.Time
	Severity notify.Severity
}

func newAlarms(g *agent) (*alarms, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "prod"
	}
	a := &alarms{agent: g, host: host, file: filepath.Join(g.cfg.StateDir, "alarms.json"), open: map[string]condition{}}
	text, err := os.ReadFile(a.file)
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	if err := json.Unmarshal(text, &a.open); err != nil {
		// Worth no refusal to start: the worst is an alarm told twice.
		g.app.log.Warn("forgetting which alarms are open", "file", a.file, "err", err)
		a.open = map[string]condition{}
	}
	return a, nil
}

func (a *alarms) run(ctx context.Context) error {
	for sleep(ctx, alarmEvery) {
		a.look(time.Now())
	}
	return nil
}

// look posts a message for each condition that has begun or ended since the last look.
func (a *alarms) look(now time.Time) {
	present := map[string]condition{}
	changed := false
	for _, c := range a.agent.conditions(now) {
		key := c.Event + " " + c.Key
		before, known := a.open[key]
		c.Since = now
		if known {
			c.Since = before.Since
		}
		present[key] = c
		if !known {
			changed = true
			a.post(c.Event, c, c.Subject, c.Text, now)
		}
	}
	for key, c := range a.open {
		if _, still := present[key]; still {
			continue
		}
		if a.agent.undecided(c) {
			present[key] = c
			continue
		}
		changed = true
		if c.Over != "" {
			c.Severity = notify.Info
			a.post(c.Over, c, "Resolved: "+c.Subject, fmt.Sprintf("This is over since %s; it had lasted %v.\n\n%s",
				clock(now), now.Sub(c.Since).Round(time.Second), c.Text), now)
		}
	}
	a.open = present
	if changed {
		a.save()
	}
}

func (a *alarms) save() {
	text, err := json.MarshalIndent(a.open, "", "\t")
	if err == nil {
		err = renameio.WriteFile(a.file, text, 0o600)
	}
	if err != nil {
		a.agent.app.log.Warn("could not save which alarms are open", "err", err)
	}
}

func (a *alarms) post(event string, c condition, subject, text string, now time.Time) {
	m := notify.Message{
		Event: event, Key: fmt.Sprintf("%s %s %d", event, c.Key, c.Since.UnixNano()),
		Subject: subject, Text: fmt.Sprintf("%s\n\nsyncagent on %s, %s", text, a.host, now.Format(time.RFC1123Z)),
		Time: now, Severity: c.Severity,
	}
	a.agent.app.log.Warn("telling the owner", "event", event, "subject", subject)
	if err := a.agent.outbox.Post(m); err != nil {
		a.agent.app.log.Error("could not post a message", "event", event, "err", err)
	}
}

// undecided reports whether it cannot be told yet if c still holds: after a start everything has to be looked at first.
func (g *agent) undecided(c condition) bool {
	for _, l := range g.links {
		if c.Event == EventBackupUnreachable && c.Key == l.backup.Name {
			connected, _, _ := l.state()
			return !connected
		}
		if c.Event == EventWatchdogSilent && c.Key == l.backup.Name {
			connected, _, _ := l.state()
			return !connected // or it has been listened to
		}
	}
	for _, s := range g.standby {
		if (c.Event == EventStandbyDown || c.Event == EventCertificate) && c.Key == s.backup.Name {
			verdict, _ := s.report()
			return verdict == standbyUnknown
		}
	}
	for _, e := range g.engines {
		if s := e.snapshot(); c.Key == s.where() {
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
				Event: EventBackupUnreachable, Key: l.backup.Name, Over: EventBackupBack, Severity: notify.Warning,
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
			Event: EventStandbyDown, Key: s.backup.Name, Over: EventStandbyUp, Severity: notify.Warning,
			Subject: fmt.Sprintf("The standby on %s does not answer", s.backup.Name),
			Text: fmt.Sprintf("Seen from prod, %s at %s does not answer as it should: %s.\nIf prod died now, the standby could not take over. "+
				"Look at its web server, its certificate and the port forwarding at home.", s.target.URL, s.target.Address, why),
		}}
	}
	end := s.certificate()
	if left := end.Sub(now); verdict == standbyUp && !end.IsZero() && left < certificateDays*24*time.Hour {
		return []condition{{
			Event: EventCertificate, Key: s.backup.Name, Severity: notify.Warning,
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
			Event: EventHeld, Key: where, Severity: notify.Warning,
			Subject: fmt.Sprintf("%s held in %s", deletions(heldEntries(s.held)), where),
			Text: fmt.Sprintf("These are gone from the source and still on the replica, because of %s:\n%s\n\nIf that is right: syncagent approve %s\n"+
				"If not: restore the files. Everything else is being replicated.", s.heldWhy, strings.Join(lines, "\n"), s.name),
		})
	}
	switch {
	case s.err == nil:
	case errors.Is(s.err, tree.ErrRootChanged), errors.Is(s.err, os.ErrNotExist) && !errors.Is(s.err, push.ErrStale):
		all = append(all, condition{
			Event: EventSourceGone, Key: where, Severity: notify.Warning,
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
		Event: EventReplicaFull, Key: where, Severity: notify.Warning,
		Subject: fmt.Sprintf("The backup's disk is full: %s is not complete", where),
		Text: fmt.Sprintf("%s.\nWhat is on the replica stays whole; new content waits until there is room. The trash (%s/.releve-trash on the backup) may be emptied.",
			detail, e.folder.Target),
	}
}

// where names a folder on a backup, for people.
func (s folderStatus) where() string { return s.name + " on " + s.backup }
