package syncagent

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"releve/internal/plan"
)

// heldShown is how many held deletions fit on a terminal beside everything else.
const heldShown = 12

// lines is the status for a terminal: what is wrong first, then each folder, then each backup.
func (r statusReport) lines() []string {
	lines := []string{fmt.Sprintf("syncagent %s: %s", r.Version, r.State)}
	for _, p := range r.Problems {
		lines = append(lines, "! "+p)
	}
	for _, n := range r.Notices {
		lines = append(lines, "i "+n)
	}
	lines = append(lines, "")
	for _, f := range r.Folders {
		lines = append(lines, fmt.Sprintf("%-14s to %-10s %-8s %s", f.Name, f.Backup, stateWords(f.State), f.detail(r.Time)))
		for _, h := range f.Held[:min(len(f.Held), heldShown)] {
			lines = append(lines, fmt.Sprintf("%18s held: deletion of %s (%s)", "", h.Path, entries(h.Entries)))
		}
		if more := len(f.Held) - heldShown; more > 0 {
			lines = append(lines, fmt.Sprintf("%18s and %d more; \"syncagent status --json\" names them all", "", more))
		}
		for _, p := range first3(f.Problems) {
			lines = append(lines, fmt.Sprintf("%18s %s", "", p))
		}
	}
	for _, b := range r.Backups {
		state := "connected since " + clock(b.Since)
		if !b.Connected {
			state = "not connected since " + clock(b.Since)
			if b.LastError != "" {
				state += ": " + b.LastError
			}
		}
		if b.Standby != "" {
			state += "; standby's site " + b.Standby
			if b.Why != "" {
				state += " (" + b.Why + ")"
			}
		}
		if b.Watchdog != nil {
			state += fmt.Sprintf("; watchdog heard %s", humanize.RelTime(*b.Watchdog, r.Time, "ago", "from now"))
			if b.Serving != "" {
				state += fmt.Sprintf(", %s serves, %s free", b.Serving, humanize.IBytes(b.DiskFree))
			}
		}
		lines = append(lines, fmt.Sprintf("%-14s %s", b.Name, state))
	}
	if d := r.Deadman; d != nil {
		state := "not pinged yet"
		switch {
		case d.Error != "":
			state = d.Error
		case d.LastPing != nil:
			state = "pinged " + humanize.RelTime(*d.LastPing, r.Time, "ago", "from now")
		}
		lines = append(lines, fmt.Sprintf("%-14s %s", "dead-man", state))
	}
	return lines
}

// detail is what there is to say of a folder beside its state.
func (f folderReport) detail(now time.Time) string {
	var parts []string
	if f.InSyncSince != nil {
		parts = append(parts, "since "+clock(*f.InSyncSince))
	}
	if f.Pending > 0 {
		parts = append(parts, entries(f.Pending)+" pending")
	}
	if f.LastPush != nil {
		parts = append(parts, "last push "+humanize.RelTime(*f.LastPush, now, "ago", "from now"))
	}
	if f.Skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d sockets, FIFOs or devices left out", f.Skipped))
	}
	return strings.Join(parts, ", ")
}

func heldEntries(held []plan.Delete) int {
	n := 0
	for _, d := range held {
		n += d.Count
	}
	return n
}

func deletions(n int) string { return plural(n, "deletion", "deletions") }
