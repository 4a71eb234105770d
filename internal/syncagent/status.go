package syncagent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"releve/internal/report"
)

// statusReport is the object that `status --json` prints.
type statusReport struct {
	Version  string         `json:"version"`
	Time     time.Time      `json:"time"`
	State    report.State   `json:"state"`
	Problems []string       `json:"problems"`
	Notices  []string       `json:"notices"` // worth knowing, and no fault
	Folders  []folderReport `json:"folders"`
	Backups  []backupReport `json:"backups"`
	Deadman  *deadmanReport `json:"deadman,omitempty"` // absent if there is none
}

// deadmanReport is what became of the pings that say that every folder is followed.
type deadmanReport struct {
	LastPing *time.Time `json:"last_ping"` // that was accepted
	Error    string     `json:"error,omitempty"`
}

type folderReport struct {
	Name        string       `json:"name"`
	Backup      string       `json:"backup"`
	State       string       `json:"state"`
	Since       time.Time    `json:"since"`
	Pending     int          `json:"pending"`
	Held        []heldReport `json:"held"`
	HeldWhy     string       `json:"held_why,omitempty"`
	InSyncSince *time.Time   `json:"in_sync_since"`
	LastPush    *time.Time   `json:"last_push"`
	LastError   string       `json:"last_error"`
	Problems    []string     `json:"problems"`
	Watches     int          `json:"watches"`
	Polled      int          `json:"polled"`
	Skipped     int          `json:"skipped"` // sockets, FIFOs, devices
	Sent        int64        `json:"sent_bytes"`
	Files       int          `json:"sent_files"`
}

type heldReport struct {
	Path    string `json:"path"`
	Entries int    `json:"entries"`
}

type backupReport struct {
	Name      string    `json:"name"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	LastError string    `json:"last_error"`
	Standby   string    `json:"standby"` // up, down, unknown; "" where it is not probed
	Why       string    `json:"standby_why,omitempty"`

	Serving  string     `json:"serving"`           // prod, standby, by the watchdog's word; "" where there is none
	Watchdog *time.Time `json:"watchdog_heard"`    // when it last said something new; null where there is none
	Holding  string     `json:"holding,omitempty"` // why nothing is pushed
	DiskFree uint64     `json:"disk_free"`         // bytes, by the watchdog's word
}

// status is the state of everything at the time now.
func (g *agent) status(now time.Time) statusReport {
	r := statusReport{Version: versionText(), Time: now, State: report.OK, Problems: []string{}, Notices: []string{}}
	worse := func(s report.State, format string, args ...any) {
		if s == report.Failing || r.State == report.OK {
			r.State = s
		}
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
	for _, l := range g.links {
		connected, since, err := l.state()
		b := backupReport{Name: l.backup.Name, Connected: connected, Since: since}
		if err != nil {
			b.LastError = err.Error()
			worse(report.Failing, "The backup %s cannot be reached since %s: %v.", b.Name, clock(since), err)
		}
		for _, s := range g.standby {
			if s.backup.Name == l.backup.Name {
				b.Standby, b.Why = s.report()
				if b.Standby == standbyDown {
					worse(report.Degraded, "The standby's site on %s does not answer as it should: %s.", b.Name, b.Why)
				}
			}
		}
		l.word.report(&b, now, worse)
		r.Backups = append(r.Backups, b)
	}
	for _, e := range g.engines {
		s := e.snapshot()
		f := s.report()
		connected, _, _ := e.link.state()
		switch {
		case s.isHeld(): // said of the backup
		case s.state == stateWaiting && s.err != nil && connected:
			worse(report.Failing, "The folder %s cannot be replicated to %s: %v.", s.name, s.backup, s.err)
		case len(s.held) > 0:
			worse(report.Degraded, "%s of the folder %s are held on %s (%s): look at them with \"syncagent status\", then run \"syncagent approve %s\", or restore the files.",
				deletions(heldEntries(s.held)), s.name, s.backup, s.heldWhy, s.name)
		case len(s.problems) > 0:
			worse(report.Degraded, "The folder %s is not complete on %s: %s.", s.name, s.backup, strings.Join(first3(s.problems), "; "))
		}
		if s.unkept {
			worse(report.Degraded, "What is replaced or deleted in the folder %s is not kept on %s: less than 5 %% of its disk is free, and its trash is empty.", s.name, s.backup)
		}
		for _, n := range s.notices {
			if !slices.Contains(r.Notices, n) { // the same on every backup
				r.Notices = append(r.Notices, n)
			}
		}
		r.Folders = append(r.Folders, f)
	}
	for _, failed := range g.outbox.Failing() {
		worse(report.Degraded, "%s", failed)
	}
	if g.deadman != nil {
		state := g.deadman.State()
		r.Deadman = &deadmanReport{timeOrNil(state.LastPing), state.Err}
		if state.Err != "" {
			worse(report.Degraded, "The dead-man's switch is not reached: %s.", state.Err)
		}
	}
	return r
}

func (s folderStatus) report() folderReport {
	f := folderReport{
		Name: s.name, Backup: s.backup, State: s.state, Since: s.since, Pending: s.pending, Held: []heldReport{},
		HeldWhy: s.heldWhy, InSyncSince: timeOrNil(s.inSyncSince), LastPush: timeOrNil(s.lastPush), Problems: s.problems,
		Watches: s.watches, Polled: s.polled, Skipped: s.skipped, Sent: s.totals.Bytes, Files: s.totals.Files,
	}
	if f.Problems == nil {
		f.Problems = []string{}
	}
	for _, d := range s.held {
		f.Held = append(f.Held, heldReport{printable(d.Path), d.Count})
	}
	switch {
	case s.err != nil:
		f.LastError = s.err.Error()
	case len(s.problems) > 0:
		f.LastError = s.problems[0]
	}
	return f
}

// printable is a path as JSON and terminals can carry it: names are bytes, and may hold anything.
func printable(p string) string {
	q := fmt.Sprintf("%q", p)
	return q[1 : len(q)-1]
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func first3(list []string) []string {
	if len(list) <= 3 {
		return list
	}
	return append(list[:3:3], fmt.Sprintf("and %d more", len(list)-3))
}

// clock is a time as a person at night reads it.
func clock(t time.Time) string { return t.Local().Format("2 Jan 15:04:05") }

// headline is the state in one sentence.
func (g *agent) headline() string {
	r := g.status(time.Now())
	if len(r.Problems) > 0 {
		return r.Problems[0]
	}
	syncing := 0
	for _, f := range r.Folders {
		if f.State != stateInSync {
			syncing++
		}
	}
	if syncing > 0 {
		return fmt.Sprintf("%d of %d replicas are being brought up to date.", syncing, len(r.Folders))
	}
	return "Every replica equals its source."
}

// page is the status as a web page.
func (g *agent) page() report.Page {
	now := time.Now()
	r := g.status(now)
	host, _ := os.Hostname()
	p := report.Page{
		Title: "syncagent on " + host, State: r.State, Headline: g.headline(), Problems: r.Problems,
		Version: r.Version, Time: now,
	}
	folders := report.Section{Title: "Folders", Columns: []string{"Folder", "On", "State", "Pending", "Held", "Last push"}}
	for _, f := range r.Folders {
		tone := report.Good
		if f.State != stateInSync {
			tone = report.Warn
		}
		held := 0
		for _, h := range f.Held {
			held += h.Entries
		}
		last := "–"
		if f.LastPush != nil {
			last = humanize.Time(*f.LastPush)
		}
		folders.Rows = append(folders.Rows, []report.Cell{
			{Text: f.Name}, {Text: f.Backup}, {Text: stateWords(f.State), Note: f.LastError, Tone: tone},
			{Text: humanize.Comma(int64(f.Pending))}, {Text: humanize.Comma(int64(held))}, {Text: last},
		})
	}
	backups := report.Section{Title: "Backups", Columns: []string{"Backup", "Connection", "Standby's site"}}
	for _, b := range r.Backups {
		link := report.Cell{Text: "connected", Note: "since " + clock(b.Since), Tone: report.Good}
		if !b.Connected {
			link = report.Cell{Text: "not connected", Note: b.LastError, Tone: report.Bad}
		}
		site := report.Cell{Text: b.Standby, Note: b.Why}
		switch b.Standby {
		case "":
			site.Text = "not probed"
		case standbyUp:
			site.Tone = report.Good
		case standbyDown:
			site.Tone = report.Bad
		}
		backups.Rows = append(backups.Rows, []report.Cell{{Text: b.Name}, link, site})
	}
	p.Sections = []report.Section{folders, backups}
	if len(r.Notices) > 0 {
		notices := report.Section{Title: "Worth knowing", Columns: []string{"Notice"}}
		for _, n := range r.Notices {
			notices.Rows = append(notices.Rows, []report.Cell{{Text: n}})
		}
		p.Sections = append(p.Sections, notices)
	}
	return p
}

func stateWords(state string) string { return strings.ReplaceAll(state, "_", " ") }

// metrics is the status in Prometheus' text format.
func (g *agent) metrics(w io.Writer) {
	var m report.Metrics
	r := g.status(time.Now())
	m.Gauge("syncagent_build_info", "The version that runs.", 1, "version", r.Version)
	for _, f := range r.Folders {
		labels := []string{"folder", f.Name, "backup", f.Backup}
		m.Bool("syncagent_in_sync", "Whether the replica equals its source.", f.State == stateInSync, labels...)
		m.Gauge("syncagent_pending", "Entries that wait to be pushed.", float64(f.Pending), labels...)
		m.Gauge("syncagent_held_deletions", "Deletions that wait for approval.", float64(len(f.Held)), labels...)
		m.Gauge("syncagent_watches", "Directories watched by inotify.", float64(f.Watches), labels...)
		m.Counter("syncagent_sent_bytes_total", "Bytes of files put in place.", float64(f.Sent), labels...)
		m.Counter("syncagent_sent_files_total", "Files put in place.", float64(f.Files), labels...)
		if f.LastPush != nil {
			m.Gauge("syncagent_last_push_timestamp_seconds", "When something was last pushed.", float64(f.LastPush.Unix()), labels...)
		}
	}
	for _, b := range r.Backups {
		m.Bool("syncagent_connected", "Whether there is a connection to the backup.", b.Connected, "backup", b.Name)
		if b.Standby != "" {
			m.Bool("syncagent_standby_up", "Whether the standby's site answers.", b.Standby == standbyUp, "backup", b.Name)
		}
	}
	m.Gauge("syncagent_outbox_pending", "Messages not delivered yet.", float64(g.outbox.Pending()))
	for _, c := range g.outbox.Counts() {
		for result, n := range map[string]int{"delivered": c.Delivered, "failed": c.Failed, "expired": c.Expired} {
			m.Counter("syncagent_messages_total", "Messages delivered and given up, and attempts that failed.", float64(n), "channel", c.Channel, "result", result)
		}
	}
	if g.deadman != nil {
		state := g.deadman.State()
		m.Counter("syncagent_deadman_pings_total", "Pings of the dead-man's switch.", float64(state.Succeeded), "result", "ok")
		m.Counter("syncagent_deadman_pings_total", "Pings of the dead-man's switch.", float64(state.Failed), "result", "failed")
	}
	m.WriteTo(w)
}

// approve lets the held deletions of a folder through, on every backup.
func (g *agent) approve(_ context.Context, args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("approve takes the name of one folder")
	}
	known, lines := false, []string(nil)
	for _, e := range g.engines {
		if e.folder.Name != args[0] {
			continue
		}
		known = true
		for _, d := range e.approve() {
			lines = append(lines, fmt.Sprintf("%s: %q goes to the trash (%s)", e.link.backup.Name, d.Path, entries(d.Count)))
		}
	}
	switch {
	case !known:
		return "", fmt.Errorf("there is no folder %q", args[0])
	case len(lines) == 0:
		return fmt.Sprintf("Nothing of %s is held.", args[0]), nil
	}
	return strings.Join(lines, "\n"), nil
}

type approveCmd struct {
	Folder string `arg:"" help:"The folder's name."`
}

func (c approveCmd) Run(a *app) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	answer, err := client.Call(a.ctx, "approve", c.Folder)
	if err != nil {
		return err
	}
	printLines(a.env.Stdout, answer)
	return nil
}

// client talks to the running agent.
func (a *app) client() (report.Client, error) {
	cfg, err := a.load()
	if err != nil {
		return report.Client{}, err
	}
	return report.Client{Program: "syncagent", Socket: cfg.Status.Socket}, nil
}

type statusCmd struct {
	JSON bool `help:"Print one JSON object." name:"json"`
}

func (c statusCmd) Run(a *app) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if c.JSON {
		var raw json.RawMessage
		if err := client.Fetch(a.ctx, &raw); err != nil {
			return err
		}
		printLines(a.env.Stdout, string(raw))
		return nil
	}
	var r statusReport
	if err := client.Fetch(a.ctx, &r); err != nil {
		return err
	}
	printLines(a.env.Stdout, r.lines()...)
	return nil
}
