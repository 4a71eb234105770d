package watchdog

import (
	"net/netip"
	"strings"
	"testing"
)

// TestLasting: what is published is the standby's own address in the network that was seen, never the router's or the
// day's.
func TestLasting(t *testing.T) {
	t.Parallel()
	seen := netip.MustParseAddr("2a01:cb00:1:2:aaaa:bbbb:cccc:dddd")
	for _, c := range []struct {
		name string
		cfg  HomeAddress
		want string
		err  string
	}{
		{"its own half is given", HomeAddress{Suffix: netip.MustParseAddr("::10")}, "2a01:cb00:1:2::10", ""},
		{"a long half", HomeAddress{Suffix: netip.MustParseAddr("::211:22ff:fe33:4455")}, "2a01:cb00:1:2:211:22ff:fe33:4455", ""},
		{"an interface without one", HomeAddress{Interface: "none0"}, "", "interface none0 has no lasting IPv6 address in the network of 2a01:cb00:1:2:"},
		{"nothing is said, and nothing found", HomeAddress{}, seen.String(), ""},
	} {
		got, err := lasting(c.cfg, seen)
		if c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)) || c.err == "" && (err != nil || got.String() != c.want) {
			t.Errorf("%s: %s, %v; want %q, %q", c.name, got, err, c.want, c.err)
		}
	}
}
