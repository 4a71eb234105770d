package syncagent

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
)

// round compares what is due and carries the plan out: read, plan, guard, push.
func (e *engine) round(ctx context.Context, r *push.Replica) error {
	now := time.Now()
	e.todo.holdBack(now, e.sameFile)
	scope, reason, busy := e.todo.take(now)
	if e.full.IsZero() {
		scope = plan.Scope{All: true}
	} else if !now.Before(e.relistAt(now)) {
		return errDue
	}
	if reason != "" {
		e.log.Info("comparing everything", "why", reason)
		e.dropAhead()
		if err := e.reopen(); err != nil {
			return err
		}
	}
	if e.folder.Kind == LetsEncrypt && (len(scope.Paths) > 0 || len(scope.Subtrees) > 0) {
		scope = plan.Scope{All: true} // a lineage is judged as a whole, and the folder is small
	}
	e.tryAgain(scope)
	l, err := e.see(ctx, scope)
	if err != nil {
		return err
	}
	e.looked = l.at
	l.scope.Apart = !r.Links()
	p := plan.Diff(l.src, e.known, l.scope)
	if len(busy) > 0 {
		moves := p.Moves // a file may get its new name while it is written
		p = plan.Without(p, func(p string) bool { return busy[p] })
		p.Moves = moves
	}
	p = e.holdLineages(p, l)
	p = e.believe(p, l)
	p, large := e.aside(r, p)
	if err := e.apply(ctx, r, p); err != nil {
		return err
	}
	for _, put := range large {
		was, _ := e.known.Get(put.Path)
		e.carrier.start(e.root, put, was, e.progress)
	}
	if err := r.Forget(ctx); err != nil {
		return err
	}
	for _, path := range p.Adopt {
		old, _ := e.known.Get(path)
		now := l.src[path]
		now.Sum, now.Shared = old.Sum, old.Shared
		e.known.Set(path, now)
		e.dirty = true
	}
	if l.scope.All {
		if len(l.problems) == 0 {
			e.guard.used()
		}
		e.full = now
		e.save(time.Now())
	}
	e.notice(l, p)
	e.settled(l)
	return nil
}

// apply carries p out and sees to what could not be done.
func (e *engine) apply(ctx context.Context, r *push.Replica, p plan.Plan) error {
	if p.Empty() {
		e.todo.calm()
		return nil
	}
	began := time.Now()
	e.start(p)
	out, err := r.Apply(ctx, e.root, p, e.known, began, e.progress)
	e.dirty = e.dirty || out.Entries+out.Deleted+out.Moved+len(p.Attrs) > 0
	if err != nil {
		return err
	}
	e.guard.deleted(began, out.Deleted)
	if out.Root != nil || slices.ContainsFunc(p.Attrs, func(put plan.Put) bool { return put.Path == "." }) {
		e.notOurs(out.Root)
	}
	e.notices.linked(p, out)
	e.report(out, time.Since(began))
	e.restless(p, out.Unsettled)
	for _, put := range p.Files {
		for _, name := range put.Names() {
			e.todo.throttle.sent(name, put.Entry.Size, began)
		}
	}
	switch {
	case len(out.Failed) > 0:
		e.todo.later(time.Now(), failedPaths(out), e.pace.fail, e.pace.failMax)
	case len(out.Again) > 0:
		e.todo.later(time.Now(), nil, e.pace.again, e.pace.failMax)
	default:
		e.todo.calm()
	}
	e.todo.retry.Paths = append(e.todo.retry.Paths, out.Again...)
	e.todo.whenever(time.Now(), out.Apart, e.pace.fail, 20*e.pace.failMax)
	if out.Stale {
		return errReread
	}
	return nil
}

func failedPaths(out push.Outcome) []string {
	paths := make([]string, len(out.Failed))
	for i, f := range out.Failed {
		paths[i] = f.Path
	}
	return paths
}

// view is what a look at the source found.
type view struct {
	at       time.Time // when it began
	src      tree.Tree
	scope    plan.Scope
	problems []tree.Problem
}

// look reads what scope names of the source: what the comparison needs, no more.
func (e *engine) look(ctx context.Context, scope plan.Scope) (view, error) {
	l := view{at: time.Now(), src: tree.Tree{}, scope: scope}
	scan := func(sub string) error {
		problems, err := e.root.Scan(ctx, sub, e.folder.Filter, l.src)
		l.problems = append(l.problems, problems...)
		return err
	}
	if scope.All {
		return l, scan(".")
	}
	for _, sub := range scope.Subtrees {
		if err := scan(sub); err != nil {
			return l, err
		}
		if err := e.lookUp(sub, &l, scan); err != nil {
			return l, err
		}
	}
	paths := slices.Clone(scope.Paths)
	for p, entry := range l.src {
		paths = append(paths, e.lookAlso(p, entry, l)...)
	}
	for _, sub := range scope.Subtrees {
		for p, old := range e.known.Below(sub) {
			if _, there := l.src[p]; !there && old.Nlink > 1 {
				paths = append(paths, e.lookAlso(p, tree.Entry{}, l)...)
			}
		}
	}
	done := make(map[string]bool, len(paths))
	for i := 0; i < len(paths); i++ {
		p := paths[i]
		if done[p] {
			continue
		}
		done[p] = true
		entry, err := e.lookAt(p, &l)
		if err != nil {
			return l, err
		}
		paths = append(paths, e.lookAlso(p, entry, l)...)
		if entry.Type == tree.Dir && entry.Ino != 0 && (e.polled || !e.known.SameDir(p, entry)) {
			if err := scan(p); err != nil {
				return l, err
			}
			l.scope.Subtrees = append(l.scope.Subtrees, p)
		}
		if err := e.lookUp(p, &l, scan); err != nil {
			return l, err
		}
	}
	return l, nil
}

// lookAt reads one path into the view; the zero Entry stands for one that is not there.
func (e *engine) lookAt(p string, l *view) (tree.Entry, error) {
	entry, err := e.root.Lstat(p)
	switch {
	case err == nil:
		if p == "." || !e.folder.Filter.Prunes(p, entry.Type == tree.Dir) {
			l.src[p] = entry
			return entry, nil
		}
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, tree.ErrRootChanged):
		return tree.Entry{}, err
	default:
		l.problems = append(l.problems, tree.Problem{Path: p, Err: err})
	}
	return tree.Entry{}, nil
}

// lookAlso names the other paths of the file at p, if it has several: what happens to it by one name is told of that one
// alone. If p was a name of another file before, or is gone, it names the other paths of that one, too.
func (e *engine) lookAlso(p string, entry tree.Entry, l view) []string {
	var others []string
	add := func(file tree.Entry) {
		for q := range e.known.Linked(file) {
			if _, looked := l.src[q]; !looked && q != p {
				others = append(others, q)
			}
		}
	}
	if entry.Type == tree.File && entry.Nlink > 1 {
		add(entry)
	}
	// What had one name when it was last looked at has no other that is known: whoever made one told of that.
	if old, ok := e.known.Get(p); ok && old.Type == tree.File && old.Nlink != 1 && old.Ino != 0 && (old.Ino != entry.Ino || old.Dev != entry.Dev) {
		add(old)
	}
	return others
}

// lookUp reads the directories above p: the nearest for its time, which changes with what it holds, and any that the
// replica does not have yet, with everything in it.
func (e *engine) lookUp(p string, l *view, scan func(string) error) error {
	top := ""
	for dir := p; dir != "."; {
		dir = path.Dir(dir)
		entry, err := e.lookAt(dir, l)
		if err != nil {
			return err
		}
		if entry.Type == tree.Dir && entry.Ino != 0 && e.known.SameDir(dir, entry) {
			break
		}
		top = dir
		l.scope.Paths = append(l.scope.Paths, dir)
	}
	if top == "" {
		return nil
	}
	return scan(top)
}

// believe applies the guards (S5) and keeps what they hold for a human to see.
func (e *engine) believe(p plan.Plan, l view) plan.Plan {
	p.Deletes = slices.DeleteFunc(p.Deletes, func(del plan.Delete) bool {
		// A name that is moved while its directory is read can be missed: look once more before believing.
		// What became a socket, FIFO or device is gone as well: those are never replicated.
		entry, err := e.root.Lstat(del.Path)
		if !errors.Is(err, fs.ErrNotExist) && (err != nil || entry.Type != tree.Other) {
			e.todo.later(time.Now(), []string{del.Path}, e.pace.again, e.pace.failMax)
			return true
		}
		return false
	})
	if len(l.problems) > 0 {
		e.lookAgain(p, l)
	}
	p, held, why := e.guard.judge(p, l, e.known, time.Now())
	e.hold(held, why, l)
	return p
}

// lookAgain has what could not be read, and what is not deleted because of that, compared again after a pause.
func (e *engine) lookAgain(p plan.Plan, l view) {
	var paths []string
	for _, del := range p.Deletes {
		paths = append(paths, del.Path)
	}
	for put := range p.Clearing() {
		paths = append(paths, put.Path)
	}
	e.todo.later(time.Now(), paths, e.pace.fail, e.pace.failMax)
	for _, problem := range l.problems {
		e.todo.retry.Subtrees = append(e.todo.retry.Subtrees, problem.Path)
	}
}
