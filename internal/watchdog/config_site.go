package watchdog

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"releve/internal/probe"
	"releve/internal/strictconf"
)

// The rules of one [[site]].
func (t siteTable) build(doc *strictconf.Doc, key string) Site {
	t.checkName(doc, key)
	if t.TTL != 0 && t.TTL < 60 {
		doc.Complain(key+".ttl", "%d is too little: OVH takes 60 seconds at least; 0 means the zone's own", t.TTL)
	}
	for i, f := range t.Folders {
		at := strictconf.Index(key+".folders", i)
		doc.Name(at, f)
		if slices.Contains(t.Folders[:i], f) {
			doc.Complain(at, "%q is listed twice", f)
		}
	}
	strictconf.AtLeast(doc, key+".max_lag", t.MaxLag, 0)
	strictconf.AtLeast(doc, key+".max_switches_per_day", t.MaxSwitchesPerDay, 1)
	s := Site{
		Name: t.Name, Zone: t.Zone, TTL: t.TTL, Folders: t.Folders, MaxLag: t.MaxLag.D(), MaxSwitchesPerDay: t.MaxSwitchesPerDay,
		Probe:    t.Probe.build(doc, key+".probe", t.Name),
		Failback: t.Failback.build(doc, key+".failback"),
		Opinion:  t.Opinion.build(doc, key+".opinion"),
	}
	s.StandbyAddress = doc.Address(key+".standby.address", t.Standby.Address, strictconf.URLPort(s.Probe.Target.URL))
	for i, server := range t.NameServers {
		s.NameServers = append(s.NameServers, doc.Address(strictconf.Index(key+".nameservers", i), server, "53"))
	}
	return s
}

func (t siteTable) checkName(doc *strictconf.Doc, key string) {
	switch {
	case t.Zone == "":
		doc.Complain(key+".zone", "is missing; give the OVH zone that holds the name")
	case !isDomain(t.Zone):
		doc.Complain(key+".zone", "%q is not a domain in lower-case letters, without a dot at its end", t.Zone)
	}
	switch {
	case t.Name == "":
		doc.Complain(key+".name", "is missing; give the DNS name of the site, such as %q", "www.example.net")
	case !isDomain(t.Name):
		doc.Complain(key+".name", "%q is not a DNS name in lower-case letters, without a dot at its end", t.Name)
	case !isDomain(t.Zone):
	case t.Name != t.Zone && !strings.HasSuffix(t.Name, "."+t.Zone):
		doc.Complain(key+".name", "%q does not lie in the zone %q", t.Name, t.Zone)
	}
}

// isDomain wants the letters, digits and hyphens of RFC 1123, two labels at least.
func isDomain(s string) bool {
	return len(s) <= 253 && regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`).MatchString(s)
}

func (t *probeTable) build(doc *strictconf.Doc, key, site string) Probe {
	u := doc.URL(key+".url", t.URL)
	if u != nil && isDomain(site) && !strings.EqualFold(u.Hostname(), site) {
		doc.Complain(key+".url", "asks for %q; prod and standby must be asked by the site's own name, %q", u.Hostname(), site)
	}
	const least = strictconf.Duration(100 * time.Millisecond)
	strictconf.AtLeast(doc, key+".interval", t.Interval, least)
	if !doc.Has(key + ".timeout") {
		t.Timeout = min(defaultTimeout, t.Interval)
	} else {
		doc.Timeout(key+".timeout", t.Timeout, t.Interval, least)
	}
	strictconf.AtLeast(doc, key+".failures", t.Failures, 1)
	strictconf.AtLeast(doc, key+".successes", t.Successes, 1)
	t.checkStrikes(doc, key)
	for i, status := range t.Status {
		if status < 200 || status > 599 {
			doc.Complain(strictconf.Index(key+".status", i), "%d is not the status of an answer; they go from 200 to 599", status)
		}
	}
	doc.OptionalPath(key+".ca_file", t.CAFile)
	return Probe{
		Target: probe.Target{URL: u, Timeout: t.Timeout.D(), Status: t.Status, Body: t.body(doc, key+".body"), FollowRedirects: t.Follow},
		Prod:   t.prod(doc, key+".prod"), Interval: t.Interval.D(), Failures: t.Failures, Successes: t.Successes,
		Strikes: t.Strikes, Forgive: t.Forgive, CAFile: t.CAFile,
	}
}

// checkStrikes sets what is left out: as many good answers forgive as make prod up.
func (t *probeTable) checkStrikes(doc *strictconf.Doc, key string) {
	strictconf.AtLeast(doc, key+".strikes", t.Strikes, 0)
	if t.Strikes > 0 && t.Strikes < t.Failures {
		doc.Complain(key+".strikes", "%d is less than failures, %d, which then would mean nothing; make it as many at least, or 0", t.Strikes, t.Failures)
	}
	if doc.Has(key + ".forgive") {
		strictconf.AtLeast(doc, key+".forgive", t.Forgive, 1)
	} else {
		t.Forgive = t.Successes
	}
	if t.Strikes <= 0 {
		t.Forgive = 0 // there is nothing to forgive
	}
}

// body is nil when any body will do.
func (t probeTable) body(doc *strictconf.Doc, key string) *regexp.Regexp {
	if t.Body == "" {
		return nil
	}
	re, err := regexp.Compile(t.Body)
	if err != nil {
		doc.Complain(key, "%q is not a regular expression: %s", t.Body, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re
}

func (t probeTable) prod(doc *strictconf.Doc, key string) []netip.Addr {
	if len(t.Prod) == 0 {
		doc.Complain(key, "is missing; give the IP addresses of the production server")
	}
	var addrs []netip.Addr
	for i, text := range t.Prod {
		at := strictconf.Index(key, i)
		addr, err := netip.ParseAddr(text)
		switch {
		case err != nil || !servable(addr):
			doc.Complain(at, "%q is not the IP address of a server; a name will not do, it leads to the standby after a switch", text)
		case slices.Contains(addrs, addr):
			doc.Complain(at, "%q is listed twice", text)
		default:
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func (t failbackTable) build(doc *strictconf.Doc, key string) Failback {
	if t.Mode != "manual" && t.Mode != "auto" {
		doc.Complain(key+".mode", `%q is not a mode; write "manual" or "auto"`, t.Mode)
	}
	strictconf.AtLeast(doc, key+".stay", t.Stay, 0)
	return Failback{Auto: t.Mode == "auto", Stay: t.Stay.D()}
}
