package syncagent

import (
	"errors"

	"releve/internal/notify"
)

type notifyTestCmd struct{}

func (notifyTestCmd) Run(a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	channels, err := notify.Channels("syncagent", cfg.Notify)
	if err != nil {
		return err
	}
	if len(channels) == 0 {
		return errors.New("nobody would be told: there is no [[notify]] in the configuration")
	}
	if !notify.Test(a.ctx, a.env.Stdout, "syncagent", channels) {
		return silent{exitFailed}
	}
	return nil
}
