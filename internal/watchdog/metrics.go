package watchdog

import (
	"io"
	"runtime"
	"sync"

	"releve/internal/failover"
	"releve/internal/probe"
	"releve/internal/publicip"
	"releve/internal/report"
)

// siteMetrics counts what a moment's view does not show.
type siteMetrics struct {
	mu       sync.Mutex
	rounds   int
	failures map[[2]string]int // by address and reason
	switches map[[2]string]int // by direction and trigger
	opinions map[failover.Verdict]int
}

func newSiteMetrics() *siteMetrics {
	return &siteMetrics{failures: map[[2]string]int{}, switches: map[[2]string]int{}, opinions: map[failover.Verdict]int{}}
}

func (m *siteMetrics) probed(r round) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rounds++
	for addr, res := range r.Results {
		if !res.OK {
			m.failures[[2]string{addr.String(), string(res.Reason)}]++
		}
	}
}

func (m *siteMetrics) asked(v failover.Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opinions[v]++
}

func (m *siteMetrics) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rounds
}

func (m *siteMetrics) switched(w failover.Switch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.switches[[2]string{string(w.To), string(w.Trigger)}]++
}

// apiCalls counts the calls to OVH's API. The zero value is good; it is safe for concurrent use.
type apiCalls struct {
	mu    sync.Mutex
	calls map[[2]string]int // by method and result
}

func (c *apiCalls) made(method, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[[2]string]int{}
	}
	c.calls[[2]string{method, result}]++
}

func (c *apiCalls) write(out *report.Metrics) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.calls {
		out.Counter("watchdog_dns_api_requests_total", "Calls to OVH's API, by what became of them.", float64(n), "method", k[0], "result", k[1])
	}
}

// writeMetrics answers /metrics.
func (w *watchdog) writeMetrics(out io.Writer) {
	var m report.Metrics
	r := w.report()
	m.Gauge("watchdog_build_info", "The version of the watchdog.", 1, "version", r.Version, "goversion", runtime.Version())
	m.Gauge("watchdog_start_timestamp_seconds", "When the watchdog started.", float64(w.begun.Unix()))
	m.Bool("watchdog_uplink_up", "Whether our own line works.", r.Uplink == string(probe.Up))
	m.Bool("watchdog_public_ip_agreed", "Whether independent sources agree on our public address.", r.Home.Agreed)
	for family, ip := range map[string]string{"ipv4": r.Home.IPv4, "ipv6": r.Home.IPv6} {
		if ip != "" {
			m.Gauge("watchdog_public_ip_info", "Our public address.", 1, "family", family, "ip", ip)
		}
	}
	for family, n := range map[string]int{"ipv4": w.home.changes(publicip.IPv4), "ipv6": w.home.changes(publicip.IPv6)} {
		m.Counter("watchdog_home_address_changes_total", "How often our public address became another one.", float64(n), "family", family)
	}
	w.calls.write(&m)
	w.dyndns.writeMetrics(&m)
	m.Gauge("watchdog_outbox_pending", "Messages not delivered yet.", float64(r.Pending))
	for _, c := range w.outbox.Counts() {
		for result, n := range map[string]int{"delivered": c.Delivered, "failed": c.Failed, "expired": c.Expired} {
			m.Counter("watchdog_messages_total", "Messages delivered and given up, and attempts that failed.", float64(n), "channel", c.Channel, "result", result)
		}
	}
	if w.deadman != nil {
		state := w.deadman.State()
		m.Counter("watchdog_deadman_pings_total", "Pings of the dead-man's switch.", float64(state.Succeeded), "result", "ok")
		m.Counter("watchdog_deadman_pings_total", "Pings of the dead-man's switch.", float64(state.Failed), "result", "failed")
	}
	for _, s := range w.sites {
		s.writeMetrics(&m, s.get())
	}
	_, _ = m.WriteTo(out) // a reader that hangs up is no concern of ours
}

func (s *site) writeMetrics(m *report.Metrics, v siteView) {
	st, name := v.State, s.cfg.Name
	for _, p := range []failover.Phase{failover.Normal, failover.Failing, failover.Switching, failover.FailedOver, failover.Returning, failover.Held} {
		m.Bool("watchdog_state", "The state of a site, 1 for the present one.", st.Phase == p, "site", name, "state", string(p))
	}
	m.Gauge("watchdog_state_since_timestamp_seconds", "Since when a site is in its state.", float64(st.Since.Unix()), "site", name)
	m.Bool("watchdog_standby_serving", "Whether the name leads to the standby.", st.Serving == failover.Standby, "site", name)
	m.Gauge("watchdog_consecutive_failures", "Rounds in a row in which prod was down, up to the threshold.", float64(st.Failures), "site", name)
	for _, addr := range s.cfg.Probe.Prod {
		res, ok := v.Round.Results[addr]
		if !ok {
			continue
		}
		family := "ipv4"
		if addr.Is6() {
			family = "ipv6"
		}
		labels := []string{"site", name, "target", addr.String(), "family", family}
		m.Bool("watchdog_probe_success", "Whether prod answered at an address.", res.OK, labels...)
		m.Gauge("watchdog_probe_duration_seconds", "How long the last probe took.", res.Total.Seconds(), labels...)
		for phase, d := range map[string]float64{"connect": res.Connect.Seconds(), "tls": res.TLS.Seconds(), "first_byte": res.FirstByte.Seconds()} {
			m.Gauge("watchdog_probe_phase_seconds", "How long the phases of the last probe took.", d, append(labels, "phase", phase)...)
		}
		if !res.NotAfter.IsZero() {
			m.Gauge("watchdog_probe_certificate_expiry_timestamp_seconds", "When prod's certificate ends.", float64(res.NotAfter.Unix()), labels...)
		}
	}
	for _, c := range v.Standby.Checks {
		m.Bool("watchdog_backup_ready", "Whether the standby passes a check.", c.OK, "site", name, "check", c.Name)
	}
	if !v.Answer.NotAfter.IsZero() {
		m.Gauge("watchdog_backup_certificate_expiry_timestamp_seconds", "When the standby's certificate ends.", float64(v.Answer.NotAfter.Unix()), "site", name)
	}
	m.Bool("watchdog_dns_in_sync", "Whether the zone holds what we mean it to.", v.ReadErr == nil && st.Intent == nil && !st.Alarms[failover.EventForeignRecords], "site", name)
	if took := s.delays.last(s.cfg.Zone); took > 0 {
		m.Gauge("watchdog_dns_publish_seconds", "How long the name servers took to serve the last change that OVH accepted.", took.Seconds(), "site", name)
	}
	m.Gauge("watchdog_worst_case_seconds", "How long a fail-over may take, as configured and measured.", s.budget(v).total().Seconds(), "site", name)
	if !v.Rights.Expires.IsZero() {
		m.Gauge("watchdog_credential_expiry_timestamp_seconds", "When the key at OVH ends.", float64(v.Rights.Expires.Unix()), "site", name)
	}
	m.Gauge("watchdog_term", "Counts the switches of a site.", float64(st.Term), "site", name)
	s.metrics.write(m, name)
}

func (m *siteMetrics) write(out *report.Metrics, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out.Counter("watchdog_probe_rounds_total", "Looks at prod.", float64(m.rounds), "site", name)
	for k, n := range m.failures {
		out.Counter("watchdog_probe_failures_total", "Probes that failed, by reason.", float64(n), "site", name, "target", k[0], "reason", k[1])
	}
	for v, n := range m.opinions {
		out.Counter("watchdog_opinions_total", "Times that others were asked what they see of prod.", float64(n), "site", name, "verdict", string(v))
	}
	for k, n := range m.switches {
		out.Counter("watchdog_switches_total", "Switches published.", float64(n), "site", name, "direction", k[0], "trigger", k[1])
	}
}
