package failover

import (
	"fmt"
	"slices"
	"time"
)

// ruling is the answer to "may this be switched now, unasked?"
type ruling struct {
	may  bool
	ask  bool   // the standby's readiness is too old to say
	hold bool   // nothing in the way but the limit of the day
	why  string // what is in the way and concerns the owner
}

// mayFailOver reports whether the name may go to the standby unasked.
func (s *State) mayFailOver(o Observation, p Policy) ruling {
	switch age := o.Time.Sub(o.Standby.Time); {
	case s.Verdict != Down || !s.isDown(p), s.Paused(), s.Forced != Nobody, !s.HeldUntil.IsZero():
		return ruling{}
	case s.Alarms[EventForeignRecords]:
		return ruling{why: "the zone holds records that are neither prod's nor the standby's: " + s.Foreign.String()}
	case age < 0 || age > p.Fresh:
		return ruling{ask: true}
	case !o.Standby.Ready() && o.Time.Sub(s.UnreadySince) < p.Fresh:
		return ruling{} // it may have been a hiccup; the next look will tell
	case !o.Standby.Ready():
		return ruling{why: o.Standby.Why()}
	case len(o.Home) == 0:
		return ruling{why: "our own public address is not known"}
	}
	if r := s.others(o, p); !r.may {
		return r
	}
	if s.exhausted(o.Time, Standby, p) {
		return ruling{hold: true}
	}
	return ruling{may: true}
}

// mayFailBack reports whether the name may go back to prod unasked.
func (s *State) mayFailBack(o Observation, p Policy) ruling {
	switch {
	case !p.Auto || len(s.awaited(o, p)) > 0:
		return ruling{}
	case s.exhausted(o.Time, Prod, p):
		return ruling{hold: true}
	}
	return ruling{may: true}
}

// Awaited is what an automatic fail-back waits for, in words for the owner;
// nothing where none is to come, or none is in the way.
func (s State) Awaited(o Observation, p Policy) []string {
	if !p.Auto || s.Goal != Standby || s.Intent != nil && s.Intent.To == Prod {
		return nil
	}
	return s.awaited(o, p)
}

func (s *State) awaited(o Observation, p Policy) (out []string) {
	if s.Forced == Standby {
		out = append(out, "an order: it was failed over by hand")
	}
	if s.Paused() {
		out = append(out, "the end of the pause")
	}
	if !s.HeldUntil.IsZero() {
		out = append(out, "the end of the hold")
	}
	if s.Alarms[EventForeignRecords] {
		out = append(out, "the zone to be as it is known")
	}
	if !s.isUp(p) {
		out = append(out, fmt.Sprintf("prod's good answers, %d of %d so far", s.Successes, max(p.Successes, p.Forgive, 1)))
	}
	// A standby that is dead itself is not worth staying with.
	if !s.UnreadySince.IsZero() && o.Time.Sub(s.UnreadySince) >= p.StandbyGrace {
		return out
	}
	for _, c := range o.Return {
		if !c.OK {
			out = append(out, c.Name+": "+c.Why)
		}
	}
	if s.Last != nil {
		if left := p.Stay - o.Time.Sub(s.Last.Decided); left > 0 {
			out = append(out, fmt.Sprintf("the least stay, %s more", left.Round(time.Second)))
		}
	}
	return out
}

// exhausted reports whether the day has no automatic switch left for to. Once
// prod has failed twice in a day, the last switch is not spent on going back to
// it: the hold finds the site where it works.
func (s *State) exhausted(now time.Time, to Who, p Policy) bool {
	if p.MaxPerDay == 0 {
		return false
	}
	n, failovers := 0, 0
	for _, a := range s.Autos {
		if now.Sub(a.Time) < day {
			n++
			if a.To == Standby {
				failovers++
			}
		}
	}
	if to == Prod && failovers > 1 {
		n++
	}
	return n >= p.MaxPerDay
}

// decide ends, keeps or starts a switch. It reports whether it waits for the
// standby's readiness.
func (s *State) decide(o Observation, p Policy) (ask bool) {
	if s.isUp(p) {
		s.endOutage(o, p)
	}
	pending := Nobody
	if in := s.Intent; in != nil && !in.Follow {
		pending = in.To
	}
	if s.Goal == Prod {
		r := s.mayFailOver(o, p)
		switch {
		case pending == Standby:
			if s.Intent.Trigger == Automatic && !s.Intent.Admitted && !r.may {
				s.Intent = nil
				s.finish(o, p)
			}
		case r.may:
			s.intend(Intent{To: Standby, Want: recordsOf(o.Home, p.TTL), Trigger: Automatic}, o.Time)
			if s.Wanted.IsZero() {
				s.Wanted = o.Time
			}
		}
		if r.hold {
			s.hold(o.Time, "prod is down and prod keeps the name")
		}
		if r.why != "" && s.Intent == nil {
			s.raise(EventCannotSwitch, o.Time, r.why)
		}
		return r.ask
	}
	r := s.mayFailBack(o, p)
	switch {
	case pending == Prod:
		if s.Intent.Trigger == Automatic && !s.Intent.Admitted && !r.may {
			s.Intent = nil
			s.finish(o, p)
		}
	case r.may:
		s.intend(Intent{To: Prod, Want: s.prodRecords(p), Trigger: Automatic}, o.Time)
	}
	if r.hold {
		s.hold(o.Time, "prod is up again and the standby keeps the name")
	}
	return false
}

// intend makes in the intent, in the place of what was intended before.
func (s *State) intend(in Intent, now time.Time) {
	s.Seq++
	in.Seq = s.Seq
	in.Term = s.Term + 1
	if in.Follow {
		in.Term = s.Term
	}
	in.Decided = now
	in.Failing = s.Alarms[in.event()]
	s.Intent = &in
}

// finish goes back to a switch that was given up for another one which then
// was given up itself: what has been written in part is to become whole.
func (s *State) finish(o Observation, p Policy) {
	if s.Intent != nil || !s.Unsettled {
		return
	}
	in := Intent{To: s.Goal, Want: s.prodRecords(p), Trigger: ByHand, Admitted: true, Follow: true}
	if s.Last != nil {
		in.Trigger, in.Follow = s.Last.Trigger, !s.Last.Published.IsZero()
	}
	if s.Goal == Standby {
		if in.Want = recordsOf(o.Home, p.TTL); len(in.Want) == 0 {
			in.Want = s.Last.Records
		}
	}
	s.intend(in, o.Time)
	s.Intent.Term = s.Term
}

func (s *State) hold(now time.Time, why string) {
	s.HeldUntil = now.Add(day)
	s.raise(EventHeld, now, why)
}

// endOutage closes the books of an outage once prod counts as up.
func (s *State) endOutage(o Observation, p Policy) {
	if s.Forced == Prod {
		s.Forced = Nobody
	}
	if s.Confirmed.IsZero() {
		return
	}
	s.Confirmed, s.Wanted = time.Time{}, time.Time{}
	told := s.clear(EventCannotSwitch)
	switch {
	case s.Goal == Standby:
		returns := p.Auto && s.Forced == Nobody && s.HeldUntil.IsZero() && failed(o.Return) == ""
		told = !returns && s.BackTold != s.Term // once, however often prod comes and goes
		if told {
			s.BackTold = s.Term
		}
	case s.Intent == nil || s.Intent.Trigger == Automatic:
		told = s.clear(EventFailedOver) || told || s.Alarms[EventHeld]
	}
	if told {
		s.notice(EventProdBack, o.Time, "")
	}
}

// acquit takes the owner's word for it that prod, which answers, is good: the
// outage is over, without the successes that would prove it.
func (s *State) acquit() {
	s.Confirmed, s.Wanted = time.Time{}, time.Time{}
	s.Strikes = 0
	s.clear(EventCannotSwitch)
}

// follow keeps the standby's records at the home address.
func (s *State) follow(o Observation, p Policy) {
	in := s.Intent
	if len(o.Home) == 0 || in != nil && in.To == Prod || in == nil && s.Goal != Standby {
		return
	}
	want := recordsOf(o.Home, p.TTL)
	switch {
	case in == nil:
		if !want.Equal(s.Want) && !s.Alarms[EventForeignRecords] {
			s.intend(Intent{To: Standby, Want: want, Trigger: Automatic, Follow: true}, o.Time)
		}
	case want.Equal(in.Want):
	case in.Follow && !in.Admitted && want.Equal(s.Want):
		s.Intent = nil
	default:
		// Another set is another intent: news of the old one is not news of it.
		s.Seq++
		in.Seq, in.Want = s.Seq, want
		in.Accepted, in.Published = time.Time{}, time.Time{}
	}
}

// announce tells the owner of a switch that has not happened a minute after it
// was decided.
func (s *State) announce(o Observation) {
	in := s.Intent
	if in == nil || in.prepares() {
		return // whoever ordered that is looking
	}
	began := in.Decided
	if in.event() == EventFailedOver && in.Trigger == Automatic && !s.Wanted.IsZero() {
		began = s.Wanted // not when it was decided last
	}
	if o.Time.Sub(began) < announceAfter {
		return
	}
	e := in.event()
	if s.Alarms[e] {
		return
	}
	in.Failing = in.Accepted.IsZero()
	s.raise(e, o.Time, in.Err)
}

// event is what the owner is told when in is published.
func (in *Intent) event() Event {
	switch {
	case in.Follow:
		return EventCannotFollow
	case in.To == Standby:
		return EventFailedOver
	}
	return EventFailedBack
}

// tellPublished tells the owner that in is published, if there is still
// something to tell.
func (s *State) tellPublished(in Intent, now time.Time) {
	told := s.clear(in.event())
	switch {
	case in.Follow:
	case !told:
		s.notice(in.event(), now, "")
	case in.Failing:
		s.notice(EventPublished, now, "")
	}
}

// prune forgets the automatic switches that no longer count.
func (s *State) prune(now time.Time) {
	s.Autos = slices.DeleteFunc(s.Autos, func(a Auto) bool { return now.Sub(a.Time) >= day })
	if len(s.Autos) == 0 {
		s.Autos = nil
	}
}
