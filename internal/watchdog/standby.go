package watchdog

import (
	"context"
	"fmt"
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
)

// certificateWarning is how long before its end a certificate is worth a message. Let's Encrypt's are renewed 30 days
// before; three weeks later something is wrong.
const certificateWarning = 10 * 24 * time.Hour

// watchStandby keeps the readiness of the standby fresh.
func (s *site) watchStandby(ctx context.Context) error {
	for {
		pause := s.pace
		if !s.lookAtStandby(ctx) {
			pause = s.cfg.Probe.Interval // what is missing may come any moment: the first replica, for one
		}
		if !wait(ctx, pause, s.asked) {
			return nil
		}
	}
}

// lookAtStandby asks once, has told the loop when it returns, and reports whether the standby is ready.
func (s *site) lookAtStandby(ctx context.Context) bool {
	began := s.now()
	checks, answer := s.askStandby(ctx)
	if ctx.Err() != nil {
		return false
	}
	ready := failover.Readiness{Time: began, Checks: checks}
	returns := returnChecks(s.cfg, s.control, began)
	s.set(func(v *siteView) { v.Answer = answer })
	s.send(ctx, func(o *failover.Observation) {
		if ready.Time.Before(s.standby.Time) {
			return // two may be under way
		}
		s.standby, s.returns = ready, returns
		o.Standby, o.Return = ready, returns
	})
	s.warnOfCertificate(answer)
	return ready.Ready()
}

// askStandby goes through the checklist: all that must hold before the name may lead to the standby.
func (s *site) askStandby(ctx context.Context) ([]failover.Check, probe.Result) {
	checks, r := standbyChecks(ctx, s.target, s.cfg.StandbyAddress, s.now())
	checks = append(checks, homeCheck(s.home.get()))
	return append(checks, replicaChecks(s.cfg, s.control, s.get().State, s.now())...), r
}

// standbyChecks asks the standby for the site, by the site's own name.
func standbyChecks(ctx context.Context, t probe.Target, address string, now time.Time) ([]failover.Check, probe.Result) {
	t.Address = address
	r := probe.Check(ctx, t)
	answer := failover.Check{Name: "answer", OK: r.OK || r.Reason == probe.ReasonCertificate}
	if !answer.OK {
		answer.Why = r.Detail
	}
	checks := []failover.Check{answer}
	if t.URL.Scheme == "https" && (answer.OK || !r.NotAfter.IsZero()) {
		checks = append(checks, certificateCheck(r, now))
	}
	return checks, r
}

func certificateCheck(r probe.Result, now time.Time) failover.Check {
	c := failover.Check{Name: "certificate", OK: r.Reason != probe.ReasonCertificate}
	switch {
	case !c.OK:
		c.Why = r.Detail
	case r.NotAfter.IsZero():
		c.OK, c.Why = false, "none was seen"
	default:
		c.Why = fmt.Sprintf("valid for %s", days(r.NotAfter.Sub(now)))
	}
	return c
}

func homeCheck(view homeView) failover.Check {
	c := failover.Check{Name: "home address", OK: len(view.addrs()) > 0}
	if c.OK {
		c.Why = joinAddrs(view.addrs())
	} else {
		c.Why = "not known: IPv4: " + view.IPv4.Why + ", IPv6: " + view.IPv6.Why
	}
	return c
}

// warnOfCertificate tells the owner, once, that the standby's certificate runs out. An invalid one makes the standby
// not ready, which is another message.
func (s *site) warnOfCertificate(r probe.Result) {
	key := "certificate-" + s.cfg.Name
	switch left := r.NotAfter.Sub(s.now()); {
	case r.NotAfter.IsZero():
	case left > certificateWarning:
		s.alarms.clear(key)
	case left > 0:
		s.alarms.raise(key, s.certificateMessage(r.NotAfter, left))
	}
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
