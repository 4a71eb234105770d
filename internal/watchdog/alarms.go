package watchdog

import (
	"log/slog"
	"time"

	"releve/internal/failover"
	"releve/internal/notify"
)

// alarms tells the owner of a lasting trouble once, and remembers over a restart that it was told. What concerns who
// serves a site is told as package failover wants it, and only remembered here; see [site.lasting].
type alarms struct {
	*notify.Alarms
	now func() time.Time
	log *slog.Logger
}

func newAlarms(st store, now func() time.Time, tell func(notify.Message) error, log *slog.Logger) *alarms {
	book, lost := notify.OpenAlarms(st.alarmsPath(), tell)
	if lost != nil {
		log.Warn("forgetting what was told; it may be told again", "error", lost)
	}
	return &alarms{book, now, log}
}

// raise tells the owner m unless key is raised already.
func (a *alarms) raise(key string, m notify.Message) {
	told, err := a.Raise(key, m, a.now())
	if told {
		a.log.Warn("owner told", "event", m.Event, "subject", m.Subject)
	}
	if err != nil {
		a.log.Error("message is not on disk", "event", m.Event, "error", err)
	}
}

// clear ends key, so that it can be raised again.
func (a *alarms) clear(key string) {
	if _, _, err := a.Clear(key); err != nil {
		a.log.Error("alarms are not on disk", "error", err)
	}
}

// conditions are the events that tell of something that lasts.
var conditions = [...]failover.Event{
	failover.EventFailedOver, failover.EventFailedBack, failover.EventCannotSwitch, failover.EventCannotFollow, failover.EventStandbyDown,
	failover.EventForeignRecords, failover.EventHeld, failover.EventProdPartial,
}

// lasts reports whether what e tells of is so.
func lasts(s failover.State, e failover.Event) bool {
	return s.Alarms[e] || e == failover.EventFailedOver && s.Goal == failover.Standby
}

func (s *site) alarmKey(e failover.Event) string { return s.cfg.Name + " " + string(e) }

// lasting remembers what n told of, for reminders, if it lasts. That it is told is seen to by the failover state.
func (s *site) lasting(n failover.Notice, m notify.Message) {
	if !lasts(s.state, n.Event) {
		return
	}
	if err := s.alarms.Keep(s.alarmKey(n.Event), m); err != nil {
		s.log.Error("there will be no reminders after a restart", "event", m.Event, "error", err)
	}
}

// forget ends the reminders of what is over.
func (s *site) forget() {
	for _, e := range conditions {
		if !lasts(s.state, e) {
			s.alarms.clear(s.alarmKey(e))
		}
	}
	if s.state.Goal == failover.Standby && s.state.Serving == failover.Standby { // by now prod may be up again
		s.alarms.Reword(s.alarmKey(failover.EventFailedOver), s.cfg.Name+": the standby serves", s.servesText())
	}
}
