package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// remindEvery is the pause between two looks at what reminders are due. The first look is one pause after the start,
// when what had been over has been found to be.
const remindEvery = time.Minute

// Remind reminds the channels that want it of what lasts, until ctx ends, and returns nil. The messages that lasting
// gives are those that told of it first.
func (o *Outbox) Remind(ctx context.Context, lasting func() []Message) error {
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			// A full disk is no reason to end, and is reported by whoever has something new to tell.
			_ = o.remind(lasting(), time.Now())
		}
	}
}

// remind posts the reminders that are due, and withdraws those that wait for delivery while what they tell of is over,
// or while a newer one says more: when a channel works again it says how things are, once.
//
// Little has to be remembered for that: a reminder's key has its number, which follows from the time. What is kept in
// memory alone is when the channel last told of it, so that a first word that comes late is not followed at once.
func (o *Outbox) remind(lasting []Message, now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	lasts := func(key string) bool {
		return slices.ContainsFunc(lasting, func(m Message) bool { return m.Key == key })
	}
	for _, c := range o.channels {
		due := map[string]bool{}
		for _, m := range lasting {
			r, ok := reminderOf(m, now, c.Remind)
			switch {
			case !ok || !c.wants(m):
				continue
			case o.find(c.Name, fileName(c.Name, m.Key)) >= 0: // the first word has not got through yet
				continue
			case now.Sub(o.last[saying{c.Name, m.Key}]) < c.Remind:
				continue
			}
			due[fileName(c.Name, r.Key)] = true
			errs = append(errs, o.post(c.Name, r))
		}
		for _, e := range slices.Clone(o.waiting[c.Name]) {
			if e.Message.Reminder && !due[e.file] {
				o.drop(e)
				o.store.remove(e.file)
			}
		}
	}
	maps.DeleteFunc(o.last, func(s saying, _ time.Time) bool { return !lasts(s.key) })
	return errors.Join(errs...)
}

// saying is what was told on a channel: a message, or a reminder of it.
type saying struct{ channel, key string }

// isReminder stands in the keys of reminders, between that of the message and the number.
const isReminder = " reminder "

func sayingOf(e *entry) saying {
	key := e.Message.Key
	if e.Message.Reminder {
		key = key[:strings.LastIndex(key, isReminder)]
	}
	return saying{e.Channel, key}
}

// reminderOf is the reminder of m that is the newest at the time now, if one is due.
func reminderOf(m Message, now time.Time, every time.Duration) (Message, bool) {
	if every <= 0 || now.Sub(m.Time) < every {
		return Message{}, false
	}
	n := now.Sub(m.Time) / every
	r := m
	r.Key = fmt.Sprintf("%s%s%d", m.Key, isReminder, n)
	r.Subject = "Reminder: " + m.Subject
	r.Text = fmt.Sprintf("This lasts since %s, %s now.\n\n%s", moment(m.Time), roughly(now.Sub(m.Time)), m.Text)
	r.Reminder, r.Since, r.Time = true, m.Time, now
	return r, true
}

// roughly is a duration in its two largest units.
func roughly(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd %dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	default:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
}
