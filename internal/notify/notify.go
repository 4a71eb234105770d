// Package notify tells a human: at most once per event, at least once per alarm. Messages are written to an outbox on
// disk before anything else happens, because alarms are raised exactly when networks are sick and machines restart;
// each channel then delivers them at its own pace. What lasts is remembered until it is over ([Alarms]), for the
// channels that are to be reminded of it. A dead-man's switch ([Deadman]) tells a service elsewhere that we still decide.
//
// Read outbox.go for how a message gets from Post to a channel, services.go for what each service is sent.
//
// No error of this package holds a secret: not a key, not a token, not a URL that contains one.
package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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

// ParseSeverity is the inverse of [Severity.String].
func ParseSeverity(text string) (Severity, bool) {
	for _, s := range []Severity{Info, Warning, Critical} {
		if s.String() == text {
			return s, true
		}
	}
	return 0, false
}

// Message is one thing to tell.
type Message struct {
	Event    string    // what kind of thing happened, as the configuration's events name it
	Key      string    // messages with the same key are told once per channel; unique to the occurrence
	About    string    // what it happened to: a site, a backup, a folder; may be empty
	Subject  string    // one line
	Text     string    // sentences for a human at night
	Time     time.Time // when it happened; the time of Post when zero
	Severity Severity
	Reminder bool      `json:",omitempty"` // of what was told before and lasts
	Since    time.Time `json:",omitzero"`  // of a reminder: when it was told first
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
	m.About = clip(oneLine(m.About), maxSubject)
	m.Subject = clip(oneLine(m.Subject), maxSubject)
	m.Text = clip(lines(m.Text), maxText)
	return m
}

// Channel is a way to reach a human.
type Channel struct {
	Name        string
	Events      []string      // only these; none means all
	MinSeverity Severity      // only messages that matter so much
	Remind      time.Duration // between reminders of what lasts; 0 = none
	// Send delivers m, or returns why it could not. It must respect ctx, and its errors hold no secret.
	Send func(ctx context.Context, m Message) error
}

type sendFunc = func(context.Context, Message) error

// wants reports whether the channel is to be told m.
func (c Channel) wants(m Message) bool {
	return m.Severity >= c.MinSeverity && (len(c.Events) == 0 || slices.Contains(c.Events, m.Event))
}

// Channels makes the channels of a configuration. What they tell says which program speaks, unless that is empty, and
// on which host. Its errors name the channel.
func Channels(program string, configs []Config) ([]Channel, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	from := speaker{program, host}
	channels := make([]Channel, 0, len(configs))
	var errs []error
	for _, c := range configs {
		channel, err := c.channel(from)
		if err != nil {
			errs = append(errs, fmt.Errorf("channel %s: %w", c.ChannelName(), err))
			continue
		}
		channels = append(channels, channel)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return channels, nil
}

func (c Config) channel(from speaker) (Channel, error) {
	send, err := sender(c)
	if err != nil {
		return Channel{}, err
	}
	reword, err := c.wording(from)
	if err != nil {
		return Channel{}, err
	}
	least, _ := ParseSeverity(c.MinSeverity) // Info where none is given
	return Channel{
		Name: c.ChannelName(), Events: c.Events, MinSeverity: least, Remind: c.Remind.D(),
		Send: redacted(func(ctx context.Context, m Message) error { return send(ctx, reword(m)) }, c.secrets()),
	}, nil
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

// Test sends a test message over every channel, whatever its filters, all at once, writes what became of it to out, a
// line for each channel, and reports whether all went well. It takes 20 s at most.
func Test(ctx context.Context, out io.Writer, program string, channels []Channel) bool {
	now := time.Now()
	m := Message{
		Event: "test", Key: fmt.Sprintf("test-%d", now.UnixNano()), Time: now, Severity: Info,
		Subject: "Test message of " + program,
		Text:    "If you can read this, " + program + " can reach you here. Nothing to do.",
	}.tidied(now)
	lines := make([]string, len(channels))
	good := make([]bool, len(channels))
	var all sync.WaitGroup
	for i, c := range channels {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, sendTimeout)
			defer cancel()
			began := time.Now()
			if err := c.Send(ctx, m); err != nil {
				lines[i] = fmt.Sprintf("✗ %s: %v", c.Name, err)
				return
			}
			lines[i], good[i] = fmt.Sprintf("✓ %s: delivered in %v", c.Name, time.Since(began).Round(time.Millisecond)), true
		})
	}
	all.Wait()
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	return !slices.Contains(good, false)
}
