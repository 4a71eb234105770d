package publicip

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// InterfaceIPv6 returns this machine's own lasting IPv6 address in the network (the first 64 bits) of seen, an address
// that an echo saw: global, not temporary (RFC 8981), not deprecated, and on the named interface unless that is "".
// There is no NAT, so the address to publish is this one and not the temporary one that an echo mostly sees.
func InterfaceIPv6(seen netip.Addr, name string) (netip.Addr, error) {
	table, err := os.ReadFile("/proc/net/if_inet6")
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read interface addresses: %w", err)
	}
	return stableIPv6(string(table), seen, name)
}

// stableIPv6 reads /proc/net/if_inet6: address, interface index, prefix length, scope, flags (IFA_F_* of
// linux/if_addr.h), all hexadecimal, and the interface. An address set by hand goes before a derived one.
func stableIPv6(table string, seen netip.Addr, name string) (netip.Addr, error) {
	const (
		temporary  = 0x01
		dadFailed  = 0x08
		deprecated = 0x20
		tentative  = 0x40
		permanent  = 0x80
	)
	network := netip.PrefixFrom(seen.Unmap().WithZone(""), 64).Masked()
	var derived netip.Addr
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 6 || len(fields[0]) != 32 || name != "" && fields[5] != name {
			continue
		}
		raw, err := hex.DecodeString(fields[0])
		if err != nil {
			continue
		}
		flags, err := strconv.ParseUint(fields[4], 16, 32)
		if err != nil || flags&(temporary|dadFailed|deprecated|tentative) != 0 {
			continue
		}
		a := netip.AddrFrom16([16]byte(raw))
		if !network.Contains(a) || Special(a) != "" {
			continue
		}
		if flags&permanent != 0 {
			return a, nil
		}
		if !derived.IsValid() {
			derived = a
		}
	}
	switch {
	case derived.IsValid():
		return derived, nil
	case name != "":
		return netip.Addr{}, fmt.Errorf("interface %s has no lasting IPv6 address in the network of %s, which is what the outside sees", name, seen)
	}
	return netip.Addr{}, fmt.Errorf("no interface has a lasting IPv6 address in the network of %s", seen)
}

// WithSuffix joins the first 64 bits of seen, an address that an echo saw, to the last 64 of suffix ("::1234"): for a
// server whose prefix changes and whose interface identifier does not.
func WithSuffix(seen, suffix netip.Addr) (netip.Addr, error) {
	if !IPv6.has(seen) || !IPv6.has(suffix) {
		return netip.Addr{}, errors.New("join prefix and suffix: both must be IPv6 addresses")
	}
	joined := seen.As16()
	low := suffix.As16()
	copy(joined[8:], low[8:])
	return netip.AddrFrom16(joined), nil
}
