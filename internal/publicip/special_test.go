package publicip_test

import (
	"net/netip"
	"testing"

	"releve/internal/publicip"
)

// TestRegistries holds the refused ranges against the sources: every row of both IANA special-purpose registries, as
// IANA gave them out on 18 July 2026 (iana-ipv4-special-registry-1.csv, iana-ipv6-special-registry-1.csv), whether or
// not it is globally reachable; the multicast ranges of the registries of address space; and Cloudflare's own lists.
// The first and the last address of each are refused, and the neighbours that are an internet provider's are not.
func TestRegistries(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ block, source string }{
		{"0.0.0.0/8", "RFC 791: this network"},
		{"0.0.0.0/32", "RFC 1122: this host on this network"},
		{"10.0.0.0/8", "RFC 1918: private use"},
		{"100.64.0.0/10", "RFC 6598: shared address space"},
		{"127.0.0.0/8", "RFC 1122: loopback"},
		{"169.254.0.0/16", "RFC 3927: link local"},
		{"172.16.0.0/12", "RFC 1918: private use"},
		{"192.0.0.0/24", "RFC 6890: IETF protocol assignments"},
		{"192.0.0.0/29", "RFC 7335: service continuity"},
		{"192.0.0.8/32", "RFC 7600: dummy address"},
		{"192.0.0.9/32", "RFC 7723: port control protocol anycast"},
		{"192.0.0.10/32", "RFC 8155: TURN anycast"},
		{"192.0.0.170/32", "RFC 8880, 7050: NAT64 discovery"},
		{"192.0.0.171/32", "RFC 8880, 7050: NAT64 discovery"},
		{"192.0.2.0/24", "RFC 5737: documentation"},
		{"192.31.196.0/24", "RFC 7535: AS112-v4"},
		{"192.52.193.0/24", "RFC 7450: AMT"},
		{"192.88.99.0/24", "RFC 7526: 6to4 relay anycast, deprecated"},
		{"192.88.99.2/32", "RFC 6751: 6a44 relay anycast"},
		{"192.168.0.0/16", "RFC 1918: private use"},
		{"192.175.48.0/24", "RFC 7534: AS112"},
		{"198.18.0.0/15", "RFC 2544: benchmarking"},
		{"198.51.100.0/24", "RFC 5737: documentation"},
		{"203.0.113.0/24", "RFC 5737: documentation"},
		{"240.0.0.0/4", "RFC 1112: reserved"},
		{"255.255.255.255/32", "RFC 919: limited broadcast"},
		{"224.0.0.0/4", "RFC 5771: multicast"},

		{"::1/128", "RFC 4291: loopback"},
		{"::/128", "RFC 4291: unspecified"},
		{"64:ff9b::/96", "RFC 6052: IPv4-IPv6 translation"},
		{"64:ff9b:1::/48", "RFC 8215: IPv4-IPv6 translation, local use"},
		{"100::/64", "RFC 6666: discard only"},
		{"100:0:0:1::/64", "RFC 9780: dummy prefix"},
		{"2001::/23", "RFC 2928: IETF protocol assignments"},
		{"2001::/32", "RFC 4380: Teredo"},
		{"2001:1::1/128", "RFC 7723: port control protocol anycast"},
		{"2001:1::2/128", "RFC 8155: TURN anycast"},
		{"2001:1::3/128", "RFC 9665: DNS-SD registration anycast"},
		{"2001:2::/48", "RFC 5180: benchmarking"},
		{"2001:3::/32", "RFC 7450: AMT"},
		{"2001:4:112::/48", "RFC 7535: AS112-v6"},
		{"2001:10::/28", "RFC 4843: ORCHID, deprecated"},
		{"2001:20::/28", "RFC 7343: ORCHIDv2"},
		{"2001:30::/28", "RFC 9374: drone remote id"},
		{"2001:db8::/32", "RFC 3849: documentation"},
		{"2002::/16", "RFC 3056: 6to4"},
		{"2620:4f:8000::/48", "RFC 7534: AS112"},
		{"3fff::/20", "RFC 9637: documentation"},
		{"5f00::/16", "RFC 9602: SRv6 segment identifiers"},
		{"fc00::/7", "RFC 4193: unique local"},
		{"fe80::/10", "RFC 4291: link-local"},
		{"fec0::/10", "RFC 3879: site-local, deprecated"},
		{"ff00::/8", "RFC 4291: multicast"},

		{"104.16.0.0/13", "https://www.cloudflare.com/ips-v4"},
		{"104.24.0.0/14", "https://www.cloudflare.com/ips-v4"},
		{"162.158.0.0/15", "https://www.cloudflare.com/ips-v4"},
		{"172.64.0.0/13", "https://www.cloudflare.com/ips-v4"},
		{"2606:4700::/32", "https://www.cloudflare.com/ips-v6"},
		{"104.28.0.0/14", "https://api.cloudflare.com/local-ip-ranges.csv: WARP and Apple's relay"},
		{"2606:54c0::/28", "https://api.cloudflare.com/local-ip-ranges.csv: WARP and Apple's relay"},
		{"2a09:bac0::/29", "RIPE: netname CLOUDFLAREWARP"},
	} {
		block := netip.MustParsePrefix(row.block)
		for _, a := range []netip.Addr{block.Addr(), lastOf(block)} {
			if publicip.Special(a) == "" {
				t.Errorf("%s of %s (%s) would be published", a, row.block, row.source)
			}
		}
	}
	// ::ffff:0:0/96 (RFC 4291) is how a socket shows an IPv4 address: what it stands for counts.
	for mapped, refused := range map[string]bool{"::ffff:10.0.0.1": true, "::ffff:5.6.7.8": false} {
		if got := publicip.Special(netip.MustParseAddr(mapped)) != ""; got != refused {
			t.Errorf("%s is refused: %v", mapped, got)
		}
	}
	for _, neighbour := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
		"172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "104.15.255.255", "104.32.0.0",
		"2001:200::", "2001:db7:ffff::", "2001:db9::", "2003::1", "3ffe:ffff::", "2a09:bab8::", "2a09:bac8::", "2606:5400::", "2606:54d0::",
	} {
		if why := publicip.Special(netip.MustParseAddr(neighbour)); why != "" {
			t.Errorf("%s, which may be a home's, is refused: %s", neighbour, why)
		}
	}
}

// lastOf is the last address of a block.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
