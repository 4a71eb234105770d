package watchdog

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/ovhdns"
	"releve/internal/probe"
)

// site keeps one name up. Its loop alone touches the failover state; everything else sends it news.
type site struct {
	cfg    Site
	policy failover.Policy
	target probe.Target // with roots, without an address
	pace   time.Duration

	log      *slog.Logger
	now      func() time.Time
	store    store
	home     *home
	uplink   *uplink
	reader   zone // for looking
	zone     zone // for writing
	endpoint string
	tell     func(notify.Message) error
	alarms   *alarms
	delays   *delays
	deadman  *notify.Deadman
	metrics  *siteMetrics

	inbox     chan func(*failover.Observation)
	orders    chan order    // for the writer
	asked     chan struct{} // the standby's readiness is wanted now
	askOthers chan struct{} // what others see of prod is wanted
	reread    chan struct{} // the zone is to be read now
	damage    string        // what was wrong with the state file at start, if anything
	started   bool          // the first round has been seen
	control   string        // the folder where the agent leaves word; "" = none
	word      chan<- struct{}

	// The loop's own.
	state   failover.State
	standby failover.Readiness
	opinion failover.Opinion // what others see of prod
	returns []failover.Check // what prod must pass before it gets the name back unasked
	unsaved error            // why the state in memory is not the one on disk
	untold  error            // why a notice has not been taken by the messenger
	serves  bool             // the standby, as the agent was told

	epoch atomic.Int64 // changes with each write; a reading of the zone from before it means nothing

	mu   sync.Mutex
	view siteView
}

// siteView is what others may know of a site: a moment of it.
type siteView struct {
	State   failover.State
	Standby failover.Readiness
	Return  []failover.Check
	Awaited []string // what an automatic fail-back waits for
	Opinion failover.Opinion
	Blocked string       // what keeps the name from going to the standby
	Answer  probe.Result // of the standby
	Round   round
	Records failover.Records // as last read
	ReadAt  time.Time
	ReadErr error // of the last reading
	ZoneTTL int64 // the zone's default; 0 = not known
	Rights  ovhdns.Rights
	Unsaved error
	Untold  error
}

func (s *site) get() siteView {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *site) set(f func(*siteView)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.view)
}

// loop decides. It ends with ctx.
func (s *site) loop(ctx context.Context) error {
	s.step(func(*failover.Observation) {})
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-s.inbox:
			s.step(f)
		}
	}
}

// send gives the loop news; false means that ctx ended first.
func (s *site) send(ctx context.Context, f func(*failover.Observation)) bool {
	select {
	case <-ctx.Done():
		return false
	case s.inbox <- f:
		return true
	}
}

// call has the loop do f, and waits until it has and everybody can see it.
func (s *site) call(ctx context.Context, f func(failover.Observation)) error {
	done := make(chan struct{})
	if !s.send(ctx, func(o *failover.Observation) {
		defer close(done)
		f(*o)
		s.publish()
	}) {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-done:
		return nil
	}
}

// observe is what is known.
func (s *site) observe() failover.Observation {
	return failover.Observation{Time: s.now(), Standby: s.standby, Return: s.returns, Outside: s.opinion, Home: s.homeAddrs()}
}

// homeAddrs are the addresses that the zone would be given.
func (s *site) homeAddrs() []netip.Addr { return s.home.get().addrs() }

// step shows the core what is new, remembers what it says, and only then acts.
func (s *site) step(news func(*failover.Observation)) {
	o := s.observe()
	news(&o)
	probed := o.Probed
	for {
		next, todo := failover.Next(s.state, o, s.policy)
		s.become(next)
		told := s.act(todo)
		if len(told) == 0 {
			break
		}
		o = s.observe()
		o.Told = told
	}
	s.forget()
	s.publish()
	if probed && s.unsaved == nil { // who cannot remember a decision decides nothing
		s.deadman.Beat(s.cfg.Name)
	}
}

// become makes next the state, on disk first.
func (s *site) become(next failover.State) {
	if next.Durable(s.state) || s.unsaved != nil {
		err := s.store.saveSite(s.cfg.Name, next)
		if err != nil && s.unsaved == nil {
			s.log.Error("state is not on disk, so nothing will be switched", "error", err)
		}
		s.unsaved = err
	}
	if next.Phase != s.state.Phase {
		s.log.Info("state changed", "from", string(s.state.Phase), "to", string(next.Phase), "verdict", string(next.Verdict), "term", next.Term)
		// What was looked at seldom is to be looked at often from now on, or the other way round.
		hurry(s.reread)
		s.home.ask()
	}
	if next.Verdict != s.state.Verdict {
		why := ""
		if next.Verdict != failover.Up {
			why = s.why()
		}
		s.log.Info("prod is "+string(next.Verdict), "failures", next.Failures, "why", why)
	}
	if a, b := s.state.Last, next.Last; b != nil && !b.Published.IsZero() && (a == nil || a.Term != b.Term || a.Published.IsZero()) {
		s.metrics.switched(*b)
		s.log.Info("switch published", "to", string(b.To), "records", b.Records.String(), "took", b.Published.Sub(b.Decided).Round(time.Millisecond))
	}
	s.state = next
}

// why is what prod's addresses said in the last round.
func (s *site) why() string {
	r := s.get().Round
	for _, addr := range s.cfg.Probe.Prod {
		if res, ok := r.Results[addr]; ok && !res.OK {
			return addr.String() + ": " + res.Detail
		}
	}
	return ""
}

// act carries the actions out, or has them carried out, and returns the keys of the notices that were taken.
func (s *site) act(todo []failover.Action) (told []string) {
	var in failover.Intent
	for _, a := range todo {
		switch a := a.(type) {
		case failover.Write:
			in = a.Intent
		case failover.Ask:
			hurry(s.asked)
		case failover.AskOutside:
			hurry(s.askOthers)
		case failover.Tell:
			m := s.message(a.Notice)
			s.lasting(a.Notice, m)
			err := s.tell(m)
			if err == nil {
				s.log.Info("owner told", "event", string(a.Notice.Event), "why", a.Notice.Why)
				told = append(told, a.Notice.Key)
			} else if s.untold == nil {
				s.log.Error("message is not on disk", "event", string(a.Notice.Event), "error", err)
			}
			s.untold = err
		}
	}
	s.order(order{in, s.state.Unsettled})
	return told
}

// order tells the writer what it should be at; the newest word counts.
func (s *site) order(o order) {
	select {
	case <-s.orders:
	default:
	}
	s.orders <- o
}

func hurry(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// publish lets others see.
func (s *site) publish() {
	o := s.observe()
	awaited, blocked := s.state.Awaited(o, s.policy), s.state.Blocked(o, s.policy)
	s.set(func(v *siteView) {
		v.Return, v.Awaited, v.Opinion, v.Blocked = s.returns, awaited, s.opinion, blocked
		v.State, v.Standby, v.Unsaved, v.Untold = s.state, s.standby, s.unsaved, s.untold
	})
	if serves := standbyServes(s.state); serves != s.serves {
		s.serves = serves
		hurry(s.word)  // the agent is to know at once
		hurry(s.asked) // what is asked of the replica is another thing now
	}
}

// rounds has prod looked at.
func (s *site) rounds(ctx context.Context) error {
	p := prober{site: s.cfg, target: s.target, uplink: s.uplink, age: s.uplinkAge}
	return p.run(ctx, func(ctx context.Context, r round) {
		s.set(func(v *siteView) { v.Round = r })
		s.metrics.probed(r)
		if r.Verdict == failover.Down {
			hurry(s.asked) // the decision will want to know, and this is cheap
		}
		s.send(ctx, func(o *failover.Observation) {
			o.Probed, o.Verdict, o.Partial = true, r.Verdict, r.Partial
			s.started = true
		})
	})
}

// uplinkAge spares the references in an outage that may last for hours: once the standby serves, nothing hangs on them
// but the way back, and that is decided by prod's answers.
func (s *site) uplinkAge() time.Duration {
	if s.get().State.Goal == failover.Standby {
		return s.pace
	}
	return 0
}

// homeChanged is called after each round of questions for our address.
func (s *site) homeChanged(ctx context.Context) { s.send(ctx, func(*failover.Observation) {}) }

// busy reports whether the site needs the home address, the standby and the zone looked at more often.
func (s *site) busy() bool {
	v := s.get()
	return v.State.Phase != failover.Normal || v.State.Alarms[failover.EventForeignRecords]
}
