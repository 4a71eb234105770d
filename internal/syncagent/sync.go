package syncagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
)

type syncCmd struct {
	DryRun bool `help:"List what would be done, and do nothing." name:"dry-run" short:"n"`
}

// Run makes every replica equal once.
func (c syncCmd) Run(a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	lock, err := lockState(cfg.StateDir)
	if errors.Is(err, errLocked) && !c.DryRun {
		return fmt.Errorf("%w: it keeps the replicas equal by itself, see \"syncagent status\"", err)
	}
	if err != nil && !errors.Is(err, errLocked) {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	id, err := processID()
	if err != nil {
		return err
	}
	complete := true
	for _, b := range cfg.Backups {
		ok, err := c.backup(a, cfg, b, id)
		if err != nil {
			fmt.Fprintf(a.env.Stderr, "syncagent: %v\n", err)
		}
		complete = complete && ok && err == nil
	}
	if !complete {
		return silent{exitFailed}
	}
	return nil
}

// backup brings all folders of one backup up to date, and reports whether they all are. Failures of a single folder are
// told at once, and the others go on.
func (c syncCmd) backup(a *app, cfg *Config, b Backup, id string) (complete bool, err error) {
	l := newLink(b, slog.New(slog.DiscardHandler))
	engines := make([]*engine, len(cfg.Folders))
	for i, f := range cfg.Folders {
		engines[i] = newEngine(f, l, cfg.StateDir, id, slog.New(slog.DiscardHandler))
		defer engines[i].dropAhead()
	}
	if len(engines) > 0 {
		_ = engines[0].lookAhead(a.ctx) // while the connection is made; what is wrong with the source is told in its turn
	}
	s, err := connect(a.ctx, b)
	if err != nil {
		return false, err
	}
	defer s.close()
	complete = true
	for _, e := range engines {
		if err := c.mayPush(a.ctx, l, s); err != nil {
			return false, fmt.Errorf("backup %s: %w", b.Name, err)
		}
		ok, err := c.folder(a, e, s)
		if err != nil {
			fmt.Fprintf(a.env.Stderr, "syncagent: folder %s to %s: %v\n", e.folder.Name, b.Name, err)
		}
		complete = complete && ok && err == nil
	}
	return complete, nil
}

// mayPush listens to the watchdog's word, which a dry run need not heed.
func (c syncCmd) mayPush(ctx context.Context, l *link, s *session) error {
	if c.DryRun {
		return nil
	}
	if err := l.word.listen(ctx, s); err != nil {
		return err
	}
	return l.word.holds()
}

// folder brings one folder up to date, or lists what that would take, and reports whether the replica is equal now.
func (c syncCmd) folder(a *app, e *engine, s *session) (bool, error) {
	remembered, err := e.load()
	if err != nil {
		fmt.Fprintf(a.env.Stderr, "syncagent: %v; comparing by size and time\n", err)
	}
	e.remembered = remembered
	r := push.New(s.lanes, e.folder.Target, e.id, e.folder.Keep)
	if c.DryRun {
		return true, e.preview(a.ctx, r, a.env.Stdout)
	}
	stop := showProgress(a.ctx, a.env.Stdout, e)
	ok, err := e.once(a.ctx, r)
	stop()
	if err != nil {
		return false, err
	}
	e.summary(a.env.Stdout, ok)
	return ok, nil
}

// once compares everything and pushes, and tries again what changed or failed meanwhile, a few times.
func (e *engine) once(ctx context.Context, r *push.Replica) (bool, error) {
	defer e.keep()
	defer e.dropAhead()
	const rounds = 5
	if err := e.begin(ctx, r); err != nil {
		return false, err
	}
	for range rounds {
		err := e.round(ctx, r)
		if errors.Is(err, errReread) {
			err = e.begin(ctx, r)
		}
		if err != nil {
			return false, err
		}
		if e.todo.pending() == 0 && !e.todo.due(time.Now()) {
			break
		}
		if !sleep(ctx, time.Until(e.todo.next(time.Now().Add(e.pace.fail)))) {
			return false, context.Cause(ctx)
		}
	}
	return e.snapshot().state == stateInSync, nil
}

// preview lists what a push would do, one line an operation, and changes nothing, on the replica either.
func (e *engine) preview(ctx context.Context, r *push.Replica, w io.Writer) error {
	if err := r.Check(ctx); err != nil {
		return err
	}
	l, listed, closed, err := e.survey(ctx, r)
	if err != nil {
		return err
	}
	p := e.holdLineages(plan.Diff(l.src, e.known, l.scope), l)
	p = plan.Without(p, func(p string) bool {
		return slices.ContainsFunc(closed, func(dir string) bool { return p != dir && tree.Within(p, dir) })
	})
	p, held, why := e.guard.judge(p, l, e.known, time.Now())
	lines := describe(p)
	for _, d := range held {
		lines = append(lines, fmt.Sprintf("held    %q (%s: %s)", d.Path, entries(d.Count), why))
	}
	for _, dir := range closed {
		lines = append(lines, fmt.Sprintf("closed  %q (mode %v keeps the SFTP user out: what it holds is not compared; a push would open it for a moment)",
			dir, listed[dir].Mode))
	}
	for _, problem := range l.problems {
		lines = append(lines, fmt.Sprintf("unread  %q: %v", problem.Path, problem.Err))
	}
	count, bytes := p.Totals()
	lines = append(lines, fmt.Sprintf("%s: %s to send (%s), %d to move, %d to delete, %d held", e.folder.Name,
		entries(count), humanize.IBytes(uint64(bytes)), len(p.Moves), len(p.Deletes), len(held)))
	printLines(w, lines...)
	return nil
}

// describe lists a plan's operations in the order in which they are carried out.
func describe(p plan.Plan) []string {
	var lines []string
	put := func(put plan.Put) {
		word := map[plan.Old]string{plan.Absent: "create", plan.Same: "update", plan.Other: "replace"}[put.Old]
		detail := put.Entry.Type.String()
		switch put.Entry.Type {
		case tree.File:
			detail = humanize.IBytes(uint64(put.Entry.Size))
		case tree.Link:
			detail = fmt.Sprintf("-> %q", put.Entry.Link)
		}
		lines = append(lines, fmt.Sprintf("%-7s %q (%s)", word, put.Path, detail))
	}
	for dir, m := range p.Arrangement() {
		if dir != nil {
			put(*dir)
		} else {
			lines = append(lines, fmt.Sprintf("move    %q to %q", m.From, m.To))
		}
	}
	for _, s := range p.Stages {
		put(s.Top)
		for _, b := range s.Below {
			put(b)
		}
	}
	for _, f := range p.Files {
		if !f.Current {
			put(f)
		}
		for _, also := range f.Also {
			lines = append(lines, fmt.Sprintf("link    %q to %q", also.Path, f.Path))
		}
	}
	for _, l := range p.Links {
		put(l)
	}
	for _, d := range p.Deletes {
		lines = append(lines, fmt.Sprintf("delete  %q (%s)", d.Path, entries(d.Count)))
	}
	touched := map[string]bool{}
	for dir := range p.Touched() {
		touched[dir] = true
	}
	for _, a := range p.Attrs {
		if !touched[a.Path] {
			lines = append(lines, fmt.Sprintf("attrs   %q (mode %v)", a.Path, a.Entry.Mode))
		}
	}
	return lines
}

func entries(n int) string { return plural(n, "entry", "entries") }

// summary says in one line, and one more for each problem, how a sync ended.
func (e *engine) summary(w io.Writer, ok bool) {
	s := e.snapshot()
	verdict := "identical"
	if !ok {
		verdict = "not identical"
	}
	printLines(w, fmt.Sprintf("%s on %s: %s; sent %s (%s), moved %d, deleted %s", s.name, s.backup, verdict,
		entries(s.totals.Entries), humanize.IBytes(uint64(s.totals.Bytes)), s.totals.Moved, entries(s.totals.Deleted)))
	for _, p := range first3(s.problems) {
		printLines(w, "  "+p)
	}
	for _, d := range s.held {
		printLines(w, fmt.Sprintf("  held: deletion of %q (%s): %s; \"syncagent approve %s\" lets it through while the agent runs",
			d.Path, entries(d.Count), s.heldWhy, s.name))
	}
}

// showProgress tells how far the push has come: on a terminal as a line that changes, elsewhere as a line now and then.
func showProgress(ctx context.Context, w io.Writer, e *engine) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f, isFile := w.(*os.File)
	tty := isFile && term.IsTerminal(int(f.Fd()))
	every := 10 * time.Second
	if tty {
		every = 200 * time.Millisecond
	}
	go func() {
		defer close(done)
		for sleep(ctx, every) {
			line := e.progressLine(time.Now())
			if tty {
				fmt.Fprintf(w, "\r\x1b[K%s", line)
			} else {
				fmt.Fprintln(w, line)
			}
		}
		if tty {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// progressLine is files, bytes, rate and time left.
func (e *engine) progressLine(now time.Time) string {
	s := e.snapshot()
	if s.todoEntries == 0 {
		return fmt.Sprintf("%s: comparing %s with %s", s.name, filepath.Clean(e.folder.Source), s.backup)
	}
	done, bytes := e.done.entries.Load(), e.done.bytes.Load()
	took := now.Sub(s.began).Seconds()
	rate := float64(bytes) / max(took, 0.001)
	line := fmt.Sprintf("%s: %s/%s entries, %s of %s, %s/s", s.name, humanize.Comma(done), humanize.Comma(int64(s.todoEntries)),
		humanize.IBytes(uint64(max(bytes, 0))), humanize.IBytes(uint64(s.todoBytes)), humanize.IBytes(uint64(max(rate, 0))))
	if rate > 0 && bytes < s.todoBytes {
		left := time.Duration(float64(s.todoBytes-bytes) / rate * float64(time.Second))
		line += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return line
}
