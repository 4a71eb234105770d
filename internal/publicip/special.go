package publicip

import "net/netip"

// special lists the ranges that are no home's address on the internet, and why: every row of the IANA special-purpose
// registries for IPv4 and IPv6 (RFC 6890 and 8190, as of July 2026), also those that are globally reachable, for they
// are anycast or stand for something else; multicast, which has registries of its own; and Cloudflare's ranges, whence
// the users of its VPN (WARP) seem to come. What lies outside 2000::/3 is left to [Special].
//
// Built per call: the table is small, and asked a few times a minute.
func special() []rangeOf {
	return []rangeOf{
		{"this network (RFC 791)", p("0.0.0.0/8")},
		{"private (RFC 1918)", p("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")},
		{"shared by a carrier-grade NAT (RFC 6598)", p("100.64.0.0/10")},
		{"loopback", p("127.0.0.0/8", "::1/128")},
		{"link-local", p("169.254.0.0/16", "fe80::/10")},
		{"Teredo (RFC 4380)", p("2001::/32")},
		{"for documentation (RFC 5737, 3849, 9637)", p("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")},
		{"for benchmarks (RFC 2544, 5180)", p("198.18.0.0/15", "2001:2::/48")},
		{"for protocol assignments (RFC 6890, 2928)", p("192.0.0.0/24", "2001::/23")},
		{"6to4 (RFC 3056, 7526)", p("192.88.99.0/24", "2002::/16")},
		{"AS112 or AMT anycast (RFC 7534, 7535, 7450)", p("192.31.196.0/24", "192.175.48.0/24", "192.52.193.0/24", "2620:4f:8000::/48")},
		{"multicast", p("224.0.0.0/4", "ff00::/8")},
		{"reserved (RFC 1112), or the broadcast address (RFC 919)", p("240.0.0.0/4")},
		{"unique local (RFC 4193)", p("fc00::/7")},
		{"translated from IPv4 (RFC 6052, 8215)", p("64:ff9b::/96", "64:ff9b:1::/48")},
		{"Cloudflare's: a VPN (WARP) or its proxy, not this home", p( // https://www.cloudflare.com/ips/
			"173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18",
			"108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17",
			"162.158.0.0/15", "104.16.0.0/13", "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22",
			"2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32",
			"2a06:98c0::/29", "2c0f:f248::/32",
			// The ways out of WARP and of Apple's relay, which are not in that list:
			// https://api.cloudflare.com/local-ip-ranges.csv, and RIPE's netname CLOUDFLAREWARP.
			"104.28.0.0/14", "2a09:bac0::/29", "2606:54c0::/28",
		)},
	}
}

type rangeOf struct {
	what     string
	prefixes []netip.Prefix
}

func p(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		prefixes[i] = netip.MustParsePrefix(s)
	}
	return prefixes
}

// Special says why an address cannot be a home's address on the internet ("private (RFC 1918)"); "" when it can.
func Special(a netip.Addr) string {
	a = a.Unmap()
	if !a.IsValid() {
		return "no address"
	}
	for _, r := range special() {
		for _, prefix := range r.prefixes {
			if prefix.Contains(a.WithZone("")) {
				return r.what
			}
		}
	}
	// Only 2000::/3 has been given out (RFC 4291 §2.4 and the IANA registry of IPv6 address space).
	if a.Is6() && a.As16()[0]>>5 != 1 {
		return "outside the global unicast range"
	}
	return ""
}
