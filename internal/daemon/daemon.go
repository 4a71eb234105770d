// Package daemon is the frame of a long-running program: tasks that live and end together, the signals that end them,
// and word to the service manager as of sd_notify(3).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
)

// An Env is all that a program gets from outside besides its files and the network. Only main builds one of the
// process's own.
type Env struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// A Task is one part of a daemon.
type Task struct {
	Name string
	Run  func(context.Context) error // returns soon after its context has ended
}

// Run runs all tasks, each in a goroutine of its own, until the first of them ends, for whatever reason, or ctx does.
// Then it ends the others by their context, whose cause says which task it was, and returns when the last has returned:
// nothing outlives Run.
//
// The error is nil if no task failed. Otherwise it names the tasks that did, the first one first; that a task which was
// told to stop reports just that (ctx.Err() or the cause) is no failure. A panic in a task ends the process, as
// everywhere.
func Run(ctx context.Context, tasks ...Task) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type end struct {
		task Task
		err  error
	}
	ends := make(chan end)
	for _, task := range tasks {
		go func() { ends <- end{task, task.Run(ctx)} }()
	}
	var failed []error
	for range tasks {
		e := <-ends
		if e.err != nil && !stopped(ctx, e.err) {
			failed = append(failed, fmt.Errorf("%s: %w", e.task.Name, e.err))
		}
		cancel(fmt.Errorf("%s has ended", e.task.Name)) // has an effect the first time alone
	}
	return errors.Join(failed...)
}

// stopped reports whether err merely says that ctx has ended.
func stopped(ctx context.Context, err error) bool {
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))
}

// Signals ends the returned context at the first SIGINT or SIGTERM; [context.Cause] names the signal. From then on, as
// after stop, these signals have their usual effect again: a second one ends the process at once.
func Signals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals, release := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(signals, func() {
		release() // before anybody is told, or a quick second signal would be lost
		cancel(context.Cause(signals))
	})
	return ctx, release
}
