package watchdog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
	"releve/internal/report"
)

// statusReport is what `status --json` prints. Keys may be added; these keep their names and meaning.
type statusReport struct {
	Version  string       `json:"version"`
	Time     time.Time    `json:"time"`
	State    report.State `json:"state"`
	Problems []string     `json:"problems"`
	Sites    []siteStatus `json:"sites"`
	Home     homeStatus   `json:"home"`
	DynDNS   *dynStatus   `json:"dyndns"` // null = none
	Uplink   string       `json:"uplink"` // up, down or unknown
	Hooks    []hookStatus `json:"hooks"`
	Pending  int          `json:"pending_notifications"`
	Deadman  *deadman     `json:"deadman,omitempty"` // absent if there is none
}

// deadman is what became of the pings that say that we still decide.
type deadman struct {
	LastPing *time.Time `json:"last_ping"` // that was accepted
	Error    string     `json:"error,omitempty"`
}

type siteStatus struct {
	Name        string           `json:"name"`
	State       failover.Phase   `json:"state"`
	Serving     failover.Who     `json:"serving"`
	Forced      string           `json:"forced"` // "", prod, standby or paused
	Verdict     failover.Verdict `json:"verdict"`
	Since       time.Time        `json:"since"` // of the state
	Records     []recordStatus   `json:"records"`
	RecordsAt   *time.Time       `json:"records_at"` // when they were read
	ZoneTTL     int64            `json:"zone_ttl"`   // what TTL 0 stands for; 0 = not known
	Ready       []failover.Check `json:"ready"`
	Return      []failover.Check `json:"return"`  // what prod must pass before it gets the name back unasked
	Awaited     []string         `json:"awaited"` // what an automatic fail-back waits for
	Opinion     *opinionStatus   `json:"opinion"` // what others see of prod; null = nobody is asked
	LastSwitch  *switchStatus    `json:"last_switch"`
	UnderWay    *switchStatus    `json:"under_way"` // what the zone is being made to hold, until it is published
	Term        int              `json:"term"`
	Failures    int              `json:"failures"`
	Successes   int              `json:"successes"`
	DownSince   *time.Time       `json:"down_since"`
	PausedUntil *time.Time       `json:"paused_until"`
	HeldUntil   *time.Time       `json:"held_until"`
	Rounds      int              `json:"rounds"` // looks at prod since the start
	Probes      []probeStatus    `json:"probes"`
	WorstCase   budgetStatus     `json:"worst_case"`
}

type recordStatus struct {
	Type   string `json:"type"`
	Target string `json:"target"`
	TTL    int64  `json:"ttl"`
}

type switchStatus struct {
	Term      int              `json:"term"`
	To        failover.Who     `json:"to"`
	Trigger   failover.Trigger `json:"trigger"`
	Records   []recordStatus   `json:"records"`
	Decided   time.Time        `json:"decided"`
	Accepted  *time.Time       `json:"accepted"`
	Published *time.Time       `json:"published"`
	Error     string           `json:"error,omitempty"`
}

type probeStatus struct {
	Address string       `json:"address"`
	OK      bool         `json:"ok"`
	Reason  probe.Reason `json:"reason,omitempty"`
	Detail  string       `json:"detail,omitempty"`
	Seconds float64      `json:"seconds"`
}

type budgetStatus struct {
	Seconds        float64 `json:"seconds"`         // from prod's death until visitors follow
	SlowestSeconds float64 `json:"slowest_seconds"` // with OVH at its slowest
	Text           string  `json:"text"`
}

type homeStatus struct {
	IPv4   string `json:"ipv4"` // "" = none, or not known
	IPv6   string `json:"ipv6"`
	Agreed bool   `json:"agreed"` // by independent sources, in the last round, for each family that is not off
	Why    string `json:"why,omitempty"`
}

// text is the state of the pings in words.
func (d deadman) text(now time.Time) string {
	switch {
	case d.Error != "":
		return "✗ " + d.Error
	case d.LastPing == nil:
		return "not pinged yet"
	}
	return fmt.Sprintf("✓ pinged %s ago", short(now.Sub(*d.LastPing)))
}

// report is the daemon's view of the world at this moment.
func (w *watchdog) report() statusReport {
	r := statusReport{Version: versionText(), Time: w.now(), State: report.OK, Problems: []string{}, Pending: w.outbox.Pending()}
	bad := func(state report.State, format string, args ...any) {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
		if state == report.Failing || r.State == report.OK {
			r.State = state
		}
	}
	for _, s := range w.sites {
		v := s.get()
		r.Sites = append(r.Sites, s.status(v))
		s.problems(v, bad)
	}
	w.word.problem(bad)
	r.Hooks = w.hooks.status()
	for _, h := range r.Hooks {
		h.problem(bad)
	}
	r.Home = w.homeStatus()
	if !r.Home.Agreed {
		bad(report.Degraded, "our public address is not agreed on: %s", r.Home.Why)
	}
	if r.DynDNS = w.dyndns.status(); r.DynDNS != nil {
		r.DynDNS.problem(bad)
	}
	up, at := w.uplink.state()
	switch {
	case at.IsZero():
		r.Uplink = string(probe.Unknown)
	case up.OK:
		r.Uplink = string(probe.Up)
	default:
		r.Uplink = string(probe.Down)
		bad(report.Degraded, "our own line is down: %d of %d references answered", up.Answered, up.Asked)
	}
	for _, sentence := range w.outbox.Failing() {
		bad(report.Degraded, "messages to you: %s", sentence)
	}
	if w.deadman != nil {
		state := w.deadman.State()
		r.Deadman = &deadman{timeOrNil(state.LastPing), state.Err}
		if state.Err != "" {
			bad(report.Degraded, "the dead-man's switch is not reached: %s", state.Err)
		}
	}
	return r
}

func (w *watchdog) homeStatus() homeStatus {
	v := w.home.get()
	out := homeStatus{Agreed: true}
	if v.IPv4.Address.IsValid() {
		out.IPv4 = v.IPv4.Address.String()
	}
	if v.IPv6.Address.IsValid() {
		out.IPv6 = v.IPv6.Address.String()
	}
	if !w.cfg.Home.IPv4.Off() && !v.IPv4.Agreed {
		out.Agreed, out.Why = false, "IPv4: "+v.IPv4.Why
	}
	if !w.cfg.Home.IPv6.Off() && !v.IPv6.Agreed {
		out.Agreed, out.Why = false, "IPv6: "+v.IPv6.Why
	}
	return out
}

// budget is the worst case as things stand.
func (s *site) budget(v siteView) budget {
	records := v.State.Prod
	if len(records) == 0 {
		records = failover.Records{{TTL: s.cfg.TTL}}
	}
	return computeBudget(s.cfg, longestTTL(records, v.ZoneTTL), s.delays.slowest(s.cfg.Zone))
}

func (s *site) status(v siteView) siteStatus {
	st := v.State
	b := s.budget(v)
	out := siteStatus{
		Name: s.cfg.Name, State: st.Phase, Serving: st.Serving, Forced: st.Operator(), Verdict: st.Verdict, Since: st.Since,
		Records: recordsStatus(v.Records), RecordsAt: timeOrNil(v.ReadAt), ZoneTTL: v.ZoneTTL, Ready: v.Standby.Checks, Term: st.Term,
		Rounds: s.metrics.count(), Failures: st.Failures, Successes: st.Successes, PausedUntil: timeOrNil(st.PausedUntil), HeldUntil: timeOrNil(st.HeldUntil),
		WorstCase: budgetStatus{b.total().Seconds(), b.worst().Seconds(), b.String()},
	}
	if out.Ready == nil {
		out.Ready = []failover.Check{}
	}
	out.Opinion = s.opinionStatus(v)
	if st.Goal == failover.Standby {
		out.Return, out.Awaited = v.Return, v.Awaited
	}
	if st.Failures > 0 {
		out.DownSince = timeOrNil(st.DownSince)
	}
	if l := st.Last; l != nil {
		out.LastSwitch = &switchStatus{
			Term: l.Term, To: l.To, Trigger: l.Trigger, Records: recordsStatus(l.Records), Decided: l.Decided,
			Accepted: timeOrNil(l.Accepted), Published: timeOrNil(l.Published), Error: l.Err,
		}
	}
	if in := st.Intent; in != nil {
		out.UnderWay = &switchStatus{
			Term: in.Term, To: in.To, Trigger: in.Trigger, Records: recordsStatus(in.Want), Decided: in.Decided,
			Accepted: timeOrNil(in.Accepted), Published: timeOrNil(in.Published), Error: in.Err,
		}
	}
	for _, addr := range s.cfg.Probe.Prod {
		if r, ok := v.Round.Results[addr]; ok {
			out.Probes = append(out.Probes, probeStatus{addr.String(), r.OK, r.Reason, r.Detail, r.Total.Seconds()})
		}
	}
	return out
}

// problems says what the owner should know about a site, the worst first.
func (s *site) problems(v siteView, bad func(report.State, string, ...any)) {
	st, name := v.State, s.cfg.Name
	switch {
	case st.Phase == failover.Switching:
		err := ""
		if in := st.Intent; in != nil && in.Err != "" {
			err = ": " + in.Err
		}
		bad(report.Failing, "%s: the name is being pointed at the standby%s", name, err)
	case st.Goal == failover.Prod && st.Verdict == failover.Down && st.Alarms[failover.EventCannotSwitch]:
		why := v.Blocked
		if st.Alarms[failover.EventForeignRecords] {
			why = "the zone is not as we know it"
		}
		bad(report.Failing, "%s: prod is down and the name was not moved: %s", name, cmp.Or(why, "it is being looked into"))
	case st.Phase == failover.Failing && st.Verdict == failover.Down:
		bad(report.Degraded, "%s: prod does not answer, %d of %d times so far: %s", name, st.Failures, s.policy.Failures, s.why())
	case st.Phase == failover.Failing && st.Verdict == failover.Up:
		bad(report.Degraded, "%s: prod answers again, %d of %d times so far", name, st.Successes, s.policy.Successes)
	case st.Phase == failover.Held:
		bad(report.Degraded, "%s: held until %s after too many switches in a day; see watchdog resume", name, clock(st.HeldUntil))
	}
	if st.Goal == failover.Standby && st.Phase != failover.Switching {
		bad(report.Degraded, "%s: the standby serves since %s", name, clock(st.Since))
		if len(v.Awaited) > 0 {
			bad(report.Degraded, "%s: it fails back by itself after: %s", name, strings.Join(v.Awaited, "; "))
		}
	}
	if st.Alarms[failover.EventForeignRecords] {
		bad(report.Degraded, "%s: the zone holds records that we did not put there: %s", name, st.Foreign)
	}
	if why := v.Standby.Why(); !v.Standby.Time.IsZero() && why != "" {
		bad(report.Degraded, "%s: the standby is not ready: %s", name, why)
	}
	if v.ReadErr != nil {
		bad(report.Degraded, "%s: the zone cannot be read: %v", name, v.ReadErr)
	}
	if v.Unsaved != nil {
		bad(report.Failing, "%s: nothing will be switched, for the state cannot be kept: %v", name, v.Unsaved)
	}
	if v.Untold != nil {
		bad(report.Degraded, "%s: messages to you cannot be kept: %v", name, v.Untold)
	}
	if st.Alarms[failover.EventProdPartial] {
		bad(report.Degraded, "%s: part of prod does not answer: %s", name, v.Round.Partial)
	}
	if len(v.Rights.Missing()) > 0 {
		bad(report.Failing, "%s: the key at OVH lacks rights; see watchdog check", name)
	}
	if left := v.Answer.NotAfter.Sub(s.now()); !v.Answer.NotAfter.IsZero() && left < certificateWarning {
		bad(report.Degraded, "%s: the standby's certificate ends in %s", name, days(left))
	}
	if b := s.budget(v); b.advice() != "" {
		bad(report.Degraded, "%s: a fail-over takes up to %s; %s", name, short(b.total()), b.advice())
	}
	if st.Paused() {
		bad(report.Degraded, "%s: paused until %s", name, clock(st.PausedUntil))
	}
}

// headline answers the only question asked at night.
func (w *watchdog) headline() string {
	r := w.report()
	if len(r.Problems) > 0 {
		return r.Problems[0]
	}
	return "Prod serves, and the standby is ready"
}

func recordsStatus(r failover.Records) []recordStatus {
	out := []recordStatus{}
	for _, rec := range r {
		kind := "A"
		if rec.Addr.Is6() {
			kind = "AAAA"
		}
		out = append(out, recordStatus{kind, rec.Addr.String(), rec.TTL})
	}
	slices.SortFunc(out, func(a, b recordStatus) int {
		if a.Type != b.Type {
			return len(a.Type) - len(b.Type)
		}
		return slices.Compare([]byte(a.Target), []byte(b.Target))
	})
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
