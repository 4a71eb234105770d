package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// Alarms remembers what the owner was told of and is not over: it is told once, and, since it is kept in a file, a
// restart neither repeats it nor forgets that it may have ended. It is safe for concurrent use.
type Alarms struct {
	file string
	post func(Message) error

	mu      sync.Mutex
	lasting map[string]Message // by the condition's key
	unsaid  map[string]bool    // of those, what could not be put on disk
}

// alarmsFile is the file as it is written.
type alarmsFile struct {
	Version int                `json:"version"`
	Lasting map[string]Message `json:"lasting"`
}

// OpenAlarms reads the file, and will tell by post. It is of use in any case: lost says why nothing is remembered,
// which costs no more than an alarm told twice.
func OpenAlarms(file string, post func(Message) error) (a *Alarms, lost error) {
	a = &Alarms{file: file, post: post, lasting: map[string]Message{}, unsaid: map[string]bool{}}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	var f alarmsFile
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err == nil && f.Version != 1 {
		err = fmt.Errorf("version %d is not known", f.Version)
	}
	if err != nil {
		return a, fmt.Errorf("read alarms: %w", err)
	}
	for key, m := range f.Lasting {
		a.lasting[key] = m
	}
	return a, nil
}

// Raise tells the owner m, unless the condition key is known to last; then m's words are kept for reminders. Its key and
// time are given here. An error means that it may not survive the end of the process, and is tried again by the next Raise.
func (a *Alarms) Raise(key string, m Message, now time.Time) (told bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, known := a.lasting[key]
	if known {
		m.Key, m.Time = before.Key, before.Time
	} else {
		m.Key, m.Time = fmt.Sprintf("%s %d", key, now.UnixNano()), now
	}
	a.lasting[key] = m
	if known && !a.unsaid[key] {
		return false, nil
	}
	if err := a.post(m); err != nil {
		a.unsaid[key] = true
		return !known, err
	}
	delete(a.unsaid, key)
	return !known, a.save()
}

// Keep remembers that m, which is told by the caller, lasts.
func (a *Alarms) Keep(key string, m Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lasting[key] = m
	return a.save()
}

// Reword gives new words to a condition that lasts, for its reminders.
func (a *Alarms) Reword(key, subject, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok := a.lasting[key]; ok {
		m.Subject, m.Text = subject, text
		a.lasting[key] = m
	}
}

// Clear ends a condition, and gives what was told of it, if anything was.
func (a *Alarms) Clear(key string) (m Message, was bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, was = a.lasting[key]
	if !was {
		return m, false, nil
	}
	delete(a.lasting, key)
	delete(a.unsaid, key)
	return m, true, a.save()
}

// Lasting is what has been told and is not over, the oldest first.
func (a *Alarms) Lasting() []Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Message
	for _, m := range a.lasting {
		all = append(all, m)
	}
	slices.SortFunc(all, func(x, y Message) int { return x.Time.Compare(y.Time) })
	return all
}

// save writes what is on disk in the outbox: of the rest a restart is to know nothing, so that it is told then.
func (a *Alarms) save() error {
	f := alarmsFile{Version: 1, Lasting: map[string]Message{}}
	for key, m := range a.lasting {
		if !a.unsaid[key] {
			f.Lasting[key] = m
		}
	}
	text, err := json.MarshalIndent(f, "", "\t")
	if err == nil {
		err = renameio.WriteFile(a.file, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("save alarms: %w", err)
	}
	return nil
}
