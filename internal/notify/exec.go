package notify

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// execPath is where a command finds the programs it runs.
const execPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execSender runs a command for each message: the text comes on its standard input, the rest in RELEVE_… variables.
// Nothing else is in its environment but a PATH. It has delivered the message when it exits with 0.
func execSender(c Config) (sendFunc, error) {
	if len(c.Command) == 0 {
		return nil, errors.New("there is no command")
	}
	return func(ctx context.Context, m Message) error {
		cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
		cmd.Env = []string{"PATH=" + execPath}
		for name, value := range map[string]string{
			"EVENT": m.Event, "KEY": m.Key, "SUBJECT": m.Subject,
			"SEVERITY": m.Severity.String(), "TIME": m.Time.Format(time.RFC3339), "ABOUT": m.About,
			"REMINDER": map[bool]string{true: "1"}[m.Reminder],
		} {
			cmd.Env = append(cmd.Env, "RELEVE_"+name+"="+strings.ReplaceAll(value, "\x00", ""))
		}
		cmd.Stdin = strings.NewReader(m.Text + "\n")
		var out head
		cmd.Stdout, cmd.Stderr = &out, &out
		// A group of its own, so that its children end with it; and one that holds the pipes open must not keep us.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
		cmd.WaitDelay = time.Second
		if err := cmd.Run(); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("run %s: %w: %s", c.Command[0], err, out.text)
		}
		return nil
	}, nil
}

// A head keeps the beginning of what is written to it.
type head struct{ text []byte }

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), maxAnswer-len(h.text))]...)
	return len(p), nil
}
