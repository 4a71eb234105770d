// Package notify tells a human: at most once per event, at least once per alarm. Messages are written to an outbox on
// disk before anything else happens, because alarms are raised exactly when networks are sick and machines restart;
// each channel then delivers them at its own pace.
//
// No error of this package holds a secret: not a key, not a token, not a URL that contains one.
package notify

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Severity says how much a message matters.
type Severity int

// The severities, from good news to bad.
const (
	Info Severity = iota
	Warning
	Critical
)

func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	default:
		return "critical"
	}
}

// Message is one thing to tell.
type Message struct {
	Event    string    // what kind of thing happened, as the configuration's events name it
	Key      string    // messages with the same key are told once per channel; unique to the occurrence
	Subject  string    // one line
	Text     string    // sentences for a human at night
	Time     time.Time // when it happened
	Severity Severity
}

// Channel is a way to reach a human.
type Channel struct {
	Name   string
	Events []string // only these; none means all
	// Send delivers m, or returns why it could not. It must respect ctx, and its errors hold no secret.
	Send func(ctx context.Context, m Message) error
}

// wants reports whether the channel asks for the event.
func (c Channel) wants(event string) bool {
	if len(c.Events) == 0 {
		return true
	}
	for _, e := range c.Events {
		if e == event {
			return true
		}
	}
	return false
}

// Channels makes the channels of a configuration. Its errors name the channel.
func Channels(configs []Config) ([]Channel, error) {
	channels := make([]Channel, 0, len(configs))
	for _, c := range configs {
		send, err := sender(c)
		if err != nil {
			return nil, fmt.Errorf("channel %s: %w", c.ChannelName(), err)
		}
		channels = append(channels, Channel{Name: c.ChannelName(), Events: c.Events, Send: redacted(send, c.secrets())})
	}
	return channels, nil
}

// sender makes the function that delivers for a configuration.
func sender(c Config) (func(context.Context, Message) error, error) {
	switch c.Type {
	case "smtp":
		return smtpSender(c)
	case "exec":
		return execSender(c)
	default:
		return httpSender(c)
	}
}

// sendTimeout bounds one attempt to deliver.
const sendTimeout = 20 * time.Second

// Result is what became of a test message on one channel.
type Result struct {
	Channel string
	Took    time.Duration
	Err     error
}

// Test sends m over every channel, whatever its events, all at once, and tells what became of it.
func Test(ctx context.Context, channels []Channel, m Message) []Result {
	results := make([]Result, len(channels))
	done := make(chan struct{})
	for i, c := range channels {
		go func() {
			defer func() { done <- struct{}{} }()
			ctx, cancel := context.WithTimeout(ctx, sendTimeout)
			defer cancel()
			began := time.Now()
			err := c.Send(ctx, m)
			results[i] = Result{Channel: c.Name, Took: time.Since(began), Err: err}
		}()
	}
	for range channels {
		<-done
	}
	return results
}

// redacted keeps the secrets of a channel out of its errors, whoever worded them.
func redacted(send func(context.Context, Message) error, secrets []string) func(context.Context, Message) error {
	return func(ctx context.Context, m Message) error {
		err := send(ctx, m)
		if err == nil {
			return nil
		}
		text := err.Error()
		for _, s := range secrets {
			text = strings.ReplaceAll(text, s, "(redacted)")
		}
		if text == err.Error() {
			return err
		}
		return fmt.Errorf("%s", text) //nolint:err113 // the cause is dropped on purpose: it holds a secret
	}
}
