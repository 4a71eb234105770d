package watchdog

import (
	"slices"
	"strings"

	"releve/internal/strictconf"
)

// The rules of [dyndns], which is nil where the table is left out.
func (f *configFile) dynDNS(doc *strictconf.Doc) *DynDNS {
	if !doc.Has("dyndns") {
		return nil
	}
	t := f.DynDNS
	c := &DynDNS{Name: t.Name, Zone: f.dynDNSZone(doc), TTL: t.TTL}
	switch {
	case t.Name == "":
		doc.Complain("dyndns.name", "is missing; give the DNS name that is to lead home, such as %q", "home.example.net")
	case !isDomain(t.Name):
		doc.Complain("dyndns.name", "%q is not a DNS name in lower-case letters, without a dot at its end", t.Name)
	case slices.ContainsFunc(f.Sites, func(s siteTable) bool { return s.Name == t.Name }):
		doc.Complain("dyndns.name", "%q is the name of a site, which leads to prod while prod is well; take another one", t.Name)
	}
	if t.TTL != 0 && t.TTL < 60 {
		doc.Complain("dyndns.ttl", "%d is too little: OVH takes 60 seconds at least; 0 means the zone's own", t.TTL)
	}
	for i, server := range t.NameServers {
		c.NameServers = append(c.NameServers, doc.Address(strictconf.Index("dyndns.nameservers", i), server, "53"))
	}
	t.families(doc, f.Home, c)
	return c
}

// dynDNSZone is the zone given, or the closest of those of the sites in which the name lies.
func (f *configFile) dynDNSZone(doc *strictconf.Doc) (zone string) {
	within := func(zone string) bool {
		return f.DynDNS.Name == zone || strings.HasSuffix(f.DynDNS.Name, "."+zone)
	}
	switch given := f.DynDNS.Zone; {
	case given != "" && !isDomain(given):
		doc.Complain("dyndns.zone", "%q is not a domain in lower-case letters, without a dot at its end", given)
		return given
	case given != "" && isDomain(f.DynDNS.Name) && !within(given):
		doc.Complain("dyndns.name", "%q does not lie in the zone %q", f.DynDNS.Name, given)
		return given
	case given != "":
		return given
	}
	for _, s := range f.Sites {
		if isDomain(s.Zone) && within(s.Zone) && len(s.Zone) > len(zone) {
			zone = s.Zone
		}
	}
	if zone == "" && isDomain(f.DynDNS.Name) {
		doc.Complain("dyndns.zone", "is missing, and %q lies in no site's zone; give the OVH zone that holds the name", f.DynDNS.Name)
	}
	return zone
}

// families are those given, or those that home has.
func (t dynDNSTable) families(doc *strictconf.Doc, home homeTable, c *DynDNS) {
	if len(t.Families) == 0 {
		c.IPv4, c.IPv6 = home.IPv4 != "off", home.IPv6 != "off"
		return
	}
	for i, family := range t.Families {
		key := strictconf.Index("dyndns.families", i)
		mode, known := map[string]string{"ipv4": home.IPv4, "ipv6": home.IPv6}[family]
		switch {
		case !known:
			doc.Complain(key, `%q is not a family of addresses; write "ipv4" or "ipv6"`, family)
		case slices.Contains(t.Families[:i], family):
			doc.Complain(key, "%q is listed twice", family)
		case mode == "off":
			doc.Complain(key, "home.%s is off, so that there is no address to follow", family)
		}
		c.IPv4, c.IPv6 = c.IPv4 || family == "ipv4", c.IPv6 || family == "ipv6"
	}
}
