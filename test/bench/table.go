package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is what one contender did in one scenario at one round-trip time.
type row struct {
	scenario string
	rtt      time.Duration
	who      string
	took     []time.Duration
	sent     []int64
	costs    []cost
	memory   int64
	busy     float64 // percent of a processor
	differs  bool    // it left something different
}

// bar is what syncagent is to reach. What is zero does not count.
type bar struct {
	ratio, ratioAt0 float64 // of its time to the best peer's; ratioAt0 at an RTT of 0, where that differs: < 0 for no bar
	to              string  // at a distance: the peer that ratio is about, if it is not the best
	at0, at40       time.Duration
	sent            int64
	sentRatio       float64
	memory          int64
	rtts            float64 // beyond the time on an idle link
}

const us = "syncagent"

func (b *bench) row(who string) *row {
	for _, r := range b.rows {
		if r.scenario == b.scenario.name && r.rtt == b.rtt && r.who == who {
			return r
		}
	}
	r := &row{scenario: b.scenario.name, rtt: b.rtt, who: who}
	b.rows = append(b.rows, r)
	return r
}

// spent notes what a contender took since the meter was read.
func (b *bench) spent(who string, since meter) {
	now := b.world.read()
	r := b.add(who, now.at.Sub(since.at), now.sent-since.sent)
	c := now.cost.minus(since.cost)
	r.costs = append(r.costs, c)
	fmt.Fprintf(b.log, "   %-40s    CPU: prod %.2f s, bastion %.2f s, backup %.2f s, link %.2f s; packets: %d up, %d down\n", "",
		c.prod.Seconds(), c.bastion.Seconds(), c.backup.Seconds(), c.link.Seconds(), now.up-since.up, now.down-since.down)
}

func (b *bench) add(who string, took time.Duration, sent int64) *row {
	r := b.row(who)
	r.took, r.sent = append(r.took, took), append(r.sent, sent)
	fmt.Fprintf(b.log, "   %-40s %10s  %s\n", who, short(took), size0(sent))
	return r
}

// cpu is the mean processor time of prod, bastion and backup.
func (r *row) cpu() string {
	if len(r.costs) == 0 {
		return ""
	}
	var sum cost
	for _, c := range r.costs {
		sum.prod, sum.bastion, sum.backup = sum.prod+c.prod, sum.bastion+c.bastion, sum.backup+c.backup
	}
	mean := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()/float64(len(r.costs))) }
	return mean(sum.prod) + " / " + mean(sum.bastion) + " / " + mean(sum.backup)
}

// table is everything measured, in Markdown.
func (b *bench) table() string {
	var t strings.Builder
	t.WriteString("| scenario | RTT | | median | min..max | runs | sent | CPU | to the best peer | bar | |\n")
	t.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range scenarios {
		for _, rtt := range b.rtts {
			rows := slices.DeleteFunc(slices.Clone(b.rows), func(r *row) bool { return r.scenario != s.name || r.rtt != rtt })
			for _, r := range rows {
				ratio, want, met := "", "", ""
				name := r.who
				if r.who == us {
					name = "**" + us + "**"
					ratio, want, met = s.bar.judge(r, rows)
				}
				if r.differs {
					name += " (left differences)"
				}
				if s.name == "idle" {
					fmt.Fprintf(&t, "| %s | – | %s | %.2f %% CPU, %s resident | | | | | %s | %s | %s |\n", s.title, name, r.busy, size0(r.memory), ratio, want, met)
					continue
				}
				fmt.Fprintf(&t, "| %s | %v | %s | %s | %s..%s | %d | %s | %s | %s | %s | %s |\n", s.title, rtt, name, short(median(r.took)),
					short(slices.Min(r.took)), short(slices.Max(r.took)), len(r.took), size0(median(r.sent)), r.cpu(), ratio, want, met)
			}
		}
	}
	return t.String()
}

// judge compares ours with the best of the others.
func (want bar) judge(ours *row, rows []*row) (ratio, text, met string) {
	var best, fewest *row
	for _, r := range rows {
		if r == ours {
			continue
		}
		if best == nil || median(r.took) < median(best.took) {
			best = r
		}
		if len(r.sent) > 0 && (fewest == nil || median(r.sent) < median(fewest.sent)) {
			fewest = r
		}
	}
	good := true
	var bars []string
	limit := func(what string, ok bool) {
		bars = append(bars, what)
		good = good && ok
	}
	took := median(ours.took)
	if best != nil && want.memory == 0 && want.rtts == 0 {
		r := float64(took) / float64(median(best.took))
		ratio = fmt.Sprintf("%.2f ×", r)
		most, times := want.ratio, "×"
		if ours.rtt == 0 && want.ratioAt0 != 0 {
			most = want.ratioAt0
		}
		if i := slices.IndexFunc(rows, func(o *row) bool { return o.who == want.to }); ours.rtt > 0 && i >= 0 {
			r = float64(took) / float64(median(rows[i].took))
			times = "× " + want.to
			ratio += fmt.Sprintf(", %.2f %s", r, times)
		}
		if most > 0 {
			limit(fmt.Sprintf("≤ %.2f %s", most, times), r <= most)
		}
	}
	most := want.at40
	if ours.rtt == 0 {
		most = want.at0
	}
	if most > 0 {
		limit("≤ "+short(most), took <= most)
	}
	if want.sent > 0 {
		limit("≤ "+size0(want.sent), median(ours.sent) <= want.sent)
	}
	if want.sentRatio > 0 && fewest != nil {
		limit(fmt.Sprintf("bytes ≤ %.1f ×", want.sentRatio), float64(median(ours.sent)) <= want.sentRatio*float64(median(fewest.sent)))
	}
	if want.memory > 0 {
		limit("0 % CPU, ≤ "+size0(want.memory), ours.memory <= want.memory && ours.busy < 0.5)
	}
	if want.rtts > 0 && best != nil {
		added := took - median(best.took)
		ratio = "+" + short(added)
		// Scheduling on a shared machine is not what the bar is about.
		limit(fmt.Sprintf("≤ %.0f RTT + 10 ms", want.rtts), added <= time.Duration(want.rtts*float64(ours.rtt))+10*time.Millisecond)
	}
	switch {
	case !good:
		met = "**not met**"
	case bars != nil:
		met = "met"
	}
	return ratio, strings.Join(bars, ", "), met
}

func median[T ~int64](all []T) T {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func short(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func size0(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 1_000_000:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// head says on what, with what and when this was measured.
func head(ctx context.Context, w *world, args []string) string {
	load, _ := os.ReadFile("/proc/loadavg")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := ""
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if _, name, ok := strings.Cut(line, "model name"); ok {
			model = strings.Trim(name, "\t :\n")
			break
		}
	}
	return fmt.Sprintf(`Measured %s with %s, on %d cores (%s), Linux %s, %s; load average at the end %s
%s; %s; %s; lsyncd %s; %s.

`, time.Now().UTC().Format("2006-01-02 15:04 UTC"), "`make bench BENCH=\""+strings.Join(args, " ")+"\"`", runtime.NumCPU(), model,
		strings.TrimSpace(string(kernel)), w.disk, strings.Join(strings.Fields(string(load))[:3], " ")+".",
		version(ctx, "ssh", "-V"), version(ctx, "rsync", "--version"), runtime.Version(), strings.TrimPrefix(version(ctx, "lsyncd", "--version"), "Version: "), version(ctx, "rclone", "version"))
}

const begin, end = "<!-- bench begin -->\n", "<!-- bench end -->\n"

// insert puts text between the two marks of the file at path.
func insert(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return errors.New(path + " has no " + strings.TrimSpace(begin))
	}
	return os.WriteFile(path, []byte(before+begin+text+end+after), 0o644)
}
