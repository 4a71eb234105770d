package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// scenarios are those of the table, in its order.
var scenarios = []scenario{
	{"change", "a 10 KiB file replaced → visible on the replica", bar{ratio: 0.2, at0: 6 * time.Millisecond, at40: 75 * time.Millisecond}, change},
	{"first", "first sync of a web tree", bar{ratio: 0.75}, firstSync},
	{"burst", "2,000 files rewritten at once → identical", bar{ratio: 0.35}, burst},
	{"move", "`mv` of a directory of 5,000 files / 104 MB", bar{at0: 300 * time.Millisecond, at40: 300 * time.Millisecond, sent: 100_000}, move},
	{"append", "64 KiB appended to a large file", bar{ratio: 1, sentRatio: 1.2}, appended},
	{"overwrite", "4 KiB overwritten in a large file", bar{ratio: 1, sentRatio: 1.2}, overwritten},
	{"restart", "restart, nothing changed in a big tree", bar{ratio: 0.4, ratioAt0: -1}, restart},
	{"single", "one large file", bar{ratio: 1 / 3., to: "scp", ratioAt0: 1 / 1.2}, single},
	{"idle", "at rest over a big tree", bar{memory: 80_000_000}, idle},
	{"beside", "a 10 KiB change while a large file is being sent: what that adds", bar{rtts: 2}, beside},
}

// small is the size of the file that changes.
const small = 10 << 10

// replace replaces a file of the source atomically, from outside of it, so that nobody sees a temporary name.
func (b *bench) replace(p *place, name string, data []byte) error {
	temp := p.source + ".new"
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(p.source, name))
}

// arrives waits until the replica's file is exactly data.
func (p *place) arrives(ctx context.Context, within time.Duration, name string, data []byte) error {
	path := filepath.Join(p.replica, name)
	var last time.Time
	return wait(ctx, within, 100*time.Microsecond, func() (bool, error) {
		fi, err := os.Stat(path)
		if err != nil || fi.ModTime().Equal(last) && !last.IsZero() || fi.Size() != int64(len(data)) {
			return false, nil
		}
		now, err := os.ReadFile(path)
		return err == nil && string(now) == string(data), nil
	})
}

// following is a place for each daemon, each with a source of its own made by grow.
func (b *bench) following(ctx context.Context, grow func(source string) error, peers ...func(source string) (*place, error)) (_ []*place, stop func() error, err error) {
	var places []*place
	stop = func() error {
		var errs []error
		for _, p := range places {
			errs = append(errs, p.stop())
		}
		return errors.Join(append(errs, b.world.clear())...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	for _, start := range append(peers, func(source string) (*place, error) {
		a, err := b.world.agentAt(source)
		if err != nil {
			return nil, err
		}
		err = a.start(ctx)
		return &a.place, err
	}) {
		source, err := b.world.fresh("source")
		if err != nil {
			return nil, stop, err
		}
		if err := grow(source); err != nil {
			return nil, stop, err
		}
		p, err := start(source)
		if p != nil {
			places = append(places, p)
		}
		if err != nil {
			return nil, stop, err
		}
	}
	return places, stop, nil
}

func change(ctx context.Context, b *bench) error {
	w := b.world
	places, stop, err := b.following(ctx, func(s string) error { return webTree(s, b.files/5, 6<<10, 1.5) },
		func(s string) (*place, error) { return w.lsyncd(ctx, s, "rsync", "backup", 1) },
		func(s string) (*place, error) { return w.lsyncd(ctx, s, "rsync", "backup-cm", 0) },
		func(s string) (*place, error) { return w.inotifywait(ctx, s) })
	if err != nil {
		return err
	}
	defer stop()
	data := make([]byte, small)
	for i := range b.samples {
		for _, p := range places {
			if !pause(ctx, 300*time.Millisecond) { // what the last one started is over
				return context.Cause(ctx)
			}
			copy(data, fmt.Sprintf("change %d of %s", i, p.who))
			before := w.read()
			if err := b.replace(p, "index.html", data); err != nil {
				return err
			}
			if err := p.arrives(ctx, 2*time.Minute, "index.html", data); err != nil {
				return fmt.Errorf("%s: %w", p.who, err)
			}
			b.spent(p.who, before)
		}
	}
	return b.allIdentical(ctx, places)
}

func burst(ctx context.Context, b *bench) error {
	const files = 2000
	w := b.world
	name := func(i int) string { return fmt.Sprintf("d%d/f%d", i%50, i) }
	write := func(root, text string) error {
		data := make([]byte, 8<<10)
		noise := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", text))))
		for i := range files {
			noise.Read(data) //nolint:errcheck // it never fails
			path := filepath.Join(root, name(i))
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			copy(data, fmt.Sprint(text, i))
			if err := os.WriteFile(path, data, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	places, stop, err := b.following(ctx, func(s string) error {
		for i := range 50 {
			if err := os.Mkdir(filepath.Join(s, fmt.Sprintf("d%d", i)), 0o755); err != nil {
				return err
			}
		}
		return write(s, "first")
	},
		func(s string) (*place, error) { return w.lsyncd(ctx, s, "rsync", "backup", 1) },
		func(s string) (*place, error) { return w.lsyncd(ctx, s, "rsyncssh", "backup-cm", 1) })
	if err != nil {
		return err
	}
	defer stop()
	for i := range b.runs {
		for _, p := range places {
			pause(ctx, 2*time.Second)
			before := w.read()
			if err := write(p.source, fmt.Sprint("run ", i, " ")); err != nil {
				return err
			}
			next := 0
			err := wait(ctx, 2*time.Minute, 2*time.Millisecond, func() (bool, error) {
				for ; next < files; next++ {
					want, err := os.Stat(filepath.Join(p.source, name(next)))
					if err != nil {
						return false, err
					}
					have, err := os.Stat(filepath.Join(p.replica, name(next)))
					if err != nil || have.ModTime().Unix() != want.ModTime().Unix() || have.Size() != want.Size() {
						return false, nil
					}
				}
				return p.identical() == nil, nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p.who, err)
			}
			b.spent(p.who, before)
		}
	}
	return b.allIdentical(ctx, places)
}

func move(ctx context.Context, b *bench) error {
	w := b.world
	places, stop, err := b.following(ctx, func(s string) error { return flat(filepath.Join(s, "at0"), 5000, 20_800) },
		func(s string) (*place, error) { return w.lsyncd(ctx, s, "rsync", "backup", 1) },
		func(s string) (*place, error) { return w.lsyncd(ctx, s, "rsyncssh", "backup-cm", 1) })
	if err != nil {
		return err
	}
	defer stop()
	for i := range b.runs {
		for _, p := range places {
			pause(ctx, 2*time.Second)
			before := w.read()
			from, to := fmt.Sprint("at", i), fmt.Sprint("at", i+1)
			if err := os.Rename(filepath.Join(p.source, from), filepath.Join(p.source, to)); err != nil {
				return err
			}
			err := wait(ctx, 2*time.Minute, time.Millisecond, func() (bool, error) {
				_, gone := os.Stat(filepath.Join(p.replica, from))
				entries, err := os.ReadDir(filepath.Join(p.replica, to))
				return gone != nil && err == nil && len(entries) == 5000, nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p.who, err)
			}
			b.spent(p.who, before)
			if err := b.allIdentical(ctx, []*place{p}); err != nil {
				return err
			}
		}
	}
	return nil
}

func firstSync(ctx context.Context, b *bench) error {
	w := b.world
	source, err := w.fresh("source")
	if err != nil {
		return err
	}
	if err := webTree(source, b.files, 6<<10, 1.5); err != nil {
		return err
	}
	for range b.runs {
		a, err := w.agentAt(source)
		if err != nil {
			return err
		}
		p, err := w.peerAt("rsync -a", source)
		if err != nil {
			return err
		}
		err = b.race(ctx,
			contest{p, func() error { return w.rsync(ctx, p, "backup") }},
			contest{&a.place, func() error { return a.sync(ctx) }})
		if err != nil {
			return err
		}
		if err := w.clearReplicas(); err != nil {
			return err
		}
	}
	return w.clear()
}

func restart(ctx context.Context, b *bench) error {
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
	p, err := w.peerAt("rsync -a", source)
	if err != nil {
		return err
	}
	for place, account := range map[*place]string{&a.place: w.replica.Name, p: w.peer.Name} {
		if err := w.copyOver(ctx, place, account); err != nil {
			return err
		}
	}
	if err := errors.Join(a.sync(ctx), w.rsync(ctx, p, "backup")); err != nil { // what they note about it is noted
		return err
	}
	for range b.runs {
		err := b.race(ctx,
			contest{p, func() error { return w.rsync(ctx, p, "backup") }},
			contest{&a.place, func() error { return a.sync(ctx) }})
		if err != nil {
			return err
		}
	}
	return w.clear()
}
