package failover

import (
	"slices"
)

// orderPrepare has prod's records rewritten with the TTL that the standby's
// will have, where theirs is longer: a resolver that asks right before an
// outage keeps the dead address for as long as that. zoneTTL, in seconds, is
// what TTL 0 stands for. It is no switch: nothing is counted, and the state is
// the one to go on with where nothing is to be done.
func (s *State) orderPrepare(o Observation, p Policy, zoneTTL int64) error {
	switch {
	case p.TTL == 0:
		return &Refusal{Why: "ttl = 0 leaves the TTL to the zone, so there is nothing to lower it to"}
	case s.Alarms[EventForeignRecords]:
		return &Refusal{Why: "the zone holds records that are neither prod's nor the standby's: " + s.Foreign.String()}
	case s.Intent != nil && s.Intent.prepares():
		return nil
	case s.Intent != nil:
		return &Refusal{Why: "the records are being changed just now"}
	case s.Goal != Prod:
		return &Refusal{Why: "the standby serves; lower the TTL of prod's records once they are back"}
	case s.Verdict == Down:
		return &Refusal{Why: "prod is down, and a switch goes first"}
	case len(s.Prod) == 0:
		return &Refusal{Why: "what the zone holds is not known yet"}
	}
	want := lowered(s.Prod, p.TTL, zoneTTL)
	if !want.Equal(s.Prod) {
		s.intend(Intent{To: Prod, Want: want, Trigger: ByHand, Follow: true}, o.Time)
	}
	return nil
}

// lowered is r with no TTL above ttl.
func lowered(r Records, ttl, zoneTTL int64) Records {
	out := slices.Clone(r)
	for i, rec := range out {
		if rec.TTL > ttl || rec.TTL == 0 && zoneTTL > ttl {
			out[i].TTL = ttl
		}
	}
	return out
}

// prepares reports whether in changes nothing but the TTLs of prod's records.
func (in *Intent) prepares() bool { return in.Follow && in.To == Prod }

// Prepares reports whether the write under way, if any, changes nothing but the
// TTLs of prod's records.
func (s State) Prepares() bool { return s.Intent != nil && s.Intent.prepares() }

// foreignTo reports whether records of kind k are not there for in to overwrite.
// To follow is to go on from what the one who serves has.
func (s *State) foreignTo(in *Intent, k kind) bool {
	switch {
	case k == foreign:
		return true
	case !in.Follow || s.Unsettled:
		return false
	case in.To == Prod:
		return k != ofProd
	}
	return k == ofProd
}
