package failover

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotNow means that the intent is no longer wanted, or not at this moment.
var ErrNotNow = errors.New("what a switch needs does not hold at this moment")

// ForeignError means that the zone holds records that are not ours to
// overwrite.
type ForeignError struct{ Have Records }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the zone holds records that are not ours to overwrite: %s", e.Have)
}

// Admit is asked before anything is written for the intent seq, with what the
// name's records are at this moment. Without an error, the write may begin
// once the state is on disk. With one it must not, and the state is still the
// one to go on with: it is nil-error or [ErrNotNow] or a [*ForeignError].
// A write that is repeated is admitted each time.
func Admit(s State, o Observation, p Policy, seq int, have Records) (State, error) {
	s = s.clone()
	s.adjustClock(o.Time)
	s.expire(o.Time)
	in := s.Intent
	if in == nil || in.Seq != seq {
		return s, ErrNotNow
	}
	if !in.Follow && !in.Admitted && !s.stillMeant(in, o, p) {
		return s, ErrNotNow
	}
	k := s.classify(have, o.Home, p)
	if !in.Force && s.foreignTo(in, k) {
		s.Foreign = have
		s.raise(EventForeignRecords, o.Time, have.String())
		if !in.Admitted {
			s.Intent = nil
			if in.Trigger == ByHand && in.To == Standby {
				s.Forced = Nobody
			}
			s.finish(o, p)
		}
		s.enterPhase(o.Time)
		return s, &ForeignError{have}
	}
	if !in.Admitted {
		s.begin(in, o, k, have)
	}
	if in.To == Standby {
		s.remember(in.Want.Addrs())
	}
	in.Admitted = true
	s.Unsettled = true
	return s, nil
}

// stillMeant reports whether what was decided or ordered some time ago would be
// decided or obeyed now.
func (s *State) stillMeant(in *Intent, o Observation, p Policy) bool {
	switch {
	case in.Force:
		return true
	case in.Trigger == Automatic && in.To == Standby:
		return s.mayFailOver(o, p).may
	case in.Trigger == Automatic:
		return s.mayFailBack(o, p).may
	case in.To == Standby:
		age := o.Time.Sub(o.Standby.Time)
		return age >= 0 && age <= p.Fresh && o.Standby.Ready()
	}
	return s.Verdict != Down
}

// begin is the point of no return of a switch.
func (s *State) begin(in *Intent, o Observation, k kind, have Records) {
	s.ZoneSeen = true
	if in.Follow {
		return
	}
	if in.To == Standby && k == ofProd {
		s.Prod = have
	}
	s.Term = in.Term
	s.Goal = in.To
	s.Wanted = time.Time{}
	s.clear(EventCannotSwitch)
	s.Last = in.report(s)
	s.Last.Before = have
	if in.Trigger == Automatic {
		s.prune(o.Time)
		s.Autos = append(s.Autos, Auto{Time: o.Time, To: in.To})
	}
}

// report is in as the owner is shown it.
func (in *Intent) report(s *State) *Switch {
	w := &Switch{Term: in.Term, To: in.To, Trigger: in.Trigger, Records: in.Want, Decided: in.Decided, Err: in.Err}
	if in.To == Standby && in.Trigger == Automatic {
		w.DownSince = s.DownSince
	}
	return w
}

// Refusal is why an order was not obeyed. Force overrides it where Forcible.
type Refusal struct {
	Why      string
	Forcible bool
}

func (e *Refusal) Error() string { return e.Why }

// Order is what the operator wants.
type Order struct {
	Kind  OrderKind
	Force bool
	Until time.Time // of a pause

	ZoneTTL int64 // seconds, what TTL 0 stands for in the zone; for OrderPrepare
}

// OrderKind is what can be ordered.
type OrderKind string

const (
	OrderFailover OrderKind = "failover" // the standby serves, until OrderFailback
	OrderFailback OrderKind = "failback" // prod serves
	OrderPause    OrderKind = "pause"    // nothing automatic until Until
	OrderResume   OrderKind = "resume"   // ends a pause and a hold
	OrderPrepare  OrderKind = "prepare"  // prod's records get the TTL that a fail-over needs
)

// Obey is the state that follows s when the operator orders c. The error, if
// any, is a [*Refusal], and the state is then s. Every order that is about who
// serves, but a pause, tells that the owner has looked: it ends a hold.
func Obey(s State, o Observation, p Policy, c Order) (State, error) {
	was := s
	s = s.clone()
	s.adjustClock(o.Time)
	s.expire(o.Time)
	var err error
	switch c.Kind {
	case OrderPause:
		switch d := c.Until.Sub(o.Time); {
		case d <= 0:
			return was, &Refusal{Why: "a pause must end in the future"}
		case d > MaxPause:
			return was, &Refusal{Why: fmt.Sprintf("%d days is the longest pause there is, because one that is forgotten leaves the site without a standby; pause it for %[1]dd or less, and again when that is over", int(MaxPause/day))}
		}
		s.PausedUntil = c.Until
		return s, nil
	case OrderPrepare:
		if err = s.orderPrepare(o, p, c.ZoneTTL); err != nil {
			return was, err
		}
		return s, nil
	case OrderResume:
		s.PausedUntil = time.Time{}
		if s.Forced == Prod {
			s.Forced = Nobody
		}
	case OrderFailover:
		err = s.orderFailover(o, p, c.Force)
	case OrderFailback:
		err = s.orderFailback(o, p, c.Force)
	default:
		err = &Refusal{Why: fmt.Sprintf("there is no order %q", c.Kind)}
	}
	if err != nil {
		return was, err
	}
	s.HeldUntil = time.Time{}
	s.clear(EventHeld)
	s.Autos = nil
	s.enterPhase(o.Time)
	return s, nil
}

func (s *State) orderFailover(o Observation, p Policy, force bool) error {
	switch in := s.Intent; {
	case in != nil && in.To == Standby:
		if !in.Follow && !in.Admitted {
			in.Trigger = ByHand
		}
		in.Force = in.Force || force
		s.Forced = Standby
		return nil
	case in == nil && s.Goal == Standby && !(force && s.Alarms[EventForeignRecords]):
		s.Forced = Standby
		return nil
	}
	age := o.Time.Sub(o.Standby.Time)
	switch {
	case len(o.Home) == 0:
		return &Refusal{Why: "our own public address is not known, so there is nothing to point the name at"}
	case force:
	case s.Alarms[EventForeignRecords]:
		return s.refuseForeign()
	case age < 0 || age > p.Fresh:
		return &Refusal{Why: "whether the standby is ready is not known", Forcible: true}
	case !o.Standby.Ready():
		return &Refusal{Why: "the standby is not ready: " + o.Standby.Why(), Forcible: true}
	}
	s.Forced = Standby
	s.clear(EventFailedOver)
	s.intend(Intent{To: Standby, Want: recordsOf(o.Home, p.TTL), Trigger: ByHand, Force: force}, o.Time)
	return nil
}

func (s *State) orderFailback(o Observation, p Policy, force bool) error {
	in := s.Intent
	begun := in != nil && in.To == Standby && in.Admitted
	forced := Nobody
	if s.Verdict != Up {
		forced = Prod // or the next round would undo it
	}
	switch {
	case s.Goal == Prod && in != nil && in.To == Prod && !in.Follow:
		in.Trigger = ByHand
		in.Force = in.Force || force
		s.Forced = forced
		return nil
	case s.Goal == Prod && !begun && !s.Alarms[EventForeignRecords]:
		if !s.Prepares() {
			s.Intent = nil
			s.finish(o, p)
		}
		s.Forced = Nobody
		if force {
			s.Forced = forced
		}
		return nil
	case force:
	case s.Alarms[EventForeignRecords]:
		return s.refuseForeign()
	case s.Verdict == Down:
		return &Refusal{Why: "prod is down", Forcible: true}
	case s.Verdict != Up:
		return &Refusal{Why: "whether prod is up is not known", Forcible: true}
	}
	s.Forced = forced
	if in != nil && in.To == Prod && !in.Follow {
		in.Trigger, in.Force = ByHand, force
		return nil
	}
	s.clear(EventFailedBack)
	s.intend(Intent{To: Prod, Want: s.prodRecords(p), Trigger: ByHand, Force: force}, o.Time)
	return nil
}

func (s *State) refuseForeign() error {
	return &Refusal{Why: "the zone holds records that are neither prod's nor the standby's, and they would be overwritten: " + s.Foreign.String(), Forcible: true}
}
