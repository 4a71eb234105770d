package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	retryMin = time.Second
	// retryMax: the owner should hear of an outage within half a minute of the network's return.
	retryMax = 30 * time.Second
	// expiry is how long a message is tried. What could not be told in a week is history.
	expiry = 7 * 24 * time.Hour
	// refusedMax is the longest pause after a service has refused a message, which it will most likely do again: some
	// lock out who insists.
	refusedMax = 10 * time.Minute
	// waitMax bounds what a service can ask for.
	waitMax = time.Hour
	// remember is how long the outbox knows what it has told.
	remember = 30 * 24 * time.Hour
	// farewell is how long a delivery may go on after the process was told to end. Who is cut off in the middle of one
	// cannot know what became of it, and would tell it again after the next start.
	farewell = 5 * time.Second
)

// Outbox keeps messages on disk until they are delivered. It is safe for concurrent use, by one process.
//
// A message is told once per key and channel: again only if the process is killed, or the reply lost, between the
// delivery and the note of it, because the other choice would be to lose it.
type Outbox struct {
	store    store
	channels []Channel

	mu      sync.Mutex
	waiting map[string][]*entry  // by channel
	failing map[string]string    // by channel: why the last attempt failed
	counts  map[string]Count     // by channel
	last    map[saying]time.Time // when it was delivered; see remind
	wake    map[string]chan struct{}
	told    map[string]bool // files whose mark could not be written
	expired int
	bad     int
}

// Count is what a channel has done since the start.
type Count struct {
	Channel   string
	Waiting   int // now
	Delivered int
	Failed    int // attempts
	Expired   int
}

// OpenOutbox opens the outbox in dir, which is made if need be. Messages that wait there for a channel that is no
// longer configured stay where they are, in case it comes back. What cannot be read is set aside, and reported by Failing.
func OpenOutbox(dir string, channels []Channel) (*Outbox, error) {
	o := &Outbox{
		store: store{dir}, channels: channels, waiting: map[string][]*entry{}, failing: map[string]string{}, counts: map[string]Count{}, last: map[saying]time.Time{},
		wake: map[string]chan struct{}{}, told: map[string]bool{},
	}
	for _, c := range channels {
		if o.wake[c.Name] != nil {
			return nil, fmt.Errorf("open outbox: two channels are named %q", c.Name)
		}
		o.wake[c.Name] = make(chan struct{}, 1)
	}
	found, err := o.store.open(time.Now())
	if err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	for _, e := range found.waiting {
		o.waiting[e.Channel] = append(o.waiting[e.Channel], e)
	}
	o.bad, o.expired = found.bad, found.expired
	return o, nil
}

// Post puts m into the outbox of every channel that wants its event. When it returns nil the message is on disk. When
// that fails (a full disk) it is delivered all the same, unless the process ends first. A
// message whose key was posted before is not told again.
func (o *Outbox) Post(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, c := range o.channels {
		if !c.wants(m) {
			continue
		}
		if err := o.post(c.Name, m); err != nil {
			errs = append(errs, fmt.Errorf("channel %s: %w", c.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("post message: %w", err)
	}
	return nil
}

func (o *Outbox) post(channel string, m Message) error {
	now := time.Now()
	m = m.tidied(now)
	e := &entry{Version: entryVersion, Channel: channel, Posted: now, Message: m}
	e.file = fileName(channel, m.Key)
	if i := o.find(channel, e.file); i >= 0 {
		if e = o.waiting[channel][i]; !e.unwritten {
			return nil
		}
	} else if o.told[e.file] || o.store.has(e.file) {
		return nil
	} else {
		o.waiting[channel] = append(o.waiting[channel], e)
		select {
		case o.wake[channel] <- struct{}{}:
		default:
		}
	}
	err := o.store.write(e)
	e.unwritten = err != nil
	return err
}

// find is the index of a waiting message, or -1.
func (o *Outbox) find(channel, file string) int {
	return slices.IndexFunc(o.waiting[channel], func(e *entry) bool { return e.file == file })
}

// Pending is how many messages wait, all channels together.
func (o *Outbox) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, c := range o.channels {
		n += len(o.waiting[c.Name])
	}
	return n
}

// Failing is a sentence for each channel whose last attempt to deliver failed, and for what was lost.
func (o *Outbox) Failing() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var sentences []string
	say := func(format string, args ...any) { sentences = append(sentences, fmt.Sprintf(format, args...)) }
	for _, c := range o.channels {
		if why := o.failing[c.Name]; why != "" {
			say("The channel %s does not deliver: %s.", c.Name, why)
		}
	}
	if o.expired > 0 {
		say("%d messages could not be delivered within %d days and were given up.", o.expired, expiry/(24*time.Hour))
	}
	if o.bad > 0 {
		say("%d files of the outbox could not be read as messages and were set aside as %s/*%s.", o.bad, o.store.dir, badExt)
	}
	return sentences
}

// Counts tells what each channel has done since the start, in the order of the configuration.
func (o *Outbox) Counts() []Count {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []Count
	for _, c := range o.channels {
		n := o.counts[c.Name]
		n.Channel, n.Waiting = c.Name, len(o.waiting[c.Name])
		all = append(all, n)
	}
	return all
}

// LastErrors tells, by channel, why the last attempt to deliver failed. A channel that delivers is not in it.
func (o *Outbox) LastErrors() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.failing)
}

// Run delivers until ctx ends, and returns nil: at once, or, where a delivery is under way, when that is over, 5 s later
// at most. Each channel goes its own way: a dead one delays no other.
func (o *Outbox) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, c := range o.channels {
		all.Go(func() { o.deliver(ctx, c) })
	}
	all.Wait()
	<-ctx.Done()
	return nil
}

func (o *Outbox) deliver(ctx context.Context, c Channel) {
	pause := retryMin
	for ctx.Err() == nil {
		e := o.next(c.Name)
		var retry <-chan time.Time
		wake := o.wake[c.Name] // a new message is tried at once
		switch {
		case e == nil:
		case time.Since(e.Posted) > expiry:
			o.done(e, expiredExt)
			continue
		default:
			err := o.attempt(ctx, c, e.Message)
			if err == nil {
				o.note(e, nil)
				o.done(e, sentExt)
				pause = retryMin
				continue
			}
			if ctx.Err() != nil {
				return // the end of the process says nothing about the channel
			}
			o.note(e, err)
			most, wait := retryMax, time.Duration(0)
			if r, ok := errors.AsType[*refusal](err); ok {
				most, wait = refusedMax, min(r.wait, waitMax)
			}
			if wait > 0 {
				wake = nil // it is the service that wants to be left alone, whatever the message
			}
			retry = time.After(max(min(pause, most), wait))
			pause = min(2*pause, most)
		}
		select {
		case <-retry:
		case <-wake:
		case <-ctx.Done():
		}
	}
}

// attempt tries once. The end of ctx leaves it a little time to come to its own.
func (o *Outbox) attempt(ctx context.Context, c Channel, m Message) error {
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(farewell, cancel) })()
	return c.Send(sending, m)
}

// next chooses the message to try: the one tried least, so that one which is refused for ever does not hold up the
// others, and of those the oldest.
func (o *Outbox) next(channel string) *entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.wake[channel]:
	default:
	}
	list := o.waiting[channel]
	if len(list) == 0 {
		return nil
	}
	return slices.MinFunc(list, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.attempts, b.attempts), a.Posted.Compare(b.Posted))
	})
}

// note remembers how an attempt went.
func (o *Outbox) note(e *entry, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.attempts++
	n := o.counts[e.Channel]
	if err != nil {
		o.failing[e.Channel] = err.Error()
		n.Failed++
	} else {
		delete(o.failing, e.Channel)
		o.last[sayingOf(e)] = time.Now()
		n.Delivered++
	}
	o.counts[e.Channel] = n
}

// done takes e off the list and marks its file.
func (o *Outbox) done(e *entry, ext string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(e)
	if ext == expiredExt {
		o.expired++
		n := o.counts[e.Channel]
		n.Expired++
		o.counts[e.Channel] = n
	}
	if err := o.store.mark(e.file, ext); err != nil {
		o.told[e.file] = true
	}
}

func (o *Outbox) drop(e *entry) {
	o.waiting[e.Channel] = slices.DeleteFunc(o.waiting[e.Channel], func(x *entry) bool { return x == e })
}
