package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"releve/internal/notify"
	"releve/internal/ovhdns"
	"releve/internal/report"
)

// What the owner sees of the name of [dyndns].

// dynStatus is the "dyndns" of the status, null where the table is left out.
type dynStatus struct {
	Name      string         `json:"name"`
	State     string         `json:"state"` // unknown, in_sync, updating, waiting, foreign or failing
	Why       string         `json:"why,omitempty"`
	Records   []recordStatus `json:"records"`    // as last read
	RecordsAt *time.Time     `json:"records_at"` // when
	Want      []recordStatus `json:"want"`       // what they should be
	Changed   *time.Time     `json:"changed"`    // when something was last written
	Published *time.Time     `json:"published"`  // when the name servers were last seen to serve that
}

func (d *dyndns) status() *dynStatus {
	if d == nil {
		return nil
	}
	v := d.get()
	return &dynStatus{
		Name: d.cfg.Name, State: v.State, Why: v.Why, Records: recordsStatus(v.Records), RecordsAt: timeOrNil(v.ReadAt),
		Want: recordsStatus(v.Want), Changed: timeOrNil(v.Changed), Published: timeOrNil(v.Published),
	}
}

func (s dynStatus) problem(bad func(report.State, string, ...any)) {
	switch s.State {
	case dynForeign:
		bad(report.Degraded, "%s is not led home: %s; see watchdog dyndns", s.Name, s.Why)
	case dynFailing:
		bad(report.Degraded, "%s cannot be led home: %s", s.Name, s.Why)
	}
}

// text is the state in a line.
func (s dynStatus) text() string {
	words := map[string]string{
		dynUnknown: "not looked at yet", dynInSync: "leads home", dynUpdating: "is being led home", dynWaiting: "is kept as it is",
		dynForeign: "NOT OURS", dynFailing: "NOT LED HOME",
	}
	out := words[s.State]
	for i, r := range s.Records {
		out += map[bool]string{true: ": ", false: ", "}[i == 0] + fmt.Sprintf("%s %s ttl %d", r.Type, r.Target, r.TTL)
	}
	if s.Why != "" {
		out += " (" + s.Why + ")"
	}
	return out
}

func (s dynStatus) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s\n", s.Name, s.text())
	w.Flush()
	fmt.Fprintln(out)
}

func (s dynStatus) fact() report.Fact {
	return report.Fact{Label: s.Name, Value: s.text(), Tone: good(s.State != dynForeign && s.State != dynFailing)}
}

func (d *dyndns) writeMetrics(m *report.Metrics) {
	if d == nil {
		return
	}
	v := d.get()
	m.Bool("watchdog_dyndns_in_sync", "Whether the name of [dyndns] leads home.", v.State == dynInSync, "name", d.cfg.Name)
	m.Counter("watchdog_dyndns_updates_total", "How often the records of the name of [dyndns] were changed.", float64(v.Updates), "name", d.cfg.Name)
}

func (d *dyndns) message(v dynView) notify.Message {
	m := notify.Message{Event: EventDynDNS, About: d.cfg.Name, Severity: notify.Warning}
	m.Subject = d.cfg.Name + " does not follow home's address"
	text := []string{fmt.Sprintf("It holds %s and should hold %s: %s.", v.Records, v.Want, orUnknown(v.Why))}
	switch v.State {
	case dynForeign:
		m.Subject = d.cfg.Name + " holds records that we did not put there"
		text = []string{
			v.Why + ".", "Nothing was overwritten.",
			"Remove them in OVH's console, or have them overwritten: watchdog dyndns --force",
		}
	case dynWaiting, dynUnknown:
		text = []string{fmt.Sprintf("It holds %s, and where home is now is not known: %s.", v.Records, orUnknown(v.Why)), "See: watchdog check"}
	default:
		text = append(text, "It is tried again at least every minute.")
	}
	m.Text = strings.Join(text, "\n")
	return m
}

// obey is the daemon's side of `watchdog dyndns`.
func (d *dyndns) obey(_ context.Context, args []string) (string, error) {
	if d == nil {
		return "", errors.New("there is no [dyndns] in the configuration")
	}
	force := len(args) > 0 && args[0] == "force"
	v := d.get()
	switch {
	case v.State == dynForeign && !force:
		return "", fmt.Errorf("%s: refused: %s; --force overrides this", d.cfg.Name, v.Why)
	case v.ReadAt.IsZero():
		return "", fmt.Errorf("%s: what it holds is not known: %s", d.cfg.Name, orUnknown(v.Why))
	}
	d.set(func(v *dynView) { v.State, v.Why = dynUpdating, "" })
	d.order(force)
	text := fmt.Sprintf("%s: leading it home", d.cfg.Name)
	if want, _ := dynPlan(d.cfg, v.Records, d.home(), v.Homes); len(want) > 0 && !want.Equal(v.Records) {
		text += fmt.Sprintf(": %s\nin place of: %s", want, v.Records)
	}
	return text, nil
}

// dyndns is the command line's: it waits until the name servers serve what they should.
func (r remote) dyndns(ctx context.Context, force bool) error {
	if r.cfg.DynDNS == nil {
		return &usageError{"there is no [dyndns] in the configuration"}
	}
	var args []string
	if force {
		args = []string{"force"}
	}
	text, err := r.client().Call(ctx, "dyndns", args...)
	if err != nil {
		return err
	}
	fmt.Fprintln(r.env.Stdout, text)
	return r.follow(ctx, func(st statusReport) (done bool, line string, err error) {
		switch s := st.DynDNS; {
		case s == nil:
			return true, "", errors.New("the running watchdog has no [dyndns]; restart it")
		case s.State == dynInSync || s.State == dynWaiting:
			return true, s.Name + " " + s.text(), nil
		case s.State == dynForeign:
			return true, "", fmt.Errorf("%s: refused: %s; --force overrides this", s.Name, s.Why)
		default:
			return false, s.Why, nil
		}
	})
}

// dyndns is the part of `watchdog check` about the name of [dyndns].
func (c *checklist) dyndns(ctx context.Context, cfg *Config, client zone, home homeView) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	d := *cfg.DynDNS
	set, err := client.Read(ctx, d.Zone, d.Name)
	if alias, ok := errors.AsType[*ovhdns.CNAMEError](err); ok {
		c.bad("remove the alias in OVH's console, or take another name", "%s is an alias (CNAME) of %s, and cannot be led home", d.Name, alias.Target)
		return
	}
	if err != nil {
		c.bad("see the lines about OVH above", "%s: %v", d.Name, err)
		return
	}
	have := fromSet(set)
	want, foreign := dynPlan(d, have, home, loadDynMemory(store{cfg.StateDir}, d.Name).Homes)
	switch {
	case len(foreign) > 0:
		c.bad("remove them in OVH's console, or, with the watchdog running, have them overwritten: watchdog dyndns --force",
			"%s holds %s, which no watchdog wrote: it will not be led home", d.Name, foreign)
		return
	case len(want) == 0:
		c.note("%s: it does not exist, and will be made once home's address is known", d.Name)
		return
	case len(have) == 0:
		c.note("%s: it does not exist, and the watchdog will make it: %s", d.Name, want)
		return
	case !have.Equal(want) && !set.SameTargets(toSet(want)):
		c.note("%s holds %s, and the watchdog will make that %s", d.Name, have, want)
		return
	}
	servers := d.NameServers
	if len(servers) == 0 {
		servers, err = client.NameServers(ctx, d.Zone)
	}
	if err == nil {
		err = late(ovhdns.Published(ctx, servers, d.Name, set))
	}
	if err != nil {
		c.bad("either a change is being published, or a name server cannot be reached from here", "%s: not all name servers serve what OVH's API says: %v", d.Name, err)
		return
	}
	c.good("%s leads home: %s", d.Name, have)
}
