// Command demo plays the whole story of both daemons on one machine, without root and without the internet: the first
// sync, an edit, a deploy, a renewed certificate, production's death, the switch, the home address that changes, and
// the way back. The two daemons are the real programs, in processes of their own, with real configuration files and
// the default timings; the world around them (SSH servers, web sites, OVH's API, name servers, the owner's mailbox)
// lives in this process. It narrates with measured times.
//
// It wants syncagent and watchdog beside its own executable; test/scripts/demo builds all three.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Getenv))
}

// run returns the exit code: 0 when every step held, 1 when one did not, 2 for a wrong command line.
func run(args []string, stdin *os.File, stdout *os.File, getenv func(string) string) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	once := flags.Bool("once", false, "end when the story is told, instead of staying to be played with")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || flags.NArg() > 0:
		return 2
	}
	tty := term.IsTerminal(int(stdout.Fd()))
	say := newNarrator(stdout, tty, tty && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	dir, err := os.MkdirTemp("", "releve-demo-")
	if err != nil {
		return complain(say, err)
	}
	// Last of all: by then nothing uses it any more.
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			complain(say, err)
		}
	}()
	// In /proc/self/exe a symbolic link to the demo has been followed.
	self, err := os.Executable()
	if err != nil {
		return complain(say, err)
	}
	return play(ctx, say, dir, filepath.Dir(self), *once, stdin)
}

// play builds the world, tells the story in it, and takes everything down again.
func play(ctx context.Context, say *narrator, dir, bin string, once bool, stdin io.Reader) (code int) {
	began := time.Now()
	say.title("Relève, the whole story on one machine")
	w, err := newWorld(ctx, dir)
	if err != nil {
		return complain(say, fmt.Errorf("build the world: %w", err))
	}
	defer w.close()
	s, err := newStory(say, w, bin)
	if err != nil {
		return complain(say, fmt.Errorf("write the configuration: %w", err))
	}
	defer s.close()

	err = s.tell(ctx)
	switch {
	case ctx.Err() != nil:
		say.text("")
		say.text("Interrupted: stopping both daemons, removing %s.", dir)
		return 1
	case err != nil:
		say.fail(err)
		s.showLogs()
		return 1
	case once:
		if err := s.end(); err != nil {
			say.fail(err)
			s.showLogs()
			return 1
		}
		say.text("")
		say.good("Every step held, in %s.", short(time.Since(began)))
		return 0
	}
	s.stay(ctx, stdin)
	say.text("")
	say.text("Stopping both daemons, removing %s.", dir)
	return 0
}

func complain(say *narrator, err error) int {
	say.fail(err)
	return 1
}
