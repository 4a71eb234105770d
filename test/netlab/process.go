package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs on a host, and what it started. Its methods are safe for concurrent use.
type Process struct {
	Log    string // file of what it prints
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start starts a program that is to run until it is killed, or ctx ends. What it prints is appended to the file log.
func (h *Host) Start(ctx context.Context, log string, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{Log: log, cmd: h.Command(ctx, name, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Cancel = func() error { return p.Kill() }
	p.cmd.SysProcAttr = h.counted(&syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}) // it does not outlive a test that crashes
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitCode is the exit code of a process that has ended, -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the process and all its descendants at once, as SIGKILL does.
func (p *Process) Kill() error {
	select {
	case <-p.exited:
		return nil // and its number may be another's
	default:
	}
	// Stopped first: it can fork no more while its children are looked up.
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	children := descendants(p.cmd.Process.Pid)
	err := p.cmd.Process.Kill()
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return err
}

// Stop asks the process to end, and kills it where that takes longer than within.
func (p *Process) Stop(within time.Duration) error {
	_ = p.Signal(syscall.SIGTERM)
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-p.exited:
		return nil
	case <-t.C:
		return errors.Join(fmt.Errorf("process %d did not end within %v", p.PID(), within), p.Kill())
	}
}

// Output is what the process and its forerunners printed so far.
func (p *Process) Output() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// descendants lists the children of a process, and theirs, from proc(5).
func descendants(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for _, field := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// answers waits until the host accepts connections on address, or exited is closed.
func (h *Host) answers(ctx context.Context, address string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := h.Dial(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		}
	}
}
