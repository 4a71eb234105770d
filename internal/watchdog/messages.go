package watchdog

import (
	"fmt"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/ovhdns"
)

// What the owner reads at three in the morning: what happened, what was done, what is left to do, with figures. The
// subject alone must do on a telephone.

// message puts a notice into words.
func (s *site) message(n failover.Notice) notify.Message {
	// The time keeps keys apart whose counter began anew because the state was lost.
	m := notify.Message{Event: string(n.Event), Key: fmt.Sprintf("%s-%s-%d", s.cfg.Name, n.Key, n.Time.Unix()), About: s.cfg.Name, Time: n.Time}
	name := s.cfg.Name
	sw := failover.Switch{}
	if n.Switch != nil {
		sw = *n.Switch
	}
	failback := fmt.Sprintf("watchdog failback %s", name)
	var text []string
	switch n.Event {
	case failover.EventFailedOver:
		m.Subject, text = s.failedOver(sw, n.Time)
	case failover.EventPublished:
		m.Subject = fmt.Sprintf("%s: the switch to %s has worked after all", name, whose(sw.To))
		text = []string{
			s.done(sw),
			"Nothing to do.",
		}
	case failover.EventFailedBack:
		m.Subject, text = s.failedBack(sw, n.Time)
	case failover.EventProdBack:
		m.Subject = name + ": prod answers again"
		text = []string{fmt.Sprintf("%s has answered %d times in a row.", s.prodNames(), s.policy.Successes)}
		if s.state.Goal == failover.Standby {
			text = append(text, s.whatKeepsIt()...)
			text = append(text, "When prod is good again, its data too: "+failback)
		} else {
			text = append(text, "It had the name all along. Nothing to do.")
		}
	case failover.EventCannotSwitch:
		m.Subject = name + ": prod is down AND the standby cannot take over"
		if s.cfg.Opinion.Mode != failover.OutsideOff && s.standby.Ready() {
			m.Subject = name + ": prod does not answer here, and the name was not moved"
		}
		text = []string{
			s.downSince(s.state.DownSince),
			"The name was not moved, because " + n.Why + ".",
			"It will be, by itself, as soon as that is mended while prod is still down.",
			fmt.Sprintf("To see all checks: watchdog status. To switch regardless: watchdog failover %s --force", name),
		}
	case failover.EventCannotFollow:
		m.Subject = name + ": the home address changed, and the zone does not know yet"
		text = []string{
			fmt.Sprintf("The standby serves, at %s now, but OVH could not be told: %s.", joinAddrs(s.homeAddrs()), n.Why),
			"Visitors are sent to the old address. It is tried again at least every 30 s.",
		}
	case failover.EventStandbyDown:
		m.Subject = name + ": the standby is not ready"
		if onlyReplicaFails(s.standby.Checks) {
			m.Event, m.Subject = EventReplicaLag, name+": the replica is too old, or not complete"
		}
		text = []string{fmt.Sprintf("For %s now: %s.", short(s.policy.StandbyGrace), n.Why)}
		if s.state.Serving == failover.Standby {
			text = append(text, "IT IS THE STANDBY THAT SERVES, so visitors see that.", "If prod is good: "+failback)
		} else {
			text = append(text, "Prod serves. Should it die now, nothing would take over. See: watchdog check")
		}
	case failover.EventStandbyUp:
		m.Subject = name + ": the standby is ready again"
		text = []string{"Nothing to do."}
	case failover.EventForeignRecords:
		m.Subject = name + ": the zone holds records that we did not put there"
		text = []string{
			fmt.Sprintf("OVH's zone %s holds for this name: %s.", s.cfg.Zone, n.Why),
			"Expected: " + s.expected() + ".",
			"Nothing was overwritten, and nothing will be switched while it stays so.",
			fmt.Sprintf("Set them right in OVH's console, or correct probe.prod in the configuration, or have them overwritten: watchdog failback %s --force (prod), watchdog failover %s --force (standby)", name, name),
		}
	case failover.EventHeld:
		m.Subject = fmt.Sprintf("%s: %d switches in a day, now it holds still", name, len(s.state.Autos))
		text = []string{
			fmt.Sprintf("Prod comes and goes: %s.", n.Why),
			fmt.Sprintf("Nothing is switched by itself until %s, or until you have looked.", clock(s.state.HeldUntil)),
			fmt.Sprintf("Then one of: watchdog failback %s (prod serves), watchdog failover %s (the standby serves), watchdog resume %s (as before)", name, name, name),
		}
	case failover.EventProdPartial:
		m.Subject = name + ": part of prod does not answer"
		text = []string{n.Why + ".", "The others do, so that nothing is switched. Visitors who are sent to the dead address wait or fail."}
	}
	m.Text = strings.Join(text, "\n")
	m.Severity = severity(n.Event)
	return m
}

// whatKeepsIt is why the standby goes on serving although prod answers.
func (s *site) whatKeepsIt() []string {
	awaited := s.state.Awaited(s.observe(), s.policy)
	if len(awaited) == 0 || s.state.Forced != failover.Nobody {
		return []string{"The standby still serves, and goes on until you say otherwise."}
	}
	return []string{"The standby still serves. It fails back by itself after: " + strings.Join(awaited, "; ") + "."}
}

func (s *site) failedOver(sw failover.Switch, now time.Time) (subject string, text []string) {
	name := s.cfg.Name
	if sw.Trigger == failover.ByHand {
		subject = name + ": the standby serves, by hand"
	} else {
		subject = name + ": prod is down, the standby serves"
		text = append(text, s.downSince(sw.DownSince))
	}
	switch {
	case !sw.Published.IsZero():
		text = append(text, s.done(sw))
	case !sw.Accepted.IsZero():
		text = append(text, fmt.Sprintf("The name was pointed at %s; OVH accepted that at %s but its name servers do not serve it yet, after %s. They usually do within %s.",
			sw.Records, clock(sw.Accepted), short(now.Sub(sw.Accepted)), short(publishTypical)))
	default:
		subject = name + ": prod is down and the switch does not get through"
		text = append(text,
			fmt.Sprintf("For %s the name could not be pointed at %s: %s.", short(now.Sub(sw.Decided)), sw.Records, orUnknown(sw.Err)),
			"It is tried again at least every 30 s, for as long as prod is down.",
			"If OVH's console works for you, you can set these records there.")
		return subject, text
	}
	return subject, append(text, fmt.Sprintf("Nothing to do now. When prod is good again: watchdog failback %s", name))
}

func (s *site) failedBack(sw failover.Switch, now time.Time) (subject string, text []string) {
	name := s.cfg.Name
	subject = name + ": prod serves again"
	switch {
	case !sw.Published.IsZero():
		text = append(text, s.done(sw))
	case !sw.Accepted.IsZero():
		text = append(text, fmt.Sprintf("The name was given back to prod: %s. OVH accepted that at %s; its name servers do not serve it yet.", sw.Records, clock(sw.Accepted)))
	default:
		return name + ": the fail-back does not get through", []string{
			fmt.Sprintf("For %s the name could not be given back to prod: %s.", short(now.Sub(sw.Decided)), orUnknown(sw.Err)),
			"The standby still serves. It is tried again at least every 30 s.",
		}
	}
	return subject, append(text, "Leave the standby up for a few hours: some resolvers keep addresses for longer than they should.")
}

// servesText is what a reminder of a switch says.
func (s *site) servesText() string {
	prod := "Prod does not answer."
	if s.state.Verdict == failover.Up {
		prod = "Prod answers again."
	}
	return fmt.Sprintf("%s When it is good again, its data too: watchdog failback %s", prod, s.cfg.Name)
}

// done says what a published switch did, and how fast.
func (s *site) done(sw failover.Switch) string {
	return fmt.Sprintf("The name points at %s: %s. Decided at %s, accepted by OVH %s, served by all its name servers %s; visitors follow within %s.",
		whose(sw.To), sw.Records, clock(sw.Decided), after(sw.Accepted.Sub(sw.Decided)), after(sw.Published.Sub(sw.Decided)),
		short(longestTTL(sw.Before, s.get().ZoneTTL)))
}

func after(d time.Duration) string {
	if d < time.Second {
		return "at once"
	}
	return "after " + short(d)
}

func (s *site) downSince(t time.Time) string {
	out := fmt.Sprintf("%s has not answered since %s", s.prodNames(), clock(t))
	if why := s.why(); why != "" {
		out += " (" + why + ")"
	}
	return out + ", while our own line works."
}

func (s *site) prodNames() string { return "Prod (" + joinAddrs(s.cfg.Probe.Prod) + ")" }

// expected are the records that would be in order now.
func (s *site) expected() string {
	if s.state.Goal == failover.Standby {
		return s.state.Want.String()
	}
	if len(s.state.Prod) > 0 {
		return s.state.Prod.String()
	}
	return joinAddrs(s.cfg.Probe.Prod)
}

func (s *site) certificateMessage(end time.Time, left time.Duration) notify.Message {
	return notify.Message{
		Event:    EventCertificate,
		About:    s.cfg.Name,
		Subject:  fmt.Sprintf("%s: the standby's certificate ends in %s", s.cfg.Name, days(left)),
		Text:     fmt.Sprintf("It is valid until %s. After that the standby cannot take over.\nSee that prod renews it and that the agent brings it here; then reload the standby's web server.", clock(end)),
		Severity: notify.Warning,
	}
}

func (s *site) credentialMessage(e *ovhdns.APIError) notify.Message {
	return notify.Message{
		Event:    EventCredential,
		Subject:  "OVH does not accept the watchdog's key: nothing can be switched",
		Text:     fmt.Sprintf("%v.\nMake a new one: %s", e, s.tokenURL()),
		Severity: notify.Critical,
	}
}

func (s *site) rightsMessage(why string) notify.Message {
	return notify.Message{
		Event:    EventCredential,
		About:    s.cfg.Name,
		Subject:  fmt.Sprintf("The watchdog's key at OVH lacks rights: %s cannot be switched", s.cfg.Name),
		Text:     fmt.Sprintf("%s.\nMake one that has them: %s", why, s.tokenURL()),
		Severity: notify.Critical,
	}
}

func (s *site) expiryMessage(end time.Time, left time.Duration) notify.Message {
	return notify.Message{
		Event:    EventCredential,
		Subject:  fmt.Sprintf("The watchdog's key at OVH ends in %s", days(left)),
		Text:     fmt.Sprintf("It ends on %s; then nothing can be switched.\nMake one without an end: %s", clock(end), s.tokenURL()),
		Severity: notify.Warning,
	}
}

func (s *site) damageMessage(at time.Time) notify.Message {
	return notify.Message{
		Event:   EventStateLost,
		Key:     fmt.Sprintf("%s-%s-%d", s.cfg.Name, EventStateLost, at.UnixNano()),
		About:   s.cfg.Name,
		Time:    at,
		Subject: s.cfg.Name + ": the watchdog's memory was damaged",
		Text: s.damage + ".\nIt goes by what the zone holds now. If that is the standby, it stays so until: watchdog failback " + s.cfg.Name +
			"\nA pause or a hold that was in force is not any more. Look at the disk.",
		Severity: notify.Warning,
	}
}

func uplinkMessage(from, until time.Time) notify.Message {
	return notify.Message{
		Event:    EventUplinkDown,
		Subject:  fmt.Sprintf("The watchdog's own line was down for %s", short(until.Sub(from))),
		Text:     fmt.Sprintf("From %s to %s. It saw nothing of prod in that time, and would not have switched.\nNothing to do.", clock(from), clock(until)),
		Severity: notify.Info,
	}
}

func (s *site) tokenURL() string {
	u, err := ovhdns.CreateTokenURL(s.endpoint, s.cfg.Zone)
	if err != nil {
		return "OVH's createToken page"
	}
	return u
}

func severity(e failover.Event) notify.Severity {
	switch e {
	case failover.EventFailedOver, failover.EventCannotSwitch, failover.EventCannotFollow, failover.EventHeld:
		return notify.Critical
	case failover.EventStandbyDown, failover.EventForeignRecords, failover.EventProdPartial:
		return notify.Warning
	}
	return notify.Info
}

func whose(w failover.Who) string {
	if w == failover.Standby {
		return "the standby"
	}
	return "prod"
}

func orUnknown(s string) string {
	if s == "" {
		return "no answer yet"
	}
	return s
}

func joinAddrs[T fmt.Stringer](addrs []T) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// clock is t where the machine is.
func clock(t time.Time) string { return t.Local().Format("2 Jan 15:04:05 MST") }
