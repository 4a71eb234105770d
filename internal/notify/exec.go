package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// execSender runs a command for each message: the text comes on its standard input, the rest in RELEVE_… variables.
func execSender(c Config) (func(context.Context, Message) error, error) {
	if len(c.Command) == 0 {
		return nil, errors.New("there is no command")
	}
	return func(ctx context.Context, m Message) error {
		cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
		cmd.Env = append(cmd.Environ(),
			"RELEVE_EVENT="+m.Event, "RELEVE_KEY="+m.Key, "RELEVE_SUBJECT="+m.Subject,
			"RELEVE_SEVERITY="+m.Severity.String(), "RELEVE_TIME="+m.Time.Format(time.RFC3339))
		cmd.Stdin = bytes.NewReader([]byte(m.Text + "\n"))
		cmd.WaitDelay = time.Second // a child that keeps the pipes open must not keep us
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("run %s: %w: %s", c.Command[0], err, clip(oneLine(out), 200))
		}
		return nil
	}, nil
}
