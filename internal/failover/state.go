package failover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"
)

const (
	version = 1
	day     = 24 * time.Hour

	// announceAfter is how long a switch may take before the owner is told
	// that it has not happened yet.
	announceAfter = time.Minute
)

// MaxPause is the longest pause that can be ordered.
const MaxPause = 35 * day

// State is all that is remembered of a site between two observations. The
// zero value is not usable; see [New].
type State struct {
	Version int       `json:"version"`
	Phase   Phase     `json:"phase"`
	Since   time.Time `json:"since"` // of the phase

	Verdict   Verdict   `json:"verdict"`
	Round     time.Time `json:"round"`      // the last probe round counted
	Failures  int       `json:"failures"`   // consecutive, up to the policy's
	Successes int       `json:"successes"`  // consecutive, up to the policy's
	Strikes   int       `json:"strikes"`    // failures not yet forgiven
	Partials  int       `json:"partials"`   // consecutive rounds in which part of prod failed
	DownSince time.Time `json:"down_since"` // the first of the present run of failures
	Confirmed time.Time `json:"confirmed"`  // when prod counted as down; zero once it counts as up again
	Wanted    time.Time `json:"wanted"`     // when a switch was first decided in this outage

	UnreadySince time.Time `json:"unready_since"` // of the standby

	Goal        Who       `json:"goal"`         // who must serve
	Serving     Who       `json:"serving"`      // whom the zone was last told to name
	Forced      Who       `json:"forced"`       // by the operator
	PausedUntil time.Time `json:"paused_until"` // by the operator
	HeldUntil   time.Time `json:"held_until"`
	Autos       []Auto    `json:"autos"` // automatic switches of the last day

	Term      int     `json:"term"`      // counts switches
	Seq       int     `json:"seq"`       // counts intents
	Intent    *Intent `json:"intent"`    // what is to be written, until it is published
	Unsettled bool    `json:"unsettled"` // an interrupted write may have left a mixture
	Last      *Switch `json:"last"`      // the present or last switch

	ZoneSeen bool         `json:"zone_seen"`
	Prod     Records      `json:"prod"`  // prod's records, exactly as they last stood in the zone
	Want     Records      `json:"want"`  // the standby's records, as last written
	Homes    []netip.Addr `json:"homes"` // home's addresses, newest last
	Foreign  Records      `json:"foreign"`

	Alarms   map[Event]bool `json:"alarms"`    // raised and not over
	BackTold int            `json:"back_told"` // the last term of the standby in which the owner was told that prod answers again
	Noticed  int            `json:"noticed"`
	Notices  []Notice       `json:"notices"` // not yet with the messenger
}

// Auto is one automatic switch.
type Auto struct {
	Time time.Time `json:"time"`
	To   Who       `json:"to"`
}

// Trigger says who wanted a switch.
type Trigger string

const (
	Automatic Trigger = "automatic"
	ByHand    Trigger = "by hand"
)

// Intent is what the zone is to hold. It is on disk before the first call.
type Intent struct {
	Seq     int       `json:"seq"`  // names this intent
	Term    int       `json:"term"` // of the switch
	To      Who       `json:"to"`
	Want    Records   `json:"want"`
	Trigger Trigger   `json:"trigger"`
	Force   bool      `json:"force,omitempty"`  // the operator overrides the guards
	Follow  bool      `json:"follow,omitempty"` // no switch: the home address changed, or prod's TTLs are lowered
	Decided time.Time `json:"decided"`

	Admitted  bool      `json:"admitted"`  // something may have been written
	Accepted  time.Time `json:"accepted"`  // written and refreshed
	Published time.Time `json:"published"` // served by the zone's own name servers
	Err       string    `json:"err,omitempty"`
	Failing   bool      `json:"failing,omitempty"` // the owner was told that it had not worked yet
}

// Switch is the report of one switch.
type Switch struct {
	Term      int       `json:"term"`
	To        Who       `json:"to"`
	Trigger   Trigger   `json:"trigger"`
	Records   Records   `json:"records"`    // written
	Before    Records   `json:"before"`     // found, before the first write
	DownSince time.Time `json:"down_since"` // prod's first failure, if that was the reason
	Decided   time.Time `json:"decided"`
	Accepted  time.Time `json:"accepted"`
	Published time.Time `json:"published"`
	Err       string    `json:"err,omitempty"`
}

// take keeps the first times: a home address that changes meanwhile does not
// make the switch any later.
func (w *Switch) take(in Intent) {
	w.Records, w.Err = in.Want, in.Err
	if w.Accepted.IsZero() {
		w.Accepted = in.Accepted
	}
	if w.Published.IsZero() {
		w.Published = in.Published
	}
}

// Notice is something the owner is to be told, once.
type Notice struct {
	Key    string    `json:"key"` // the same notice has the same key, also after a restart
	Event  Event     `json:"event"`
	Time   time.Time `json:"time"`
	Why    string    `json:"why,omitempty"`
	Switch *Switch   `json:"switch,omitempty"`
}

// New is the state of a site nothing is known about yet.
func New() State {
	return State{Version: version, Phase: Normal, Verdict: Unknown, Goal: Prod, Serving: Prod}
}

// ErrVersion means that the state was written by another version of the
// program; it is no damage.
var ErrVersion = errors.New("written by another version")

// Decode reads a state back. Anything that is not exactly one is an error.
func Decode(text []byte) (State, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	if v.Version != version {
		return State{}, fmt.Errorf("decode state: version %d: %w", v.Version, ErrVersion)
	}
	var s State
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	who := []Who{Prod, Standby}
	switch {
	case !slices.Contains(who, s.Goal) || !slices.Contains(who, s.Serving),
		s.Forced != Nobody && !slices.Contains(who, s.Forced),
		!slices.Contains([]Verdict{Up, Down, Unknown}, s.Verdict),
		s.Intent != nil && (!slices.Contains(who, s.Intent.To) || len(s.Intent.Want) == 0),
		s.Intent != nil && s.Intent.Admitted && !s.Intent.Follow && s.Last == nil:
		return State{}, errors.New("decode state: it contradicts itself")
	}
	return s, nil
}

// Encode is the inverse of [Decode].
func (s State) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return append(text, '\n'), nil
}

// Durable reports whether s holds something that before does not and that a
// restart must find again; the time of the last round alone is not.
func (s State) Durable(before State) bool {
	s.Round, before.Round = time.Time{}, time.Time{}
	return !reflect.DeepEqual(s, before)
}

// Paused reports whether the operator wants nothing automatic for now.
func (s State) Paused() bool { return !s.PausedUntil.IsZero() }

// Operator says what the operator imposed: "", "prod", "standby" or "paused".
func (s State) Operator() string {
	if s.Paused() {
		return "paused"
	}
	return string(s.Forced)
}

// raise tells the owner about e, once until it is cleared.
func (s *State) raise(e Event, now time.Time, why string) {
	if !s.Alarms[e] {
		s.Alarms[e] = true
		s.notice(e, now, why)
	}
}

// clear ends e and reports whether it was raised.
func (s *State) clear(e Event) bool {
	raised := s.Alarms[e]
	delete(s.Alarms, e)
	return raised
}

func (s *State) notice(e Event, now time.Time, why string) {
	s.Noticed++
	n := Notice{Key: string(e) + "-" + strconv.Itoa(s.Noticed), Event: e, Time: now, Why: why}
	switch {
	case s.Intent != nil && !s.Intent.Follow && !s.Intent.Admitted:
		n.Switch = s.Intent.report(s)
	case s.Last != nil:
		last := *s.Last
		n.Switch = &last
	}
	s.Notices = append(s.Notices, n)
}

// drop forgets the notices that were delivered.
func (s *State) drop(told []string) {
	s.Notices = slices.DeleteFunc(s.Notices, func(n Notice) bool { return slices.Contains(told, n.Key) })
	if len(s.Notices) == 0 {
		s.Notices = nil
	}
}
