// Package failover decides who must serve a site, prod or the standby. It is
// pure: no clock, no file, no socket. What the world looks like comes in as an
// [Observation] that carries its own time, what to do goes out as actions, and
// everything that must survive a restart is in [State].
//
// The rules, in the order in which they win over each other:
//
//   - Unknown is not down: a round without a verdict counts for nothing, and
//     nothing is switched while the last round has none.
//   - Records that are neither prod's nor the standby's are never overwritten.
//   - Never toward a standby that is not known, now, to be ready. If both are
//     down, whoever has the name keeps it.
//   - Never away from a prod that others reach, where they are asked.
//   - What the operator said stands until the operator says otherwise.
//   - A switch that has written something is finished. One that has written
//     nothing yet is decided anew with each observation.
//   - So many automatic switches a day, then hold.
//
// The counters are those of gdnsd's service monitors (gdnsd.config(5)):
// consecutive failures, and failures that are only forgotten after a run of
// successes.
package failover

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Who can serve a site.
type Who string

const (
	Nobody  Who = "" // no preference, where a preference is meant
	Prod    Who = "prod"
	Standby Who = "standby"
)

// Phase is the state of a site as the owner is shown it.
type Phase string

const (
	Normal     Phase = "normal"      // prod serves and answers
	Failing    Phase = "failing"     // prod serves and does not answer
	Switching  Phase = "switching"   // the zone is being pointed at the standby
	FailedOver Phase = "failed_over" // the standby serves
	Returning  Phase = "returning"   // the zone is being pointed back at prod
	Held       Phase = "held"        // too many switches: nothing automatic until the owner has looked
)

// Event names what the owner is told about.
type Event string

const (
	EventFailedOver     Event = "failed_over"     // prod is down and the standby has the name, or is being given it for a minute in vain
	EventPublished      Event = "published"       // a switch announced as failing has been made after all
	EventFailedBack     Event = "failed_back"     // prod has the name again
	EventProdBack       Event = "prod_back"       // prod answers again after an outage the owner was told about; the name stays where it is
	EventCannotSwitch   Event = "cannot_switch"   // prod is down and the standby cannot take over
	EventCannotFollow   Event = "cannot_follow"   // the home address changed and the zone could not be told for a minute
	EventStandbyDown    Event = "standby_down"    // the standby is not ready
	EventStandbyUp      Event = "standby_up"      // the standby is ready again
	EventForeignRecords Event = "foreign_records" // the zone holds what we did not put there
	EventHeld           Event = "held"            // no more automatic switch until the owner has looked
	EventProdPartial    Event = "prod_partial"    // some of prod's addresses fail, not enough to switch
)

// Policy is what the owner configured for a site.
type Policy struct {
	Failures  int // consecutive rounds down before prod counts as down
	Successes int // consecutive rounds up before prod counts as up again

	// Strikes failed rounds, not necessarily consecutive, also count as down;
	// only Forgive consecutive rounds up clear them. Strikes 0 turns it off.
	Strikes, Forgive int

	Prod []netip.Addr // prod's addresses: the records of the name while prod serves
	TTL  int64        // seconds, of the records that point at the standby

	Outside     Outside       // whether others have a say in a switch to the standby
	OutsideWait time.Duration // how long after the first failure they are waited for

	Auto      bool          // fail back without being asked
	Stay      time.Duration // how long the standby keeps the name at least, in Auto
	MaxPerDay int           // automatic switches in 24 hours; 0 = any number

	Fresh        time.Duration // an older readiness of the standby is not one
	Gap          time.Duration // after a longer silence counting starts again; 0 = never
	StandbyGrace time.Duration // how long the standby may be not ready before the owner is told
}

// Check is one line of a checklist.
type Check struct {
	Name string `json:"check"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
}

// Readiness is a checklist and when it was gone through.
type Readiness struct {
	Time   time.Time
	Checks []Check
}

// Ready reports whether every check passed; an empty list is not readiness.
func (r Readiness) Ready() bool { return len(r.Checks) > 0 && r.Why() == "" }

// Why says what did not pass.
func (r Readiness) Why() string { return failed(r.Checks) }

// Observation is the world as seen at Time. Standby, Return, Outside and Home are the
// latest known; the others are what is new and are left zero when nothing is.
type Observation struct {
	Time time.Time

	Probed  bool    // a probe round ended, with this verdict:
	Verdict Verdict // of the round
	Partial string  // which addresses of prod failed while the round was up

	Standby Readiness    // may the standby take over?
	Return  []Check      // may prod take over again by itself? Nothing asked, nothing in the way
	Outside Opinion      // what others see of prod
	Home    []netip.Addr // our public addresses, agreed now or remembered; one per family

	Zone     *Records  // the name's records, just read
	Progress *Progress // news of the write under way
	Told     []string  // keys of the notices that are safely with the messenger
}

// Progress is news of the write of one intent.
type Progress struct {
	Seq       int    // of the intent
	Accepted  bool   // the records are as wanted and the zone was refreshed
	Published bool   // the zone's own name servers serve them
	Err       string // why not yet
}

// Action is one of [Write], [Tell], [Ask] and [AskOutside]. Actions say what is to be done
// as long as it is: whoever carries them out ignores what it is already doing.
type Action interface{ action() }

// Write asks that the name's records become Intent.Want. [Admit] must be asked
// with what is there now, and its state must be on disk, before anything is
// written.
type Write struct{ Intent Intent }

// Tell asks that the owner be told; answered by [Observation.Told].
type Tell struct{ Notice Notice }

// Ask asks for the standby's readiness at once: a decision waits for it.
type Ask struct{}

func (Write) action() {}
func (Tell) action()  {}
func (Ask) action()   {}

// Next is the state that follows s once o was seen, and what is to be done
// about it. The state must be on disk before any of it is done. s is not
// modified. Seeing the same observation twice in a row is seeing it once.
func Next(s State, o Observation, p Policy) (State, []Action) {
	s = s.clone()
	s.adjustClock(o.Time)
	s.drop(o.Told)
	s.count(o, p)
	s.readStandby(o, p)
	s.readZone(o, p)
	s.progress(o)
	s.expire(o.Time)
	ask := s.decide(o, p)
	s.follow(o, p)
	s.announce(o)
	s.enterPhase(o.Time)
	return s, s.actions(ask, s.wantsOthers(o, p))
}

func (s State) clone() State {
	s.Autos = slices.Clone(s.Autos)
	s.Homes = slices.Clone(s.Homes)
	s.Notices = slices.Clone(s.Notices)
	s.Alarms = maps.Clone(s.Alarms)
	if s.Alarms == nil {
		s.Alarms = map[Event]bool{}
	}
	if s.Intent != nil {
		in := *s.Intent
		s.Intent = &in
	}
	if s.Last != nil {
		last := *s.Last
		s.Last = &last
	}
	return s
}

// actions are the standing orders of the state, plus the questions a decision
// waits for.
func (s *State) actions(ask, askOthers bool) []Action {
	var out []Action
	if s.Intent != nil {
		out = append(out, Write{*s.Intent})
	}
	for _, n := range s.Notices {
		out = append(out, Tell{n})
	}
	if ask {
		out = append(out, Ask{})
	}
	if askOthers {
		out = append(out, AskOutside{})
	}
	return out
}

// adjustClock makes remembered times that lie in the future the present one.
// A clock that was set back would otherwise hold the site for as long as it
// was wrong.
func (s *State) adjustClock(now time.Time) {
	for _, t := range []*time.Time{&s.Since, &s.Round, &s.DownSince, &s.Confirmed, &s.Wanted, &s.UnreadySince} {
		if t.After(now) {
			*t = now
		}
	}
	for i := range s.Autos {
		if s.Autos[i].Time.After(now) {
			s.Autos[i].Time = now
		}
	}
	if end := now.Add(day); s.HeldUntil.After(end) {
		s.HeldUntil = end
	}
	if s.Intent != nil && s.Intent.Decided.After(now) {
		s.Intent.Decided = now
	}
	if s.Last != nil && s.Last.Decided.After(now) {
		s.Last.Decided = now
	}
}

// count takes a probe round into the counters. They stop at their thresholds,
// so that a state that means the same is the same.
func (s *State) count(o Observation, p Policy) {
	if !o.Probed || s.Round.Equal(o.Time) {
		return
	}
	if p.Gap > 0 && !s.Round.IsZero() && o.Time.Sub(s.Round) > p.Gap {
		s.Failures, s.Successes, s.Strikes, s.Partials = 0, 0, 0, 0
	}
	s.Round = o.Time
	s.Verdict = o.Verdict
	switch o.Verdict {
	case Down:
		if s.Failures == 0 {
			s.DownSince = o.Time
		}
		s.Successes = 0
		s.Failures = min(s.Failures+1, p.Failures)
		if p.Strikes > 0 {
			s.Strikes = min(s.Strikes+1, p.Strikes)
		}
		if s.isDown(p) && s.Confirmed.IsZero() {
			s.Confirmed = o.Time
		}
	case Up:
		s.Failures = 0
		s.Successes = min(s.Successes+1, max(p.Successes, p.Forgive, 1))
		if s.Successes >= p.Forgive {
			s.Strikes = 0
		}
		if o.Partial == "" {
			s.Partials = 0
			s.clear(EventProdPartial)
		} else if s.Partials = min(s.Partials+1, p.Failures); s.Partials >= p.Failures {
			s.raise(EventProdPartial, o.Time, o.Partial)
		}
	}
}

// isDown reports whether prod has failed often enough.
func (s *State) isDown(p Policy) bool {
	return s.Failures >= max(p.Failures, 1) || p.Strikes > 0 && s.Strikes >= p.Strikes
}

// isUp reports whether prod has answered often enough.
func (s *State) isUp(p Policy) bool {
	return s.Verdict == Up && s.Strikes == 0 && s.Successes >= max(p.Successes, 1)
}

func (s *State) readStandby(o Observation, p Policy) {
	switch {
	case o.Standby.Time.IsZero():
	case o.Standby.Ready():
		s.UnreadySince = time.Time{}
		if s.clear(EventStandbyDown) {
			s.notice(EventStandbyUp, o.Time, "")
		}
	case s.UnreadySince.IsZero():
		s.UnreadySince = o.Time
	}
	if !s.UnreadySince.IsZero() && o.Time.Sub(s.UnreadySince) >= p.StandbyGrace {
		s.raise(EventStandbyDown, o.Time, o.Standby.Why())
	}
}

// readZone compares what the zone holds with what it should hold.
func (s *State) readZone(o Observation, p Policy) {
	if o.Zone == nil {
		return
	}
	have := *o.Zone
	first := !s.ZoneSeen
	kind := s.classify(have, o.Home, p)
	if first && len(o.Home) == 0 && kind != ofProd {
		return // they may be ours: wait until we know where home is
	}
	s.ZoneSeen = true
	if first && s.Term == 0 && s.Intent == nil && kind == ofStandby {
		// We know of no switch and yet the standby serves: our memory was
		// lost. It may have been somebody's wish, so it is not undone unasked.
		s.Goal, s.Serving, s.Forced = Standby, Standby, Standby
		s.Want = recordsOf(have.Addrs(), p.TTL)
		s.remember(have.Addrs())
	}
	switch {
	case s.Unsettled:
		// The write under way reads the zone itself, and asks Admit.
		if kind != foreign {
			s.clear(EventForeignRecords)
		}
	case s.Goal == Prod && kind == ofProd:
		s.Prod = have
		s.clear(EventForeignRecords)
	case s.Goal == Standby && kind == ofStandby:
		s.clear(EventForeignRecords)
	default:
		s.Foreign = have
		s.raise(EventForeignRecords, o.Time, have.String())
	}
	if !s.Alarms[EventForeignRecords] {
		s.Foreign = nil
	}
}

// progress takes in what became of the write under way.
func (s *State) progress(o Observation) {
	g := o.Progress
	if g == nil || s.Intent == nil || g.Seq != s.Intent.Seq {
		return
	}
	in := s.Intent
	in.Err = g.Err
	if !in.Admitted {
		return
	}
	if (g.Accepted || g.Published) && in.Accepted.IsZero() {
		in.Accepted = o.Time
		s.Serving = in.To
		if in.To == Standby {
			s.Want = in.Want
		}
	}
	if g.Published {
		in.Published = o.Time
		s.Unsettled = false
		s.clear(EventForeignRecords)
		s.Foreign = nil
		if in.To == Prod && in.Trigger == ByHand && !in.Follow && s.Verdict == Up {
			s.acquit()
		}
	}
	if !in.Follow {
		s.Last.take(*in)
	}
	if g.Published {
		s.Intent = nil
		s.tellPublished(*in, o.Time)
	}
}

// expire ends what ends by itself.
func (s *State) expire(now time.Time) {
	if !s.PausedUntil.IsZero() && !now.Before(s.PausedUntil) {
		s.PausedUntil = time.Time{}
	}
	if !s.HeldUntil.IsZero() && !now.Before(s.HeldUntil) {
		s.HeldUntil = time.Time{}
		s.clear(EventHeld)
	}
}

func (s *State) enterPhase(now time.Time) {
	was := s.Phase
	switch {
	case s.Intent != nil && !s.Intent.Follow && s.Intent.To == Standby:
		s.Phase = Switching
	case s.Intent != nil && !s.Intent.Follow:
		s.Phase = Returning
	case !s.HeldUntil.IsZero():
		s.Phase = Held
	case s.Goal == Standby:
		s.Phase = FailedOver
	case s.Failures > 0 || !s.Confirmed.IsZero():
		s.Phase = Failing
	default:
		s.Phase = Normal
	}
	if s.Phase != was || s.Since.IsZero() {
		s.Since = now
	}
}
