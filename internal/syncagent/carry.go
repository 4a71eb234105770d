package syncagent

import (
	"context"
	"errors"
	"sync"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// carrier uploads large files beside the rounds, so that a small change does not wait for them. A round takes them out
// of its plan; when one lies whole on the replica, the next round puts it in place.
type carrier struct {
	r      *push.Replica
	ctx    context.Context
	cancel context.CancelFunc
	goes   sync.WaitGroup
	wake   func() // something has arrived

	mu      sync.Mutex
	under   map[string]*cargo // under way, or arrived and not yet handed over
	arrived []*cargo
}

// cargo is one large file on its way.
type cargo struct {
	began   time.Time
	put     plan.Put
	cancel  context.CancelFunc
	carried push.Carried
	err     error
}

func newCarrier(ctx context.Context, r *push.Replica, wake func()) *carrier {
	c := &carrier{r: r, wake: wake, under: map[string]*cargo{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// close gives up what is under way and waits for the end of it.
func (c *carrier) close() {
	c.cancel()
	c.goes.Wait()
}

// start sends put's file, in whose place the replica is known to hold was. If an older version is under way that is given up instead, and its end is news.
func (c *carrier) start(src *tree.Root, put plan.Put, was tree.Entry, progress push.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.under[put.Path]; old != nil {
		if old.put.Entry != put.Entry {
			old.cancel()
		}
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	g := &cargo{began: time.Now(), put: put, cancel: cancel}
	c.under[put.Path] = g
	c.goes.Go(func() {
		defer cancel()
		g.carried, g.err = c.r.Carry(ctx, src, put, was, progress)
		c.mu.Lock()
		c.arrived = append(c.arrived, g)
		c.mu.Unlock()
		c.wake()
	})
}

// take gives what has arrived or failed since it was last asked.
func (c *carrier) take() []*cargo {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.arrived
	c.arrived = nil
	for _, g := range all {
		delete(c.under, g.put.Path)
	}
	return all
}

// pending is how many files are under way or wait to be put in place.
func (c *carrier) pending() int {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.under)
}

// carriesSince reports whether a file has been under way since before at.
func (c *carrier) carriesSince(at time.Time) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.under {
		if g.began.Before(at) {
			return true
		}
	}
	return false
}

// aside takes the large files out of a plan, for start, but for those that have arrived.
func (e *engine) aside(r *push.Replica, p plan.Plan) (plan.Plan, []plan.Put) {
	if e.carrier == nil {
		return p, nil
	}
	var files, large []plan.Put
	for _, put := range p.Files {
		if !put.Current && r.Carries(put, e.known) && !r.Expects(put.Path) {
			large = append(large, put)
		} else {
			files = append(files, put)
		}
	}
	p.Files = files
	return p, large
}

// takeCarried has what has arrived compared again, which puts it in place.
func (e *engine) takeCarried(r *push.Replica) error {
	for _, g := range e.carrier.take() {
		path, names := g.put.Path, g.put.Names()
		for _, name := range names {
			delete(e.todo.throttle.full, name) // it is not kept waiting once it has been sent
		}
		switch {
		case g.err == nil:
			r.Expect(path, g.carried)
			e.todo.scope.Paths = append(e.todo.scope.Paths, names...)
		case errors.Is(g.err, sftpipe.ErrConnectionLost):
			return g.err
		case errors.Is(g.err, context.Canceled):
			e.todo.scope.Paths = append(e.todo.scope.Paths, names...)
		case errors.Is(g.err, push.ErrUnsettled), errors.Is(g.err, push.ErrSource), errors.Is(g.err, push.ErrInterrupted):
			e.todo.later(time.Now(), names, e.pace.again, e.pace.failMax)
		default:
			if errors.Is(g.err, push.ErrNoSpace) {
				e.short = max(e.short, uint64(g.put.Entry.Size))
			}
			e.report(push.Outcome{Failed: []push.Failure{{Path: path, Err: g.err}}}, 0)
			e.todo.later(time.Now(), names, e.pace.fail, e.pace.failMax)
		}
	}
	return nil
}
