package watchdog

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"releve/internal/notify"
)

// alarms tells the owner of a lasting trouble once, and remembers over a restart that it was told. What concerns who
// serves a site is the business of package failover; these are the others.
type alarms struct {
	store store
	now   func() time.Time
	tell  func(notify.Message) error
	log   *slog.Logger

	mu     sync.Mutex
	raised map[string]time.Time
}

func newAlarms(st store, now func() time.Time, tell func(notify.Message) error, log *slog.Logger) *alarms {
	a := &alarms{store: st, now: now, tell: tell, log: log, raised: map[string]time.Time{}}
	loadJSON(st.alarmsPath(), &a.raised)
	return a
}

// raise tells the owner m unless key is raised already.
func (a *alarms) raise(key string, m notify.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.raised[key]; ok {
		return
	}
	now := a.now()
	m.Key, m.Time = key+"-"+strconv.FormatInt(now.Unix(), 10), now
	if err := a.tell(m); err != nil {
		a.log.Error("message is not on disk", "event", m.Event, "error", err)
		return
	}
	a.log.Warn("owner told", "event", m.Event, "subject", m.Subject)
	a.raised[key] = now
	a.save()
}

// clear ends key, so that it can be raised again.
func (a *alarms) clear(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.raised[key]; ok {
		delete(a.raised, key)
		a.save()
	}
}

func (a *alarms) save() {
	if err := saveJSON(a.store.alarmsPath(), a.raised); err != nil {
		a.log.Error("alarms are not on disk", "error", err)
	}
}
