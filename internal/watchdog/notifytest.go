package watchdog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"releve/internal/daemon"
	"releve/internal/notify"
)

// notifyTest is `watchdog notify-test`.
func notifyTest(ctx context.Context, env daemon.Env, cfg *Config) error {
	channels, err := notify.Channels(cfg.Notify)
	if err != nil {
		return err
	}
	if len(channels) == 0 {
		return errors.New("nobody would be told: there is no [[notify]] in the configuration")
	}
	at := now()
	failed := false
	for _, r := range notify.Test(ctx, channels, notify.Message{
		Event: "test", Key: fmt.Sprintf("test-%d", at.UnixNano()), Time: at, Severity: notify.Info,
		Subject: "Test message of the watchdog",
		Text:    "If you can read this, the watchdog can reach you here. Nothing to do.",
	}) {
		if r.Err != nil {
			failed = true
			fmt.Fprintf(env.Stdout, "✗ %s: %v\n", r.Channel, r.Err)
			continue
		}
		fmt.Fprintf(env.Stdout, "✓ %s: delivered in %s\n", r.Channel, r.Took.Round(time.Millisecond))
	}
	if failed {
		return errSaid
	}
	return nil
}
