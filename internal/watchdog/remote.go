package watchdog

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"releve/internal/daemon"
	"releve/internal/failover"
	"releve/internal/report"
)

// remote is the command line's side of the running daemon.
type remote struct {
	env daemon.Env
	cfg *Config
}

func (r remote) client() report.Client {
	return report.Client{Program: "watchdog", Socket: r.cfg.Status.Socket}
}

// say has the daemon do something, and prints and returns what it says to that.
func (r remote) say(ctx context.Context, command string, args ...string) (answer string, err error) {
	if err := r.knows(args[0]); err != nil {
		return "", err
	}
	text, err := r.client().Call(ctx, command, args...)
	if text != "" {
		fmt.Fprintln(r.env.Stdout, text)
	}
	return text, err
}

func (r remote) knows(site string) error {
	var known []string
	for _, s := range r.cfg.Sites {
		if s.Name == site {
			return nil
		}
		known = append(known, s.Name)
	}
	return &usageError{fmt.Sprintf("there is no site %q; the configuration has %s", site, strings.Join(known, ", "))}
}

const (
	watchEvery = 300 * time.Millisecond
	watchFor   = 15 * time.Minute // several times what OVH takes at its slowest
)

// move has the daemon switch, and waits until the name servers serve it.
func (r remote) move(ctx context.Context, command string, args orderArgs) error {
	words := []string{args.Site}
	if args.Force {
		words = append(words, "force")
	}
	if _, err := r.say(ctx, command, words...); err != nil {
		return err
	}
	return r.watch(ctx, args.Site, func(s siteStatus) (done bool, line string, err error) { return progress(s, command) })
}

// progress says in one line how far an order has come.
func progress(s siteStatus, command string) (done bool, line string, err error) {
	under := map[string]failover.Phase{"failover": failover.Switching, "failback": failover.Returning}[command]
	to := map[string]failover.Who{"failover": failover.Standby, "failback": failover.Prod}[command]
	l := s.LastSwitch
	switch {
	case s.State != under && s.Serving == to && (l == nil || l.To != to || l.Published == nil):
		return true, "", nil // it was so already
	case s.State != under && s.Serving == to:
		return true, fmt.Sprintf("published after %s: %s serves", short(l.Published.Sub(l.Decided)), whose(to)), nil
	case s.State != under:
		return true, "", fmt.Errorf("%s: given up; the state is %s, see watchdog status", s.Name, s.State)
	case s.UnderWay == nil:
		return false, "", nil // just over: the next look will tell
	}
	return false, stage(*s.UnderWay), nil
}

// status prints what the daemon says of itself.
func (r remote) status(ctx context.Context, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, freshness)
	defer cancel()
	if asJSON {
		var raw json.RawMessage
		if err := r.client().Fetch(ctx, &raw); err != nil {
			return err
		}
		fmt.Fprintln(r.env.Stdout, strings.TrimSpace(string(raw)))
		return nil
	}
	var st statusReport
	if err := r.client().Fetch(ctx, &st); err != nil {
		return err
	}
	st.print(r.env.Stdout)
	return nil
}

// print shows the status on a terminal.
func (r statusReport) print(out io.Writer) {
	for _, s := range r.Sites {
		s.print(out, r.Time)
	}
	if r.DynDNS != nil {
		r.DynDNS.print(out)
	}
	agreed := "agreed"
	if !r.Home.Agreed {
		agreed = "NOT agreed: " + r.Home.Why
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "home\t%s\t%s\n", orDash(strings.TrimSpace(r.Home.IPv4+" "+r.Home.IPv6)), agreed)
	fmt.Fprintf(w, "own line\t%s\t\n", r.Uplink)
	for _, h := range r.Hooks {
		fmt.Fprintf(w, "hook of %s\t%s\t\n", h.Folder, h.text(r.Time))
	}
	fmt.Fprintf(w, "messages waiting\t%d\t\n", r.Pending)
	if r.Deadman != nil {
		fmt.Fprintf(w, "dead-man's switch\t%s\t\n", r.Deadman.text(r.Time))
	}
	w.Flush()
	fmt.Fprintln(out)
	if len(r.Problems) == 0 {
		fmt.Fprintln(out, "✓ all is well")
	}
	for _, p := range r.Problems {
		fmt.Fprintln(out, "✗", p)
	}
}

func (s siteStatus) print(out io.Writer, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	forced := ""
	switch {
	case s.PausedUntil != nil:
		forced = ", paused until " + clock(*s.PausedUntil)
	case s.Forced != "":
		forced = ", by hand"
	}
	fmt.Fprintf(w, "%s\t%s for %s, %s serves%s\n", s.Name, words(s.State), short(now.Sub(s.Since)), whose(s.Serving), forced)
	for _, p := range s.Probes {
		text := fmt.Sprintf("✓ answers in %.0f ms", p.Seconds*1000)
		if !p.OK {
			text = "✗ " + p.Detail
		}
		fmt.Fprintf(w, "  prod %s\t%s\n", p.Address, text)
	}
	if s.Opinion != nil {
		fmt.Fprintf(w, "  others see\t%s\n", s.Opinion.text(now))
	}
	for _, c := range s.Ready {
		fmt.Fprintf(w, "  standby: %s\t%s %s\n", c.Name, tick(c.OK), cmp.Or(c.Why, "good"))
	}
	for _, c := range s.Return {
		fmt.Fprintf(w, "  fail-back: %s\t%s %s\n", c.Name, tick(c.OK), c.Why)
	}
	for i, rec := range s.Records {
		label := "  zone"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%s\t%s %s ttl %d\n", label, rec.Type, rec.Target, rec.TTL)
	}
	fmt.Fprintf(w, "  last switch\t%s\n", lastSwitch(s.LastSwitch))
	fmt.Fprintf(w, "  fail-over takes\t%s\n", s.WorstCase.Text)
	w.Flush()
	fmt.Fprintln(out)
}
