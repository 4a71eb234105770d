package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// stay leaves the world to the user, until ctx ends or they say so.
func (s *story) stay(ctx context.Context, stdin io.Reader) {
	p := &playground{story: s, prodUp: true, lineUp: true}
	p.introduce()
	var err error
	if p.served, err = s.w.published(ctx); err != nil {
		s.say.fail(err)
		return
	}
	if p.arrivals, err = newArrivals(s.w.webroot, filepath.Join(s.w.replica, "webroot")); err != nil {
		s.say.fail(err)
		return
	}
	typed := lines(ctx, stdin)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case line, ok := <-typed:
			if !ok {
				typed = nil // nobody types here; Ctrl-C still does
			} else if !p.obey(ctx, line) {
				return
			}
		case <-tick.C:
			p.look(ctx)
		}
		if err := errors.Join(s.agent.died(), s.dog.died()); err != nil {
			s.say.fail(err)
			s.showLogs()
			return
		}
	}
}

// lines reads what is typed, until there is no more. A read from a terminal cannot be interrupted, so the reader may
// outlive ctx; it does nothing more then.
func lines(ctx context.Context, r io.Reader) <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			select {
			case out <- strings.TrimSpace(scanner.Text()):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// playground is the world in the user's hands.
type playground struct {
	*story
	arrivals       *arrivals
	served         string // by the name server
	prodUp, lineUp bool

	deed string // what the user did last to the world
	when time.Time
}

func (p *playground) introduce() {
	w, say := p.w, p.say
	say.heading("It is yours, until Ctrl-C")
	say.text("edit files in    %s   each arrival on the replica is shown here", w.webroot)
	say.text("compare with     %s", filepath.Join(w.replica, "webroot"))
	say.text("status pages     http://%s/ (syncagent)   http://%s/ (watchdog)", p.pages.syncagent, p.pages.watchdog)
	host, port, _ := strings.Cut(w.nsAddr, ":")
	say.text("ask the DNS      dig @%s -p %s %s", host, port, siteName)
	say.text("ask production   curl --cacert %s --resolve %s:%s:%s %s", w.path("ca.pem"), siteName, w.port, prodIPv4, w.url("/"))
	say.text("read the logs    %s", w.path("*.log"))
	say.text("")
	p.help()
}

func (p *playground) help() {
	p.say.text("Type a letter and Enter:")
	p.say.text("  p  kill production, or revive it      v  open the site as a visitor does")
	p.say.text("  b  watchdog failback                  s  watchdog status, syncagent status")
	p.say.text("  h  give the home another address      q  quit, as Ctrl-C does")
	p.say.text("  l  cut the home's line, or mend it")
}

// obey does what was typed. It returns false when that is to end.
func (p *playground) obey(ctx context.Context, line string) bool {
	done := func(deed string) {
		p.deed, p.when = deed, time.Now()
		p.say.text("%s", deed)
	}
	switch line {
	case "":
	case "q":
		return false
	case "p":
		if p.prodUp {
			p.w.killProd()
			done("production was killed")
		} else if err := p.w.reviveProd(); err != nil {
			p.say.fail(err)
			return true
		} else {
			done("production was revived")
		}
		p.prodUp = !p.prodUp
	case "h":
		to := home1
		if p.w.home.String() == home1 {
			to = home2
		}
		p.w.moveHome(to)
		done("the home got the address " + to)
	case "l":
		p.w.cutLine(p.lineUp)
		p.lineUp = !p.lineUp
		done(map[bool]string{false: "the home's line was cut", true: "the home's line was mended"}[p.lineUp])
	case "b":
		p.deed, p.when = "watchdog failback", time.Now()
		p.perform(ctx, p.dog, "failback", siteName)
	case "s":
		p.perform(ctx, p.dog, "status")
		p.perform(ctx, p.agent, "status")
	case "v":
		v, err := p.w.visit(ctx, "/")
		if err != nil {
			p.say.fail(err)
			return true
		}
		p.say.timed(v.Took, "status %d from %s, certificate %s…, %d bytes", v.Status, v.Address, v.Serial[:8], len(v.Body))
	default:
		p.help()
	}
	return true
}

// perform runs a command and shows what it says.
func (p *playground) perform(ctx context.Context, program *program, args ...string) {
	p.say.command(program.name + " " + strings.Join(args, " "))
	output, err := program.run(ctx, args...)
	if err != nil {
		p.say.fail(err)
		return
	}
	p.say.quote(output)
}

// look shows what has happened since the last look.
func (p *playground) look(ctx context.Context) {
	arrived, err := p.arrivals.look()
	if err != nil {
		p.say.fail(err)
	}
	const several = 6
	if len(arrived) > several {
		longest := time.Duration(0)
		for _, a := range arrived {
			longest = max(longest, a.took)
		}
		p.say.timed(longest, "%d changes on the replica, %q the first", len(arrived), arrived[0].path)
	} else {
		for _, a := range arrived {
			if a.deleted {
				p.say.good("%q deleted on the replica", a.path)
			} else {
				p.say.timed(a.took, "%q on the replica", a.path)
			}
		}
	}
	switch served, err := p.w.published(ctx); {
	case err != nil && ctx.Err() == nil:
		p.say.fail(err)
	case err == nil && served != p.served:
		p.served = served
		after := ""
		if p.deed != "" {
			after = fmt.Sprintf(", %s after: %s", short(time.Since(p.when)), p.deed)
		}
		p.say.good("the name server serves %s%s", served, after)
	}
	p.messages()
}
