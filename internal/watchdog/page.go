package watchdog

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/report"
)

// page is the status for a browser.
func (w *watchdog) page() report.Page {
	r := w.report()
	p := report.Page{
		Title: "watchdog", State: r.State, Headline: w.headline(), Problems: r.Problems, Version: r.Version, Time: r.Time,
		Facts: []report.Fact{
			{Label: "Our address", Value: orDash(r.Home.IPv4 + " " + r.Home.IPv6), Note: r.Home.Why, Tone: good(r.Home.Agreed)},
			{Label: "Our line", Value: r.Uplink, Tone: good(r.Uplink != "down")},
			{Label: "Messages waiting", Value: fmt.Sprint(r.Pending)},
		},
	}
	if r.DynDNS != nil {
		p.Facts = append(p.Facts, r.DynDNS.fact())
	}
	if d := r.Deadman; d != nil {
		p.Facts = append(p.Facts, report.Fact{Label: "Dead-man's switch", Value: d.text(r.Time), Tone: good(d.Error == "")})
	}
	for _, s := range r.Sites {
		p.Sections = append(p.Sections, siteSection(s, r.Time), readySection(s))
	}
	return p
}

func siteSection(s siteStatus, now time.Time) report.Section {
	row := func(label, text, note string, tone report.Tone) []report.Cell {
		return []report.Cell{{Text: label}, {Text: text, Note: note, Tone: tone}}
	}
	forced := ""
	if s.Forced != "" {
		forced = "by hand: " + s.Forced
	}
	rows := [][]report.Cell{
		row("State", words(s.State), "for "+short(now.Sub(s.Since)), phaseTone(s.State)),
		row("Serves", string(s.Serving), forced, report.Plain),
	}
	for _, p := range s.Probes {
		text := fmt.Sprintf("answers in %.0f ms", p.Seconds*1000)
		if !p.OK {
			text = p.Detail
		}
		rows = append(rows, row("Prod "+p.Address, text, "", good(p.OK)))
	}
	if s.Opinion != nil {
		rows = append(rows, row("Others see", s.Opinion.text(now), "", report.Plain))
	}
	for _, rec := range s.Records {
		rows = append(rows, row("Zone", fmt.Sprintf("%s %s", rec.Type, rec.Target), fmt.Sprintf("TTL %d", rec.TTL), report.Plain))
	}
	rows = append(rows,
		row("Last switch", lastSwitch(s.LastSwitch), "", report.Plain),
		row("A fail-over takes", s.WorstCase.Text, "", good(s.WorstCase.Seconds <= promise.Seconds())))
	return report.Section{Title: s.Name, Columns: []string{"", ""}, Rows: rows}
}

func readySection(s siteStatus) report.Section {
	sec := report.Section{Title: "Standby of " + s.Name, Columns: []string{"", ""}, Empty: "Not asked yet."}
	for _, c := range s.Ready {
		sec.Rows = append(sec.Rows, []report.Cell{{Text: c.Name}, {Text: cmp.Or(c.Why, "good"), Tone: good(c.OK)}})
	}
	for _, c := range s.Return {
		sec.Rows = append(sec.Rows, []report.Cell{{Text: "fail-back: " + c.Name}, {Text: c.Why, Tone: good(c.OK)}})
	}
	return sec
}

// lastSwitch tells of a switch in one line.
func lastSwitch(l *switchStatus) string {
	if l == nil {
		return "none yet"
	}
	out := fmt.Sprintf("to %s, %s, decided %s", l.To, l.Trigger, clock(l.Decided))
	switch {
	case l.Published != nil:
		out += fmt.Sprintf(", published after %s", short(l.Published.Sub(l.Decided)))
	case l.Accepted != nil:
		out += fmt.Sprintf(", accepted after %s, not published yet", short(l.Accepted.Sub(l.Decided)))
	default:
		out += ", not accepted yet"
	}
	if l.Error != "" {
		out += ": " + l.Error
	}
	return out
}

// words is a phase for people; machines get it with its underscore.
func words(p failover.Phase) string { return strings.ReplaceAll(string(p), "_", " ") }

func phaseTone(p failover.Phase) report.Tone {
	switch p {
	case failover.Normal:
		return report.Good
	case failover.Switching, failover.Failing:
		return report.Bad
	}
	return report.Warn
}

func good(ok bool) report.Tone {
	if ok {
		return report.Good
	}
	return report.Bad
}

func tick(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}

func orDash(s string) string {
	if s == " " || s == "" {
		return "–"
	}
	return s
}
