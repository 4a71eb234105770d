package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// promise is DESIGN's: from production's death to an accepted refresh of the zone, with the default configuration.
const promise = 45 * time.Second

// cutLine takes the home's own line away. Production looks dead from there, and must not be held for it.
func (s *story) cutLine(ctx context.Context) error {
	s.say.heading("The home's own line is cut")
	var st watchdogStatus
	look := func() error {
		st = watchdogStatus{}
		return s.dog.status(ctx, &st)
	}
	if err := look(); err != nil {
		return err
	}
	from := st.Sites[0].Rounds
	s.w.cutLine(true)
	s.say.text("every probe of production fails now, and so does each of the watchdog's references")
	s.say.aside("(OVH's API goes on answering in this demo, so that nothing but the watchdog's judgement keeps it from a switch.)")
	const rounds = 3
	err := s.await(ctx, fmt.Sprintf("%d rounds of probes that say nothing of production", rounds), 40*time.Second, 250*time.Millisecond, func() (bool, string) {
		if err := look(); err != nil {
			return false, err.Error()
		}
		site := st.Sites[0]
		// The round that was under way when the line was cut may have seen production well.
		return st.Uplink == "down" && site.Verdict == "unknown" && site.Rounds >= from+rounds+1, fmt.Sprintf("%+v", st)
	})
	if err != nil {
		return err
	}
	published, err := s.w.published(ctx)
	if err != nil {
		return err
	}
	if site := st.Sites[0]; site.Failures != 0 || site.State != "normal" || published != s.before {
		return fmt.Errorf("expected: no failure counted, nothing switched\ninstead: %d failures, state %s, the zone holds %s", site.Failures, site.State, published)
	}
	s.say.good("%d rounds of failed probes: verdict “unknown”, no failure counted, the zone untouched", rounds)
	began := time.Now()
	s.w.cutLine(false)
	err = s.await(ctx, "the watchdog to see production again", 30*time.Second, 100*time.Millisecond, func() (bool, string) {
		if err := look(); err != nil {
			return false, err.Error()
		}
		site := st.Sites[0]
		return site.Verdict == "up" && site.ready() && st.Home.IPv4 == home1, fmt.Sprintf("%+v", st)
	})
	if err != nil {
		return err
	}
	s.say.timed(time.Since(began), "the line is back: production is “up” again")
	return nil
}

// failOver kills production and follows what comes of it.
func (s *story) failOver(ctx context.Context) error {
	s.say.heading("Production dies")
	s.messages()
	killed := time.Now()
	s.w.killProd()
	if _, err := s.w.visit(ctx, "/"); err == nil {
		return errors.New("expected: no answer from a dead production; instead: one")
	}
	s.say.text("production's ports are closed; visitors see nothing")
	want := fmt.Sprintf("A %s ttl 60", home1)
	if err := s.publishedIs(ctx, want, promise+publishDelay); err != nil {
		return err
	}
	took := time.Since(killed)
	s.say.timed(took, "the name server serves %s", want)
	if len(s.w.prod) > 1 {
		s.say.aside("and no AAAA record any more, for the home has no IPv6")
	}
	if err := s.explain(ctx, killed); err != nil {
		return err
	}
	if err := s.opens(ctx, "the standby", home1); err != nil {
		return err
	}
	s.say.aside("under its own name, with a certificate that is valid for it: the renewed one. (The visitor asked the name server.")
	s.say.aside("What leads from %s to the standby here is the demo, in the part of the router at home.)", home1)
	if err := s.told(ctx); err != nil {
		return err
	}
	return s.holds(ctx, killed)
}

// holds waits until the agent knows who serves, and pushes nothing over it.
func (s *story) holds(ctx context.Context, killed time.Time) error {
	err := s.await(ctx, "the agent to hear that the standby serves", soon, 100*time.Millisecond, func() (bool, string) {
		var st agentStatus
		if err := s.agent.status(ctx, &st); err != nil {
			return false, err.Error()
		}
		b := st.Backups[0]
		return b.Serving == "standby" && b.Holding != "", fmt.Sprintf("%+v", b)
	})
	if err == nil {
		s.say.timed(time.Since(killed), "the agent has heard of it too, and pushes nothing over what the standby serves")
	}
	return err
}

// explain says where the time went.
func (s *story) explain(ctx context.Context, killed time.Time) error {
	var st watchdogStatus
	err := s.await(ctx, "the watchdog to see the switch published", 30*time.Second, 100*time.Millisecond, func() (bool, string) {
		st = watchdogStatus{}
		if err := s.dog.status(ctx, &st); err != nil {
			return false, err.Error()
		}
		last := st.Sites[0].LastSwitch
		return st.Sites[0].State == "failed_over" && last != nil && last.Accepted != nil && last.Published != nil, fmt.Sprintf("%+v", st.Sites[0])
	})
	if err != nil {
		return err
	}
	last := st.Sites[0].LastSwitch
	s.say.aside("five probes in a row had failed after %s; OVH accepted the change %s later; published %s after that",
		short(last.Decided.Sub(killed)), short(last.Accepted.Sub(last.Decided)), short(last.Published.Sub(*last.Accepted)))
	if d := last.Accepted.Sub(killed); d > promise {
		return fmt.Errorf("expected: the switch accepted by OVH within %s; instead: after %s", short(promise), short(d))
	}
	return nil
}

// opens visits the site under its own name, and wants it from an address, with the latest certificate.
func (s *story) opens(ctx context.Context, who, address string) error {
	v, err := s.w.visit(ctx, "/")
	if err != nil {
		return fmt.Errorf("expected: the site, from %s; instead: %w", who, err)
	}
	if v.Address != address || v.Status != 200 || !strings.Contains(v.Body, "A site worth keeping up") || v.Serial != s.serial {
		return fmt.Errorf("expected: the site from %s at %s; instead: status %d from %s, certificate %s, body %q", who, address, v.Status, v.Address, v.Serial, v.Body)
	}
	s.say.timed(v.Took, "%s opens, from %s, at %s", s.w.url("/"), who, v.Address)
	return nil
}

// told wants one message by each of the watchdog's channels since the last one that was shown.
func (s *story) told(ctx context.Context) error {
	count := func() (ifttt, mail int) {
		for _, m := range s.w.inbox.all()[s.shown:] {
			switch {
			case m.Via == "IFTTT":
				ifttt++
			case m.From == watchdogMail:
				mail++
			}
		}
		return ifttt, mail
	}
	err := s.await(ctx, "one message by IFTTT and one by mail", 30*time.Second, 50*time.Millisecond, func() (bool, string) {
		ifttt, mail := count()
		return ifttt >= 1 && mail >= 1, fmt.Sprintf("%d and %d", ifttt, mail)
	})
	if err != nil {
		return err
	}
	if ifttt, mail := count(); ifttt != 1 || mail != 1 {
		return fmt.Errorf("expected: one message by IFTTT and one by mail; instead: %d and %d: %v", ifttt, mail, s.w.inbox.all()[s.shown:])
	}
	s.say.good("the owner was told, once by each channel:")
	s.messages()
	return nil
}

// followHome gives the house another address.
func (s *story) followHome(ctx context.Context) error {
	s.say.heading("The home gets another address")
	began := time.Now()
	s.w.moveHome(home2)
	if _, err := s.w.visit(ctx, "/"); err == nil {
		return fmt.Errorf("expected: nobody at %s any more; instead: an answer", home1)
	}
	s.say.text("the provider takes %s away; visitors are led nowhere", home1)
	want := fmt.Sprintf("A %s ttl 60", home2)
	if err := s.publishedIs(ctx, want, time.Minute+publishDelay); err != nil {
		return err
	}
	s.say.timed(time.Since(began), "the name server serves %s", want)
	return s.opens(ctx, "the standby", home2)
}

// failBack brings production back, first its machine and then its name.
func (s *story) failBack(ctx context.Context) error {
	s.say.heading("Production comes back")
	away := fmt.Sprintf("A %s ttl 60", home2)
	var st watchdogStatus
	if err := s.dog.status(ctx, &st); err != nil {
		return err
	}
	from := st.Sites[0].Rounds
	if err := s.w.reviveProd(); err != nil {
		return err
	}
	if err := put(filepath.Join(s.w.webroot, "index.html"), []byte(page("third")), 0o644); err != nil {
		return err
	}
	const rounds = 3
	err := s.await(ctx, fmt.Sprintf("production to be “up” for %d rounds", rounds), 40*time.Second, 250*time.Millisecond, func() (bool, string) {
		st = watchdogStatus{}
		if err := s.dog.status(ctx, &st); err != nil {
			return false, err.Error()
		}
		return st.Sites[0].Verdict == "up" && st.Sites[0].Rounds > from+rounds, fmt.Sprintf("%+v", st.Sites[0])
	})
	if err != nil {
		return err
	}
	published, err := s.w.published(ctx)
	if err != nil {
		return err
	}
	if st.Sites[0].Serving != "standby" || published != away {
		return fmt.Errorf("expected: the standby to serve until it is told otherwise; instead: %s serves, the zone holds %s", st.Sites[0].Serving, published)
	}
	s.say.good("production answers again, and nothing is switched: by default, fail-back is by hand")
	front := func(dir string) string { return filepath.Join(dir, "index.html") }
	replica := filepath.Join(s.w.replica, "webroot")
	if sameContent(front(s.w.webroot), front(replica)) {
		return errors.New("expected: a page edited on production to be held back while the standby serves; instead: it is on the replica")
	}
	s.say.good("index.html was edited on production meanwhile, and is held back")

	s.say.command("watchdog failback " + siteName)
	began := time.Now()
	output, err := s.dog.run(ctx, "failback", siteName)
	if err != nil {
		return err
	}
	returned := time.Now()
	s.say.quote(output)
	if err := s.publishedIs(ctx, s.before, time.Second); err != nil {
		return err
	}
	if got := s.w.records(); got != s.before {
		return fmt.Errorf("expected: exactly the records from before, %s; instead: %s", s.before, got)
	}
	s.say.timed(returned.Sub(began), "exactly the records from before: %s", s.before)
	if err := s.opens(ctx, "production", prodIPv4); err != nil {
		return err
	}
	if err := s.told(ctx); err != nil {
		return err
	}
	took, err := s.arrives(ctx, "the edited index.html", returned, func() bool { return sameContent(front(s.w.webroot), front(replica)) })
	if err != nil {
		return err
	}
	s.say.timed(took, "the agent has heard of it: the edited index.html is on the replica")
	return s.identical(ctx, "webroot")
}
