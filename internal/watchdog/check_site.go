package watchdog

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/ovhdns"
	"releve/internal/probe"
)

// siteCheck is the part of `watchdog check` that concerns one site.
type siteCheck struct {
	*checklist
	cfg  *Config
	site Site
	zone zone // nil while OVH's API does not answer
	home homeView
}

func (k siteCheck) run(ctx context.Context) {
	name := k.site.Name
	target := k.site.Probe.Target
	var err error
	if target.Roots, err = rootsWith(k.site.Probe.CAFile); err != nil {
		k.bad("correct probe.ca_file", "%s: %v", name, err)
		return
	}
	k.prod(ctx, target)
	k.standby(ctx, target)
	k.replica()
	if o := k.site.Opinion; o.Mode != failover.OutsideOff {
		k.note("%s: when prod fails, %s is told its address and URL and asked whether others reach it (%s); that was not tried now", k.site.Name, o.Outside.Base.Host, o.Mode)
	}
	if k.zone == nil {
		return // that has been said
	}
	have, ok := k.records(ctx)
	if !ok {
		return
	}
	ttl := k.ttl(ctx, have)
	k.nameServers(ctx, have, ttl)
	k.budget(ttl)
}

func (k siteCheck) prod(ctx context.Context, t probe.Target) {
	for _, addr := range k.site.Probe.Prod {
		t.Address = hostPort(addr, t)
		switch r := probe.Check(ctx, t); {
		case r.OK:
			k.good("%s: prod answers at %s in %d ms", k.site.Name, addr, r.Total.Milliseconds())
		case addr.Is6() && probe.Uplink(ctx, k.cfg.Uplink, uplinkTimeout).IPv6 != probe.Up:
			k.note("%s: whether prod answers at %s cannot be told from here, where there is no IPv6: it is left out of account", k.site.Name, addr)
		default:
			k.bad("mend prod, or correct the [site.probe] table", "%s: prod does not answer at %s as it should: %s", k.site.Name, addr, r.Detail)
		}
	}
}

func (k siteCheck) standby(ctx context.Context, t probe.Target) {
	checks, r := standbyChecks(ctx, t, k.site.StandbyAddress, now())
	for _, c := range checks {
		if c.OK {
			k.good("%s: standby at %s: %s", k.site.Name, k.site.StandbyAddress, strings.TrimSpace(c.Name+" "+c.Why))
			continue
		}
		remedy := "the web server here must serve the site under its own name, as prod does"
		if c.Name == "certificate" {
			remedy = "it must hold prod's certificate, which the agent brings; reload it after a renewal"
		}
		k.bad(remedy, "%s: standby at %s: %s: %s", k.site.Name, k.site.StandbyAddress, c.Name, c.Why)
	}
	if left := time.Until(r.NotAfter); r.OK && !r.NotAfter.IsZero() && left < certificateWarning {
		k.bad("see that prod renews it and that the agent brings it here", "%s: the standby's certificate ends in %s", k.site.Name, days(left))
	}
}

// replica says how old the replicas are, or that this is not looked at, so that nobody relies on it.
func (k siteCheck) replica() {
	if len(k.site.Folders) == 0 {
		k.note("%s: no folders are named, so that a replica of any age will do", k.site.Name)
	}
	st := failover.New()
	if text, err := os.ReadFile(store{k.cfg.StateDir}.sitePath(k.site.Name)); err == nil {
		if remembered, err := failover.Decode(text); err == nil {
			st = remembered
		}
	}
	for _, c := range replicaChecks(k.site, k.cfg.Replica.Control, st, now()) {
		if c.OK {
			k.good("%s: %s: %s", k.site.Name, c.Name, c.Why)
		} else {
			k.bad("see \"syncagent status\" and \"syncagent check\" on prod", "%s: %s: %s", k.site.Name, c.Name, c.Why)
		}
	}
}

// records reads the zone, and compares it with what should be there.
func (k siteCheck) records(ctx context.Context) (failover.Records, bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	name := k.site.Name
	set, err := k.zone.Read(ctx, k.site.Zone, name)
	var alias *ovhdns.CNAMEError
	switch {
	case errors.As(err, &alias):
		k.bad("name "+alias.Target+" as the site, if its zone is at OVH, or give "+name+" A and AAAA records of its own",
			"%s is an alias (CNAME) of %s, and cannot be switched itself", name, alias.Target)
		return nil, false
	case err != nil:
		k.bad("see the lines about OVH above", "%s: %v", name, err)
		return nil, false
	}
	have := fromSet(set)
	switch want := recordsOfProd(k.site); {
	case len(have) == 0:
		k.bad("create A (and AAAA) records for "+joinAddrs(k.site.Probe.Prod)+" with a TTL of 60", "%s has no A or AAAA record in zone %s", name, k.site.Zone)
		return nil, false
	case set.SameTargets(toSet(want)):
		k.good("%s: the zone holds prod's records: %s", name, have)
	case k.switched(set):
		k.note("%s: the standby serves: %s", name, have)
	default:
		k.bad("set the records right, or probe.prod; the watchdog overwrites nothing it does not know",
			"%s: the zone holds %s, but probe.prod says %s", name, have, joinAddrs(k.site.Probe.Prod))
	}
	if hints, err := k.zone.Hints(ctx, k.site.Zone, name); err == nil {
		for _, h := range hints {
			k.note("%s: %s", name, h)
		}
	}
	return have, true
}

// switched reports whether these are the standby's records, as far as the daemon's memory or home's address tells.
func (k siteCheck) switched(set ovhdns.Set) bool {
	var home failover.Records
	for _, a := range k.home.addrs() {
		home = append(home, failover.Record{Addr: a})
	}
	if set.SameTargets(toSet(home)) {
		return true
	}
	text, err := os.ReadFile(store{k.cfg.StateDir}.sitePath(k.site.Name))
	if err != nil {
		return false
	}
	st, err := failover.Decode(text)
	return err == nil && st.Goal == failover.Standby && set.SameTargets(toSet(st.Want))
}

// nameServers holds what they serve against what OVH's API says, the TTLs too: that a TTL of 0 is the one that the API
// gives the zone is nowhere promised.
func (k siteCheck) nameServers(ctx context.Context, have failover.Records, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	name := k.site.Name
	servers := k.site.NameServers
	if len(servers) == 0 {
		var err error
		if servers, err = k.zone.NameServers(ctx, k.site.Zone); err != nil {
			k.bad("see the lines about OVH above", "%s: name servers of zone %s: %v", name, k.site.Zone, err)
			return
		}
	}
	if err := late(ovhdns.Published(ctx, servers, name, toSet(have))); err != nil {
		k.bad("either a change is being published, or a name server cannot be reached from here, or the zone is not served by OVH",
			"%s: not all name servers serve what OVH's API says: %v", name, err)
		return
	}
	if err := late(ovhdns.PublishedWithin(ctx, servers, name, toSet(have), int64(ttl.Seconds()))); err != nil {
		k.bad("either a change is being published, or the zone's own TTL is another one: watchdog prepare "+name, "%s: resolvers may keep it for longer than OVH's API says, which is %s: %v", name, short(ttl), err)
		return
	}
	k.good("%s: every name server (%d) serves what OVH's API says", name, len(servers))
}

// ttl is how long resolvers may keep these records.
func (k siteCheck) ttl(ctx context.Context, have failover.Records) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	zoneTTL, err := k.zone.DefaultTTL(ctx, k.site.Zone)
	if err != nil {
		zoneTTL = 0
	}
	return longestTTL(have, zoneTTL)
}

func (k siteCheck) budget(ttl time.Duration) {
	b := computeBudget(k.site, ttl, k.measured())
	if advice := b.advice(); advice != "" {
		k.bad(advice, "%s: A FAIL-OVER TAKES LONGER THAN %s: %s", k.site.Name, short(promise), b)
		return
	}
	k.good("%s: a fail-over takes up to %s", k.site.Name, b)
	if b.worst() > promise {
		k.note("%s: with OVH at its slowest that is more than %s, which is not in our hands", k.site.Name, short(promise))
	}
}

// measured is how long publications took, as the daemon remembers; 0 if it does not.
func (k siteCheck) measured() time.Duration {
	return newDelays(store{k.cfg.StateDir}).slowest(k.site.Zone)
}

func recordsOfProd(s Site) failover.Records {
	var out failover.Records
	for _, a := range s.Probe.Prod {
		out = append(out, failover.Record{Addr: a, TTL: s.TTL})
	}
	return out
}
