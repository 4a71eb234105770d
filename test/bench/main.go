// Command bench measures syncagent against the tools it replaces, on the network of package netlab: a real bastion and a
// real backup (OpenSSH), a WAN link with a real delay, Debian's rsync and lsyncd. In every scenario peers and syncagent
// take turns within one run, so that whatever else the machine does strikes all of them; what is compared is medians.
// After each run the replica is compared with its source.
//
// It needs root. `make bench` runs it; -h lists the flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"releve/test/netlab"
)

// options are the sizes of what is measured.
type options struct {
	rtts    []time.Duration
	only    *regexp.Regexp
	runs    int // of what takes seconds
	samples int // of what takes milliseconds
	files   int // of the web tree; a tenth as many directories
	big     int // files of the big tree; a tenth as many directories
	large   int64
	agent   string // a binary to use in place of a fresh one
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	o, out, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := errors.Join(netlab.Unavailable(), netlab.NoSSHD(), programs()); err != nil {
		return err
	}
	if err := netlab.Sweep(ctx); err != nil {
		return err
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if err := w.close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}()
	b := &bench{world: w, options: o, log: os.Stderr}
	measured := b.all(ctx)
	text := head(ctx, w, args) + b.table() // of what there is
	fmt.Fprint(stdout, text)
	if out != "" && measured == nil {
		return insert(out, text)
	}
	return measured
}

// all runs every scenario that was asked for, at every round-trip time.
func (b *bench) all(ctx context.Context) error {
	for _, s := range scenarios {
		if !b.only.MatchString(s.name) {
			continue
		}
		for _, rtt := range b.rtts {
			b.world.lab.WAN.SetDelay(rtt / 2)
			b.rtt, b.scenario = rtt, s
			fmt.Fprintf(b.log, "== %s, RTT %v\n", s.title, rtt)
			began := time.Now()
			if err := s.run(ctx, b); err != nil {
				return fmt.Errorf("%s, RTT %v: %w", s.name, rtt, err)
			}
			fmt.Fprintf(b.log, "   (%v)\n", time.Since(began).Round(time.Second))
		}
	}
	return nil
}

func parse(args []string) (options, string, error) {
	o := options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := make([]string, len(scenarios))
	for i, s := range scenarios {
		names[i] = s.name
	}
	only := flags.String("run", "", "regular expression of the scenarios to run, of: "+strings.Join(names, " "))
	rtts := flags.String("rtt", "0,40ms", "round-trip times of the WAN")
	quick := flags.Bool("quick", false, "small trees and few runs: about five minutes in all")
	flags.IntVar(&o.runs, "runs", 5, "runs of what takes seconds")
	flags.IntVar(&o.samples, "samples", 50, "changes of a single small file")
	flags.IntVar(&o.files, "files", 20_000, "files of the web tree, in a tenth as many directories")
	flags.IntVar(&o.big, "big", 200_000, "files of the big tree, in a tenth as many directories")
	flags.Int64Var(&o.large, "large", 1<<30, "bytes of the large file")
	flags.StringVar(&o.agent, "agent", "", "a syncagent to measure in place of one built now")
	out := flags.String("out", "", "Markdown file to put the table into, between its two bench comments")
	if err := flags.Parse(args); err != nil {
		return o, "", err
	}
	if *quick {
		o.runs, o.samples, o.files, o.big, o.large = 1, 10, 4000, 20_000, 128<<20
	}
	for field := range strings.SplitSeq(*rtts, ",") {
		rtt, err := time.ParseDuration(strings.TrimSpace(field))
		if err != nil {
			return o, "", fmt.Errorf("-rtt: %w", err)
		}
		o.rtts = append(o.rtts, rtt)
	}
	var err error
	o.only, err = regexp.Compile("^(?:" + *only + ")")
	return o, *out, err
}

// programs says which of the programs that are measured is missing.
func programs() error {
	var missing []string
	for _, p := range []string{"rsync", "lsyncd", "inotifywait", "ssh", "scp", "sftp"} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if missing != nil {
		return fmt.Errorf("not installed: %s (packages rsync, lsyncd, inotify-tools, openssh-client)", strings.Join(missing, ", "))
	}
	return nil
}
