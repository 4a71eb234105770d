package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"releve/test/treecmp"
)

// story is the world with both daemons in it, and how far it has been told.
type story struct {
	say        *narrator
	w          *world
	agent, dog *program
	pages      pages

	before string // the site's records before anything happened
	serial string // of the latest certificate
	shown  int    // how many messages to the owner were shown
}

// newStory writes the configurations. The programs are those in the folder bin.
func newStory(say *narrator, w *world, bin string) (*story, error) {
	p, err := w.writeConfigs()
	if err != nil {
		return nil, err
	}
	daemon := func(name string) *program {
		return &program{name: name, path: filepath.Join(bin, name), config: w.path(name + ".toml"), log: w.path(name + ".log")}
	}
	return &story{say: say, w: w, agent: daemon("syncagent"), dog: daemon("watchdog"), pages: p, before: w.records()}, nil
}

// close ends whatever still runs.
func (s *story) close() {
	for _, p := range []*program{s.dog, s.agent} {
		known := p.died() != nil // and said
		if err := p.stop(); err != nil && !known {
			s.say.fail(err)
		}
	}
}

// showLogs prints the ends of both logs, for whoever has to find out what went wrong.
func (s *story) showLogs() {
	for _, p := range []*program{s.agent, s.dog} {
		s.say.text("")
		s.say.text("The end of what %s logged:", p.name)
		s.say.quote(p.logTail(25))
	}
}

// tell plays the story, up to the first step that does not hold.
func (s *story) tell(ctx context.Context) error {
	s.introduce()
	for _, step := range []func(context.Context) error{
		s.firstSync, s.check, s.edit, s.deploy, s.renew, s.cutLine, s.failOver, s.followHome, s.failBack,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) introduce() {
	w, say := s.w, s.say
	say.heading("The world")
	say.text("production  %s on %s", w.url("/"), strings.Join(w.prodAddrs(), " and "))
	say.text("            its files: %s", filepath.Dir(w.webroot))
	say.text("SSH         the bastion %s, which alone can reach %s and its SFTP server", w.ssh.BastionAddr, w.ssh.BackupName)
	say.text("standby     at home, on %s, serves the replica: %s", w.standby.Addr(), w.replica)
	say.text("home        has the public address %s, as two independent services say", w.home)
	say.text("OVH         the API %s, which verifies signatures and publishes after %s", w.endpoint, short(publishDelay))
	say.text("DNS         the zone's name server %s: %s", w.nsAddr, s.before)
	say.text("the owner   mail server %s, IFTTT %s", w.inbox.mailAddr, w.inbox.iftttURL)
	say.aside("(All of it lives in the demo's process and listens on loopback. The two daemons are processes of their own, with")
	say.aside("the configurations %s and the default timings.)", filepath.Join(w.dir, "{syncagent,watchdog}.toml"))
}

// end stops both daemons, in a world that still stands.
func (s *story) end() error {
	s.say.heading("The end")
	for _, p := range []*program{s.dog, s.agent} {
		began := time.Now()
		if err := p.stop(); err != nil {
			return err
		}
		s.say.timed(time.Since(began), "%s ended in order", p.name)
	}
	return nil
}

// check runs the check command of both programs.
func (s *story) check(ctx context.Context) error {
	s.say.heading("Is everything in place?")
	if err := s.dog.start(); err != nil {
		return err
	}
	s.say.command("watchdog run &")
	var st watchdogStatus
	err := s.await(ctx, "the watchdog to find prod up and the standby ready", 30*time.Second, 100*time.Millisecond, func() (bool, string) {
		if err := s.dog.status(ctx, &st); err != nil {
			return false, err.Error()
		}
		site := st.Sites[0]
		return site.Verdict == "up" && site.ready(), fmt.Sprintf("%+v", site)
	})
	if err != nil {
		return err
	}
	for _, p := range []*program{s.agent, s.dog} {
		s.say.command(p.name + " check")
		began := time.Now()
		output, err := p.run(ctx, "check")
		if err != nil {
			return fmt.Errorf("expected: every check to pass; instead: %w", err)
		}
		passed := 0
		for line := range strings.Lines(output) {
			if strings.HasPrefix(line, "✓") {
				passed++
			} else if strings.HasPrefix(line, "!") {
				s.say.quote(line)
			}
		}
		s.say.timed(time.Since(began), "all %d checks passed", passed)
	}
	return nil
}

// await polls until ok is true. The error is what was expected, and what was there instead. A daemon that ends
// meanwhile is an error at once.
func (s *story) await(ctx context.Context, what string, within, every time.Duration, ok func() (bool, string)) error {
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	shown := began
	for {
		good, instead := ok()
		if good {
			return nil
		}
		if err := errors.Join(s.agent.died(), s.dog.died()); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(shown) >= time.Second {
			shown = now
			s.say.progress("waiting for "+what, now.Sub(began))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return fmt.Errorf("expected within %s: %s\ninstead: %s", short(within), what, instead)
		case <-tick.C:
		}
	}
}

// identical compares source and replica of a folder, with eyes that share nothing with the daemons.
func (s *story) identical(ctx context.Context, folder string) error {
	source := map[string]string{"webroot": s.w.webroot, "letsencrypt": s.w.letsencrypt}[folder]
	ours := func(name string) bool { return strings.HasPrefix(name, ".releve") }
	return s.await(ctx, "source and replica of "+folder+" to be identical", soon, 20*time.Millisecond, func() (bool, string) {
		differ, err := treecmp.Compare(source, filepath.Join(s.w.replica, folder), ours)
		if err != nil {
			return false, err.Error()
		}
		return len(differ) == 0, fmt.Sprintf("%d differences:\n%s", len(differ), strings.Join(differ[:min(len(differ), 10)], "\n"))
	})
}

// publishedIs waits until the name server serves these records.
func (s *story) publishedIs(ctx context.Context, want string, within time.Duration) error {
	return s.await(ctx, fmt.Sprintf("the name server to serve %q", want), within, 20*time.Millisecond, func() (bool, string) {
		got, err := s.w.published(ctx)
		if err != nil {
			return false, err.Error()
		}
		return got == want, fmt.Sprintf("it serves %q", got)
	})
}

// messages shows what reached the owner since it was last called.
func (s *story) messages() {
	all := s.w.inbox.all()
	for _, m := range all[s.shown:] {
		s.say.text("  %-6s “%s”", m.Via, m.Subject)
	}
	s.shown = len(all)
}
