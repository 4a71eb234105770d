package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"releve/test/netlab"
)

// bench is a run under way.
type bench struct {
	options
	world    *world
	log      io.Writer
	rtt      time.Duration
	scenario scenario
	rows     []*row
	races    int
}

// scenario is one line of the table.
type scenario struct {
	name, title string
	bar         bar
	run         func(context.Context, *bench) error
}

// contest is one contender's part of a race.
type contest struct {
	place *place
	run   func() error
}

// race runs each contender once, one after the other, each time beginning with another, and compares what they made.
func (b *bench) race(ctx context.Context, contests ...contest) error {
	b.races++
	for i := range contests {
		c := contests[(i+b.races)%len(contests)]
		b.level(ctx)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		before := b.world.read()
		if err := c.run(); err != nil {
			return err
		}
		b.spent(c.place.who, before)
		if err := c.place.identical(); err != nil {
			return err
		}
	}
	return nil
}

// level makes the ground the same for whoever comes next. Nobody pays for what another has written, which is on the disk by
// then. The allowance of a rented disk, which is fast for the first gigabyte or two and then is not, fills up again. And
// memory that was free for a while is not first taken back from the host of a virtual machine, page by page.
func (b *bench) level(ctx context.Context) {
	syscall.Sync()
	pause(ctx, 5*time.Second)
	const worth = 2 << 30 // of a large file, or a tree, on both sides
	if mem, err := unix.Mmap(-1, 0, worth, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err == nil {
		_ = unix.Munmap(mem)
	}
}

// allIdentical gives every daemon a moment to come to rest, and then compares. What syncagent leaves different is an
// error; what a peer does is noted with its figures.
func (b *bench) allIdentical(ctx context.Context, places []*place) error {
	for _, p := range places {
		within := 10 * time.Second
		if p.who == us {
			within = time.Minute
		}
		var last error
		err := wait(ctx, within, 200*time.Millisecond, func() (bool, error) {
			last = p.identical()
			return last == nil, nil
		})
		switch {
		case err == nil:
		case p.who == us:
			return errors.Join(err, last)
		default:
			fmt.Fprintf(b.log, "   not identical: %v\n", last)
			b.row(p.who).differs = true
		}
	}
	return nil
}

// idle measures what a daemon costs while nothing happens.
func idle(ctx context.Context, b *bench) error {
	if b.rtt != b.rtts[0] {
		return nil
	}
	w := b.world
	source, err := w.fresh("source")
	if err != nil {
		return err
	}
	if err := webTree(source, b.big, 300, 1); err != nil {
		return err
	}
	a, err := w.agentAt(source)
	if err != nil {
		return err
	}
	if err := w.copyOver(ctx, &a.place, w.replica.Name); err != nil {
		return err
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	defer a.stop()
	if err := errors.Join(b.rest(ctx, &a.place), a.stop()); err != nil {
		return err
	}
	p, err := w.lsyncd(ctx, source, "rsync", "backup", 1)
	if p != nil {
		defer p.stop()
	}
	if err != nil {
		return err
	}
	if err := b.rest(ctx, p); err != nil {
		return err
	}
	return errors.Join(p.stop(), w.clear())
}

// rest samples a daemon's memory and processor time; prod runs nothing else.
func (b *bench) rest(ctx context.Context, p *place) error {
	const window = 30 * time.Second
	pause(ctx, 30*time.Second) // a Go program gives memory back after a while
	before := b.world.read()
	pause(ctx, window)
	used := b.world.read().cost.prod - before.cost.prod
	resident, err := memory(p.daemon)
	if err != nil {
		return err
	}
	r := b.row(p.who)
	r.memory, r.busy = resident, 100*float64(used)/float64(window)
	r.took = append(r.took, used)
	return nil
}

func memory(p *netlab.Process) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// copyOver fills a replica without the network: what is measured comes after.
func (w *world) copyOver(ctx context.Context, p *place, owner string) error {
	if err := command(exec.CommandContext(ctx, "cp", "-a", p.source+"/.", p.replica)); err != nil {
		return err
	}
	return command(exec.CommandContext(ctx, "chown", "-hR", owner, p.replica))
}

// cloneTimes gives an empty replica its source's mode and time.
func cloneTimes(p *place) error {
	fi, err := os.Stat(p.source)
	if err != nil {
		return err
	}
	return os.Chtimes(p.replica, fi.ModTime(), fi.ModTime())
}

// clearReplicas removes all replicas; clear removes all trees on both sides.
func (w *world) clearReplicas() error { return w.remove(w.home("peer/*"), w.home("chroot/data/*")) }

func (w *world) clear() error {
	defer w.trim()
	return errors.Join(w.clearReplicas(), w.remove(w.path("source-*"), w.path("agent-*"), w.path("lsyncd-*"), w.path("inotifywait-*"), w.path("large.new")))
}

func (w *world) remove(patterns ...string) error {
	var errs []error
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, path := range found {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}
