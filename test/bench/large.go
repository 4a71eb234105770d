package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// single carries one large file to an empty replica.
func single(ctx context.Context, b *bench) error {
	w := b.world
	source, err := w.fresh("source")
	if err != nil {
		return err
	}
	if err := largeFile(filepath.Join(source, "large"), b.large); err != nil {
		return err
	}
	for range b.runs {
		a, err := w.agentAt(source)
		if err != nil {
			return err
		}
		contests := []contest{{&a.place, func() error { return a.sync(ctx) }}}
		for _, who := range []string{"rsync -a", "sftp put", "scp", "rclone copyto"} {
			p, err := w.peerAt(who, source)
			if err != nil {
				return err
			}
			run := func() error { return w.rsync(ctx, p, "backup") }
			switch who {
			case "scp":
				run = func() error {
					return w.run(ctx, "scp", "-q", "-p", "-F", w.path("ssh_config"), source+"/large", "backup:"+p.replica+"/")
				}
			case "rclone copyto":
				run = func() error { return w.rclone(ctx, p, "large") }
			case "sftp put":
				run = func() error {
					cmd := w.lab.Prod.Command(ctx, "sftp", "-q", "-p", "-b", "-", "-F", w.path("ssh_config"), "backup:"+p.replica+"/")
					in, err := cmd.StdinPipe()
					if err != nil {
						return err
					}
					if _, err := io.WriteString(in, "put -p "+source+"/large\n"); err != nil {
						return err
					}
					return errors.Join(in.Close(), command(cmd))
				}
			}
			contests = append(contests, contest{p, func() error {
				return errors.Join(run(), cloneTimes(p)) // of these, only rsync carries the folder's own
			}})
		}
		if err := b.race(ctx, contests...); err != nil {
			return err
		}
		if err := w.clearReplicas(); err != nil {
			return err
		}
	}
	return w.clear()
}

func appended(ctx context.Context, b *bench) error {
	return delta(ctx, b, func(f *os.File, data []byte) error {
		_, err := f.WriteAt(data, size(f))
		return err
	}, 64<<10)
}

func overwritten(ctx context.Context, b *bench) error {
	return delta(ctx, b, func(f *os.File, data []byte) error {
		_, err := f.WriteAt(data, size(f)/2+12345)
		return err
	}, 4<<10)
}

func size(f *os.File) int64 {
	fi, err := f.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}

// delta changes a little of a large file. The peer is rsync, told by hand.
func delta(ctx context.Context, b *bench, edit func(*os.File, []byte) error, n int) error {
	w := b.world
	places, stop, err := b.following(ctx, func(s string) error { return largeFile(filepath.Join(s, "large"), b.large) },
		func(s string) (*place, error) {
			p, err := w.peerAt("rsync -a", s)
			if err != nil {
				return nil, err
			}
			return p, w.copyOver(ctx, p, w.peer.Name)
		})
	if err != nil {
		return err
	}
	defer stop()
	for i := range b.runs {
		for _, p := range places {
			pause(ctx, 2*time.Second)
			name := filepath.Join(p.source, "large")
			data := make([]byte, n)
			copy(data, fmt.Sprint("edit", i, time.Now()))
			before := w.read()
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			if err := errors.Join(edit(f, data), f.Close()); err != nil {
				return err
			}
			if p.daemon == nil {
				if err := w.rsync(ctx, p, "backup"); err != nil {
					return err
				}
			} else if err := p.sameStat(ctx, "large"); err != nil {
				return fmt.Errorf("%s: %w", p.who, err)
			}
			b.spent(p.who, before)
			if err := b.allIdentical(ctx, []*place{p}); err != nil {
				return err
			}
			// So that the next edit falls into another second: rsync goes by those.
			pause(ctx, 1100*time.Millisecond)
		}
	}
	return nil
}

// sameStat waits until the replica's file has the size and the second of the source's.
func (p *place) sameStat(ctx context.Context, name string) error {
	want, err := os.Stat(filepath.Join(p.source, name))
	if err != nil {
		return err
	}
	return wait(ctx, 5*time.Minute, time.Millisecond, func() (bool, error) {
		have, err := os.Stat(filepath.Join(p.replica, name))
		return err == nil && have.Size() == want.Size() && have.ModTime().Unix() == want.ModTime().Unix(), nil
	})
}

// beside measures how long a small change takes while a large file is on its way, and what that is more than without.
func beside(ctx context.Context, b *bench) error {
	w := b.world
	places, stop, err := b.following(ctx, func(s string) error { return webTree(s, 100, 6<<10, 1) })
	if err != nil {
		return err
	}
	defer stop()
	p := places[0]
	data := make([]byte, small)
	once := func(i int) (time.Duration, error) {
		pause(ctx, 300*time.Millisecond)
		copy(data, fmt.Sprint("change ", i, time.Now()))
		began := time.Now()
		if err := b.replace(p, "index.html", data); err != nil {
			return 0, err
		}
		err := p.arrives(ctx, 2*time.Minute, "index.html", data)
		return time.Since(began), err
	}
	for i := range max(b.samples/2, 5) {
		took, err := once(i)
		if err != nil {
			return err
		}
		b.add("syncagent, link idle", took, 0)
	}
	large := w.path("large.new")
	for i := range max(b.runs, 2) {
		if err := largeFile(large, b.large+int64(i)); err != nil {
			return err
		}
		if err := os.Rename(large, filepath.Join(p.source, "large")); err != nil {
			return err
		}
		pause(ctx, 500*time.Millisecond)
		for j := range 20 {
			if fi, err := os.Stat(filepath.Join(p.replica, "large")); err == nil && fi.Size() == b.large+int64(i) {
				break
			}
			took, err := once(j)
			if err != nil {
				return err
			}
			b.add("syncagent", took, 0)
		}
		if err := p.sameStat(ctx, "large"); err != nil {
			return err
		}
	}
	return b.allIdentical(ctx, places)
}
