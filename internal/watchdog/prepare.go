package watchdog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"releve/internal/failover"
)

// `watchdog prepare SITE` lowers the TTLs of prod's records to the configured one while all is well. There is no way
// back but OVH's console: what stands in the zone while prod serves is what a fail-back restores, so that a TTL raised
// there is as good as one lowered here.

// prepare has the records of prod rewritten with the lower TTLs, or says what would be written.
func (s *site) prepare(ctx context.Context, args []string) (string, error) {
	look, cancel := context.WithTimeout(ctx, freshness)
	defer cancel()
	s.readOnce(look)
	if err := s.get().ReadErr; err != nil {
		return "", fmt.Errorf("%s: the zone cannot be read: %w", s.cfg.Name, err)
	}
	zoneTTL, err := s.reader.DefaultTTL(look, s.cfg.Zone)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.cfg.Name, err)
	}
	s.set(func(v *siteView) { v.ZoneTTL = zoneTTL })
	order := failover.Order{Kind: failover.OrderPrepare, ZoneTTL: zoneTTL}
	have := s.get().Records
	would := s.get().State
	if slices.Contains(args, "dry-run") {
		err = s.consider(ctx, order, &would)
	} else {
		err = s.obey(ctx, order)
		would = s.get().State
	}
	switch {
	case err != nil:
		return "", err
	case !would.Prepares():
		return fmt.Sprintf("%s: %s: %s", s.cfg.Name, nothingToDo, have), nil
	}
	return fmt.Sprintf("%s: to be written: %s\nin place of: %s\nresolvers that asked before may keep those for up to %s more",
		s.cfg.Name, would.Intent.Want, have, short(longestTTL(have, zoneTTL))), nil
}

// consider says what an order would lead to, and does nothing about it.
func (s *site) consider(ctx context.Context, o failover.Order, would *failover.State) error {
	var answer error
	err := s.call(ctx, func(now failover.Observation) {
		*would, answer = failover.Obey(s.state, now, s.policy, o)
	})
	if err != nil {
		return err
	}
	return s.refusal(answer)
}

// nothingToDo is in the answer to an order after which there is nothing to wait for.
const nothingToDo = "nothing to do"

// prepare is the command line's side: it waits until the name servers serve the lower TTLs.
func (r remote) prepare(ctx context.Context, args prepareArgs) error {
	words := []string{args.Site}
	if args.DryRun {
		words = append(words, "dry-run")
	}
	began := time.Now()
	answer, err := r.say(ctx, "prepare", words...)
	if err != nil || args.DryRun || strings.Contains(answer, nothingToDo) {
		return err
	}
	return r.watch(ctx, args.Site, func(s siteStatus) (done bool, line string, err error) {
		switch {
		case s.State == failover.Switching || s.State == failover.FailedOver:
			return true, "", fmt.Errorf("%s: prod failed meanwhile, and the switch goes first", args.Site)
		case s.UnderWay != nil:
			return false, stage(*s.UnderWay), nil
		case !lowTTLs(s, r.ttl(args.Site)):
			return true, "", fmt.Errorf("%s: given up; see watchdog status", args.Site)
		}
		return true, fmt.Sprintf("published after %s", short(time.Since(began))), nil
	})
}

func (r remote) ttl(site string) int64 {
	for _, s := range r.cfg.Sites {
		if s.Name == site {
			return s.TTL
		}
	}
	return 0
}

// lowTTLs reports whether no record of the site has a TTL above ttl.
func lowTTLs(s siteStatus, ttl int64) bool {
	return !slices.ContainsFunc(s.Records, func(r recordStatus) bool {
		return r.TTL > ttl || r.TTL == 0 && s.ZoneTTL > ttl
	})
}

// stage says in one line how far a write has come.
func stage(u switchStatus) string {
	switch {
	case u.Accepted != nil:
		return fmt.Sprintf("accepted by OVH after %s; waiting for the name servers", short(u.Accepted.Sub(u.Decided)))
	case u.Error != "":
		return "not yet: " + u.Error
	}
	return "waiting for OVH to accept it"
}

// watch shows how a site gets on until look says that it is done, or for as long as is sensible.
func (r remote) watch(ctx context.Context, site string, look func(siteStatus) (done bool, line string, err error)) error {
	return r.follow(ctx, func(st statusReport) (done bool, line string, err error) {
		i := slices.IndexFunc(st.Sites, func(s siteStatus) bool { return s.Name == site })
		if i < 0 {
			return true, "", fmt.Errorf("the running watchdog has no site %q; restart it", site)
		}
		return look(st.Sites[i])
	})
}

// follow shows how the watchdog gets on.
func (r remote) follow(ctx context.Context, look func(statusReport) (done bool, line string, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, watchFor, fmt.Errorf("not published after %s; the watchdog goes on trying", watchFor))
	defer cancel()
	said := ""
	for {
		var st statusReport
		if err := r.client().Fetch(ctx, &st); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		done, line, err := look(st)
		if line != said && line != "" {
			fmt.Fprintln(r.env.Stdout, line)
			said = line
		}
		if done || err != nil {
			return err
		}
		if !wait(ctx, watchEvery, nil) {
			return context.Cause(ctx)
		}
	}
}

// refusal is the answer to an order as the owner reads it.
func (s *site) refusal(answer error) error {
	refusal, ok := errors.AsType[*failover.Refusal](answer)
	if !ok {
		return answer
	}
	text := s.cfg.Name + ": refused: " + refusal.Why
	if refusal.Forcible {
		text += "; --force overrides this"
	}
	return errors.New(text)
}
