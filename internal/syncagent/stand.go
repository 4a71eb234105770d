package syncagent

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// stand waits until something may be pushed again, or s or ctx has ended. Meanwhile it compares what prod holds with
// what the standby serves, again and again, for the watchdog to know whether prod may have its name back unasked. It
// writes nothing.
func (e *engine) stand(ctx context.Context, s *session) {
	comparing, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { e.compareOften(comparing, s) })
	e.holdStill(ctx, s)
	stop()
	done.Wait()
	e.known = nil
	e.update(func(f *folderStatus) { f.compared = time.Time{} })
}

// compareOften compares until ctx or the session ends. A large folder is not compared all the time.
func (e *engine) compareOften(ctx context.Context, s *session) {
	for {
		began := time.Now()
		differ, err := e.compare(ctx, push.New(s.lanes, e.folder.Target, e.id, e.folder.Keep))
		if ctx.Err() != nil || errors.Is(err, sftpipe.ErrConnectionLost) {
			return
		}
		if err != nil {
			e.log.Warn("could not compare prod with what the standby serves", "err", err)
		}
		e.update(func(f *folderStatus) {
			f.compared = time.Time{}
			if err == nil {
				f.compared, f.pending = began, differ
			}
		})
		e.link.word.finished() // the watchdog is to know at once
		if !sleep(ctx, max(e.pace.failMax, 4*time.Since(began))) {
			return
		}
	}
}

// compare counts the entries in which the source and the replica differ. What cannot be read differs.
func (e *engine) compare(ctx context.Context, r *push.Replica) (differ int, err error) {
	l, _, closed, err := e.survey(ctx, r)
	if err != nil {
		return 0, err
	}
	p := plan.Diff(l.src, e.known, l.scope)
	differ = len(describe(p)) + len(l.problems) + len(closed)
	for _, put := range p.Files {
		same := put.Current
		if !same {
			if same, err = e.served(ctx, put); err != nil {
				return 0, err
			}
			if same {
				differ--
			}
		}
		for _, also := range put.Also {
			if same && (also.Current || also.Joined) { // what it holds is right, whether it is linked or not
				differ--
			}
		}
	}
	return differ, nil
}

// served reports whether a file that would be pushed, because it may have changed since it was, is all the same.
func (e *engine) served(ctx context.Context, put plan.Put) (bool, error) {
	old, _ := e.known.Get(put.Path)
	if old.Sum == [sha256.Size]byte{} || !tree.Equal(put.Entry, old) {
		return false, nil
	}
	f, entry, err := e.root.OpenFile(put.Path)
	if err != nil || !tree.Equal(entry, old) {
		return false, nil // it differs, or has gone, or cannot be read: which would all be said again when it counts
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, readUnless{ctx, f}); err != nil {
		return false, ctx.Err()
	}
	return [sha256.Size]byte(h.Sum(nil)) == old.Sum, nil
}

// readUnless reads from r until ctx ends.
type readUnless struct {
	ctx context.Context
	r   io.Reader
}

func (r readUnless) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
