package watchdog

import (
	"context"
	"errors"

	"releve/internal/daemon"
	"releve/internal/notify"
)

// notifyTest is `watchdog notify-test`.
func notifyTest(ctx context.Context, env daemon.Env, cfg *Config) error {
	channels, err := notify.Channels("watchdog", cfg.Notify)
	if err != nil {
		return err
	}
	if len(channels) == 0 {
		return errors.New("nobody would be told: there is no [[notify]] in the configuration")
	}
	if !notify.Test(ctx, env.Stdout, "the watchdog", channels) {
		return errSaid
	}
	return nil
}
