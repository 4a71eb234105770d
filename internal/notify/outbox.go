package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

const (
	retryMin = time.Second
	// retryMax: the owner should hear of an outage within half a minute of the network's return.
	retryMax = 30 * time.Second
	// expiry is how long a message is tried. What could not be told in a week is history.
	expiry = 7 * 24 * time.Hour
	// remember is how long the outbox knows what it has told.
	remember = 30 * 24 * time.Hour
)

// Outbox keeps messages on disk until they are delivered. It is safe for concurrent use.
//
// Each message on each channel is one file, named by the message's key and the channel: NAME.json while it waits,
// NAME.sent once it was delivered, so that the same key is never told twice, across restarts too. A file that cannot
// be read is set aside as NAME.bad.
type Outbox struct {
	dir      string
	channels []Channel

	mu      sync.Mutex
	waiting map[string][]entry // by channel
	failing map[string]string  // by channel: why the last attempt failed
	wake    map[string]chan struct{}
}

// entry is a waiting message and its file.
type entry struct {
	file    string
	Message Message `json:"message"`
	Channel string  `json:"channel"`
}

// OpenOutbox opens the outbox in dir, which is made if need be. Messages that wait there for a channel that is no
// longer configured stay where they are.
func OpenOutbox(dir string, channels []Channel) (*Outbox, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	o := &Outbox{dir: dir, channels: channels, waiting: map[string][]entry{}, failing: map[string]string{}, wake: map[string]chan struct{}{}}
	for _, c := range channels {
		o.wake[c.Name] = make(chan struct{}, 1)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		switch filepath.Ext(name) {
		case ".json":
			e, err := readEntry(name)
			if err != nil {
				os.Rename(name, strings.TrimSuffix(name, ".json")+".bad")
				continue
			}
			o.waiting[e.Channel] = append(o.waiting[e.Channel], e)
		case ".sent":
			if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > remember {
				os.Remove(name)
			}
		}
	}
	for _, list := range o.waiting {
		slices.SortFunc(list, func(a, b entry) int { return a.Message.Time.Compare(b.Message.Time) })
	}
	return o, nil
}

func readEntry(name string) (entry, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return entry{}, err
	}
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return entry{}, err
	}
	if e.Channel == "" || e.Message.Event == "" {
		return entry{}, errors.New("not a message")
	}
	e.file = name
	return e, nil
}

// Post puts m into the outbox of every channel that wants its event. When it returns nil the message is on disk. A
// message whose key was posted before is not told again.
func (o *Outbox) Post(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, c := range o.channels {
		if !c.wants(m.Event) {
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
	name := o.file(channel, m.Key)
	for _, ext := range []string{".json", ".sent"} {
		if _, err := os.Lstat(name + ext); err == nil {
			return nil
		}
	}
	e := entry{file: name + ".json", Message: m, Channel: channel}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// Even where the disk is full or read-only the message is worth telling.
	o.waiting[channel] = append(o.waiting[channel], e)
	select {
	case o.wake[channel] <- struct{}{}:
	default:
	}
	return renameio.WriteFile(e.file, text, 0o600)
}

// file is the path, without extension, of a message's file.
func (o *Outbox) file(channel, key string) string {
	sum := sha256.Sum256([]byte(channel + "\x00" + key))
	return filepath.Join(o.dir, hex.EncodeToString(sum[:12]))
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

// Failing is a sentence for each channel whose last attempt to deliver failed.
func (o *Outbox) Failing() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var sentences []string
	for _, c := range o.channels {
		if why := o.failing[c.Name]; why != "" {
			sentences = append(sentences, fmt.Sprintf("The channel %s does not deliver: %s.", c.Name, why))
		}
	}
	return sentences
}

// Run delivers until ctx ends. Each channel goes its own way: a dead one delays no other.
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
		e, ok := o.next(c.Name)
		if !ok {
			select {
			case <-o.wake[c.Name]:
			case <-ctx.Done():
			}
			continue
		}
		if time.Since(e.Message.Time) > expiry {
			o.done(c.Name, e, ".expired")
			continue
		}
		err := attempt(ctx, c, e.Message)
		if ctx.Err() != nil {
			return
		}
		o.note(c.Name, err)
		if err == nil {
			o.done(c.Name, e, ".sent")
			pause = retryMin
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, retryMax)
	}
}

func attempt(ctx context.Context, c Channel, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return c.Send(ctx, m)
}

func (o *Outbox) next(channel string) (entry, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if list := o.waiting[channel]; len(list) > 0 {
		return list[0], true
	}
	return entry{}, false
}

// note remembers how the last attempt went.
func (o *Outbox) note(channel string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.failing[channel] = err.Error()
		return
	}
	delete(o.failing, channel)
}

// done takes e off the list and marks its file.
func (o *Outbox) done(channel string, e entry, ext string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting[channel] = slices.DeleteFunc(o.waiting[channel], func(x entry) bool { return x.file == e.file })
	marked := strings.TrimSuffix(e.file, ".json") + ext
	if err := os.Rename(e.file, marked); err != nil {
		// The file never came to be (full disk): the mark still keeps the key from being told again.
		os.WriteFile(marked, nil, 0o600)
	}
}
