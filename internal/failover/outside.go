package failover

import "time"

// Outside says whether others, who see prod from elsewhere, have a say in an
// automatic switch to the standby. A prod that we cannot reach and they can
// has a broken path to us, and a switch would help nobody.
type Outside string

const (
	OutsideOff     Outside = ""        // nobody is asked
	OutsidePrefer  Outside = "prefer"  // no switch while they reach prod; without their answer in time, we decide alone
	OutsideRequire Outside = "require" // no switch unless they see it down too
)

// Opinion is what others see of prod, the last time that they were asked.
type Opinion struct {
	Asked   time.Time // zero = never
	Verdict Verdict   // unknown, if they could not tell or gave no answer
	Why     string    // who saw what, or why there is no verdict
}

// AskOutside asks for the opinion of others. It stands for as long as one is
// wanted; whoever asks them bounds how often.
type AskOutside struct{}

func (AskOutside) action() {}

// outageBegan is since when prod is dead as far as the present failures tell.
func (s *State) outageBegan() time.Time {
	if !s.Confirmed.IsZero() && s.Confirmed.Before(s.DownSince) {
		return s.Confirmed
	}
	return s.DownSince
}

// opinionLasts is how long an opinion is worth something in an outage in which
// prod has answered since.
const opinionLasts = 10 * time.Minute

// isAbout reports whether op is about the present outage.
func (s *State) isAbout(op Opinion, now time.Time) bool {
	began := s.DownSince
	if now.Sub(op.Asked) < opinionLasts {
		began = s.outageBegan()
	}
	return !op.Asked.IsZero() && !op.Asked.Before(began) && !op.Asked.After(now)
}

// others rules on what others see: of this outage, for what they saw before it
// is not about it. Their word is asked for once: when a switch has been decided
// with it, or without it in vain, it stays decided.
func (s *State) others(o Observation, p Policy) ruling {
	if p.Outside == OutsideOff || !s.Wanted.IsZero() {
		return ruling{may: true}
	}
	verdict, why, late := Unknown, "there is no answer yet", o.Time.Sub(s.outageBegan()) >= p.OutsideWait
	if op := o.Outside; s.isAbout(op, o.Time) {
		verdict, why, late = op.Verdict, op.Why, true
	}
	switch {
	case verdict == Down:
		return ruling{may: true}
	case verdict == Up:
		return ruling{why: "others reach prod, so that it is the way from here that is broken: " + why}
	case !late:
		return ruling{}
	case p.Outside == OutsidePrefer:
		return ruling{may: true}
	}
	return ruling{why: "the opinion from outside that is required has not come: " + why}
}

// wantsOthers reports whether others are to be asked: in a run of failures,
// early enough for their answer to be there when it is needed.
func (s *State) wantsOthers(o Observation, p Policy) bool {
	if p.Outside == OutsideOff || s.Goal != Prod || s.Verdict != Down || !s.Wanted.IsZero() ||
		s.Paused() || s.Forced != Nobody || !s.HeldUntil.IsZero() {
		return false
	}
	settled := o.Outside.Verdict == Down && s.isAbout(o.Outside, o.Time)
	return !settled && (s.Failures >= min(OutsideAfter, p.Failures) || s.isDown(p))
}

// OutsideAfter is how many failures in a row make others be asked: one alone
// is a hiccup, and nobody's business.
const OutsideAfter = 2

// Blocked is what keeps the name from going to the standby, in words for the
// owner; "" if nothing does or no switch is due.
func (s State) Blocked(o Observation, p Policy) string {
	if s.Goal != Prod {
		return ""
	}
	return s.mayFailOver(o, p).why
}
