package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// program is one of the two daemons: its binary, its configuration, and its process while it runs.
type program struct {
	name, path, config, log string

	cmd    *exec.Cmd
	exited chan struct{}
}

// command is the program as the owner calls it.
func (p *program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, append(args, "--config", p.config)...)
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is for the demo, which ends its daemons in order
		Pdeathsig: syscall.SIGKILL, // not even a killed demo leaves any behind
	}
	return cmd
}

// start starts the daemon. What it logs goes to a file.
func (p *program) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = p.command(context.Background(), "run") // ended by stop
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.exited = make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// died is an error if the daemon was started and does not run any more.
func (p *program) died() error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.exited:
		return fmt.Errorf("%s has ended by itself: %s", p.name, p.cmd.ProcessState)
	default:
		return nil
	}
}

// stop asks the daemon to end, and kills it where it takes more than 15 s. It is without effect on one that does not
// run; the error is about one that did not end well.
func (p *program) stop() error {
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(15 * time.Second)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		_ = cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("%s did not end within 15 s of SIGTERM", p.name)
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended with %s", p.name, cmd.ProcessState)
	}
	return nil
}

// run runs one of the program's other commands to its end, and returns what it printed. An exit code other than 0 is
// an error that holds it all.
func (p *program) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	output, err := p.command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("%s %s: %w\n%s", p.name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

// status asks the daemon what `status --json` says.
func (p *program) status(ctx context.Context, v any) error {
	output, err := p.command(ctx, "status", "--json").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return err
	}
	return json.Unmarshal(output, v)
}

// logTail is the end of what the daemon logged.
func (p *program) logTail(lines int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// agentStatus is what the story reads of `syncagent status --json`.
type agentStatus struct {
	State    string
	Problems []string
	Folders  []struct{ Name, State string }
	Backups  []struct{ Serving, Holding string }
}

// watchdogStatus is what the story reads of `watchdog status --json`.
type watchdogStatus struct {
	Uplink string
	Home   struct{ IPv4 string }
	Sites  []siteStatus
}

type siteStatus struct {
	State, Serving, Verdict string
	Failures, Rounds        int
	Ready                   []struct {
		Check string
		OK    bool
		Why   string
	}
	LastSwitch *struct {
		Decided             time.Time
		Accepted, Published *time.Time
	} `json:"last_switch"`
}

// ready reports whether the standby could take over.
func (s siteStatus) ready() bool {
	for _, c := range s.Ready {
		if !c.OK {
			return false
		}
	}
	return len(s.Ready) > 0
}
