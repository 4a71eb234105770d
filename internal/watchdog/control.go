package watchdog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/report"
)

// control is what the command line may have the daemon do.
func (w *watchdog) control() map[string]report.Command {
	obey := func(run func(context.Context, *site, []string) (string, error)) report.Command {
		return func(ctx context.Context, args []string) (string, error) {
			if len(args) == 0 {
				return "", errors.New("which site?")
			}
			s, err := w.site(args[0])
			if err != nil {
				return "", err
			}
			return run(ctx, s, args[1:])
		}
	}
	return map[string]report.Command{
		"failover": obey(func(ctx context.Context, s *site, args []string) (string, error) {
			return s.obeyMove(ctx, failover.Order{Kind: failover.OrderFailover, Force: slices.Contains(args, "force")})
		}),
		"failback": obey(func(ctx context.Context, s *site, args []string) (string, error) {
			return s.obeyMove(ctx, failover.Order{Kind: failover.OrderFailback, Force: slices.Contains(args, "force")})
		}),
		"pause": obey(func(ctx context.Context, s *site, args []string) (string, error) {
			if len(args) != 1 {
				return "", errors.New("for how long?")
			}
			d, err := time.ParseDuration(args[0])
			if err != nil {
				return "", fmt.Errorf("for how long? %w", err)
			}
			until := s.now().Add(d)
			if err := s.obey(ctx, failover.Order{Kind: failover.OrderPause, Until: until}); err != nil {
				return "", err
			}
			return fmt.Sprintf("%s: nothing is switched unasked until %s", s.cfg.Name, clock(until)), nil
		}),
		"dyndns":  w.dyndns.obey,
		"prepare": obey(func(ctx context.Context, s *site, args []string) (string, error) { return s.prepare(ctx, args) }),
		"resume": obey(func(ctx context.Context, s *site, _ []string) (string, error) {
			if err := s.obey(ctx, failover.Order{Kind: failover.OrderResume}); err != nil {
				return "", err
			}
			return s.cfg.Name + ": the watchdog acts by itself again", nil
		}),
	}
}

func (w *watchdog) site(name string) (*site, error) {
	var known []string
	for _, s := range w.sites {
		if s.cfg.Name == name {
			return s, nil
		}
		known = append(known, s.cfg.Name)
	}
	return nil, fmt.Errorf("there is no site %q; the configuration has %s", name, strings.Join(known, ", "))
}

// freshness bounds the looks that precede an order.
const freshness = 15 * time.Second

// obeyMove looks at the standby and the zone as they are now, and then decides whether to obey.
func (s *site) obeyMove(ctx context.Context, o failover.Order) (string, error) {
	look, cancel := context.WithTimeout(ctx, freshness)
	defer cancel()
	s.readOnce(look)
	if o.Kind == failover.OrderFailover {
		s.lookAtStandby(look)
	}
	found := s.get().Records
	if err := s.obey(ctx, o); err != nil {
		return "", err
	}
	v := s.get()
	in := v.State.Intent
	switch {
	case in != nil && !in.Follow:
		text := fmt.Sprintf("%s: pointing the name at %s: %s", s.cfg.Name, whose(in.To), in.Want)
		if len(found) > 0 {
			text += "\nin place of: " + found.String()
		}
		return text, nil
	case o.Kind == failover.OrderFailover:
		return s.cfg.Name + ": the standby serves already; it keeps the name until failback", nil
	}
	return s.cfg.Name + ": prod has the name already", nil
}

// obey has the loop carry an order out. The answer is on disk when it returns.
func (s *site) obey(ctx context.Context, o failover.Order) error {
	var answer error
	err := s.call(ctx, func(now failover.Observation) {
		var next failover.State
		next, answer = failover.Obey(s.state, now, s.policy, o)
		if answer != nil {
			return
		}
		s.log.Info("order", "kind", string(o.Kind), "force", o.Force)
		s.become(next)
		if s.unsaved != nil {
			answer = fmt.Errorf("%w: %w", errUnsaved, s.unsaved)
		}
	})
	if err != nil {
		return err
	}
	return s.refusal(answer)
}
