package watchdog

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
)

// askAgainMost bounds the pauses between two questions to others. They begin with the site's pace, half a minute with
// the default interval, and double: with 5 points, the first hour of an outage costs some 80 of the 250 tests that
// Globalping gives an address.
const askAgainMost = 5 * time.Minute

// watchOutside asks others what they see of prod when the loop wants to know, and no more often than is polite.
func (s *site) watchOutside(ctx context.Context) error {
	pace := politeness{first: s.pace, most: askAgainMost}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.askOthers:
		}
		began := s.now()
		if began.Before(pace.next) {
			continue // the loop goes on wanting to know
		}
		r := s.cfg.Opinion.Outside.Ask(ctx, s.outsideTargets())
		if ctx.Err() != nil {
			return nil
		}
		v := failover.Opinion{Asked: began, Verdict: verdictOf(r.State), Why: r.Why}
		s.log.Info("others were asked", "verdict", string(v.Verdict), "why", v.Why, "took", s.now().Sub(began).Round(time.Millisecond))
		s.metrics.asked(v.Verdict)
		s.learn(ctx, v)
		pace.asked(s.now(), r.After)
	}
}

// learn shows the loop what others see. That they did not answer this time does not undo what they said a while ago.
func (s *site) learn(ctx context.Context, v failover.Opinion) {
	s.send(ctx, func(o *failover.Observation) {
		old := s.opinion
		fresh := v.Asked.Sub(old.Asked) < 2*askAgainMost && !old.Asked.Before(s.state.DownSince)
		if v.Verdict == failover.Unknown && old.Verdict != failover.Unknown && fresh {
			return
		}
		s.opinion = v
		o.Outside = v
	})
}

// outsideTargets are the addresses that decide whether prod is down: see [failover.Judge].
func (s *site) outsideTargets() []probe.Target {
	var four, all []probe.Target
	for _, addr := range s.cfg.Probe.Prod {
		t := s.target
		t.Address = hostPort(addr, t)
		all = append(all, t)
		if addr.Unmap().Is4() {
			four = append(four, t)
		}
	}
	if len(four) > 0 {
		return four
	}
	return all
}

func verdictOf(s probe.State) failover.Verdict {
	switch s {
	case probe.Up:
		return failover.Up
	case probe.Down:
		return failover.Down
	}
	return failover.Unknown
}

// politeness is when others may be asked again.
type politeness struct {
	first, most time.Duration
	next        time.Time
	pause       time.Duration
}

// asked takes in that they have been, until now, and want to be left alone for a while. After a long time without a
// question the pauses are short again.
func (p *politeness) asked(now time.Time, leaveAlone time.Duration) {
	if p.pause == 0 || now.Sub(p.next) > 2*p.most {
		p.pause = p.first
	} else {
		p.pause = min(2*p.pause, p.most)
	}
	p.next = now.Add(max(p.pause, leaveAlone))
}

// outsideWait is how long after the first failure others are waited for: they are asked after the second.
func outsideWait(c Site) time.Duration {
	rounds := min(failover.OutsideAfter, c.Probe.Failures) - 1
	return time.Duration(rounds)*c.Probe.Interval + c.Opinion.Outside.Timeout
}

// opinionStatus is what others see, in `status --json`.
type opinionStatus struct {
	Mode    failover.Outside `json:"mode"`
	Asked   *time.Time       `json:"asked"` // nil = not since the start
	Verdict failover.Verdict `json:"verdict"`
	Why     string           `json:"why"`
}

func (s *site) opinionStatus(v siteView) *opinionStatus {
	mode := s.cfg.Opinion.Mode
	if mode == failover.OutsideOff {
		return nil
	}
	o := v.Opinion
	return &opinionStatus{mode, timeOrNil(o.Asked), cmp.Or(o.Verdict, failover.Unknown), o.Why}
}

// text is it in one line.
func (o opinionStatus) text(now time.Time) string {
	if o.Asked == nil {
		return fmt.Sprintf("not asked yet: only when prod fails (%s)", o.Mode)
	}
	return fmt.Sprintf("%s, asked %s ago: %s", o.Verdict, short(now.Sub(*o.Asked)), o.Why)
}
