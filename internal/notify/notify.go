// Package notify tells a human: at most once per event, at least once per alarm. Messages are written to an outbox on
// disk before anything else happens, because alarms are raised exactly when networks are sick and machines restart;
// each channel then delivers them at its own pace.
//
// No error of this package holds a secret: not a key, not a token, not a URL that contains one.
package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	Time     time.Time // when it happened; the time of Post when zero
	Severity Severity
}

// What a message may be long; whatever a program makes of its data, a human reads no more.
const (
	maxSubject = 300
	maxText    = 16_000
)

// tidied makes m fit to be stored and sent.
func (m Message) tidied(now time.Time) Message {
	if y := m.Time.Year(); m.Time.IsZero() || y < 0 || y > 9999 { // beyond that, JSON knows no time
		m.Time = now
	}
	m.Event = strings.ToValidUTF8(m.Event, "?")
	m.Key = strings.ToValidUTF8(m.Key, "?")
	m.Subject = clip(oneLine(m.Subject), maxSubject)
	m.Text = clip(strings.ToValidUTF8(m.Text, "?"), maxText)
	return m
}

// Channel is a way to reach a human.
type Channel struct {
	Name   string
	Events []string // only these; none means all
	// Send delivers m, or returns why it could not. It must respect ctx, and its errors hold no secret.
	Send func(ctx context.Context, m Message) error
}

type sendFunc = func(context.Context, Message) error

// wants reports whether the channel asks for the event.
func (c Channel) wants(event string) bool {
	return len(c.Events) == 0 || slices.Contains(c.Events, event)
}

// Channels makes the channels of a configuration. Its errors name the channel.
func Channels(configs []Config) ([]Channel, error) {
	channels := make([]Channel, 0, len(configs))
	var errs []error
	for _, c := range configs {
		send, err := sender(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("channel %s: %w", c.ChannelName(), err))
			continue
		}
		channels = append(channels, Channel{Name: c.ChannelName(), Events: c.Events, Send: redacted(send, c.secrets())})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return channels, nil
}

// sender makes the function that delivers for a configuration.
func sender(c Config) (sendFunc, error) {
	switch c.Type {
	case "smtp":
		return smtpSender(c, nil)
	case "exec":
		return execSender(c)
	default:
		return httpSender(c)
	}
}

// sendTimeout bounds one attempt to deliver.
const sendTimeout = 20 * time.Second

func attempt(ctx context.Context, c Channel, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return c.Send(ctx, m)
}

// Result is what became of a test message on one channel.
type Result struct {
	Channel string
	Took    time.Duration
	Err     error
}

// Test sends m over every channel, whatever its events, all at once, and tells what became of it. It takes 20 s at most.
func Test(ctx context.Context, channels []Channel, m Message) []Result {
	results := make([]Result, len(channels))
	var all sync.WaitGroup
	for i, c := range channels {
		all.Go(func() {
			began := time.Now()
			err := attempt(ctx, c, m.tidied(began))
			results[i] = Result{Channel: c.Name, Took: time.Since(began), Err: err}
		})
	}
	all.Wait()
	return results
}
