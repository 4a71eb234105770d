package syncagent

import (
	"context"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
)

// ahead is a look at the whole source that is under way: it needs the processor and the disk, and so runs while
// something else waits for the network. What changes in the source after it was looked at is told by the watcher.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{}
	view   view
	err    error
}

// lookAhead opens the source and begins to look at all of it. Until the look is taken or dropped, nobody else may open
// the source anew.
func (e *engine) lookAhead(ctx context.Context) error {
	if e.ahead != nil {
		return nil
	}
	if err := e.reopen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, done: make(chan struct{})}
	e.ahead = a
	go func() {
		defer close(a.done)
		a.view, a.err = e.look(ctx, plan.Scope{All: true})
	}()
	return nil
}

// see gives the look that is under way, which is one at everything, or takes one.
func (e *engine) see(ctx context.Context, scope plan.Scope) (view, error) {
	a := e.ahead
	if a == nil {
		return e.look(ctx, scope)
	}
	e.ahead = nil
	<-a.done
	a.cancel()
	return a.view, a.err
}

// dropAhead ends the look that is under way, if there is one.
func (e *engine) dropAhead() {
	if e.ahead != nil {
		e.ahead.cancel()
		<-e.ahead.done
		e.ahead = nil
	}
}

// survey looks at the source and lists the replica, and changes neither. closed are directories of the replica that
// cannot be looked into.
func (e *engine) survey(ctx context.Context, r *push.Replica) (l view, listed tree.Tree, closed []string, err error) {
	defer e.dropAhead()
	if err := e.lookAhead(ctx); err != nil {
		return view{}, nil, nil, err
	}
	if listed, closed, err = r.List(ctx, e.folder.Filter); err != nil {
		return view{}, nil, nil, err
	}
	if e.remembered != nil {
		e.remembered.Recall(listed)
	}
	e.known = plan.NewKnown(listed)
	l, err = e.see(ctx, plan.Scope{All: true})
	l.scope.Apart = !r.Links()
	return l, listed, closed, err
}
