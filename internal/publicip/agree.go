package publicip

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// agree decides which address the answers prove to be ours: pure.
//
// An address counts when it could be reached from outside and two different operators gave it; it wins when more
// operators gave it than any other. The router knows more than the echoes: when its address on the outside is not
// the one the world sees, something translates in between (carrier-grade NAT, a second router, a VPN), nobody
// outside can connect to us, and no agreement of echoes helps.
func agree(answers []Answer) (address netip.Addr, ok bool, why string) {
	votes := map[netip.Addr]map[string]bool{}
	answered := 0
	var refused []string
	for _, a := range answers {
		if a.Err != nil || !a.Address.IsValid() {
			continue
		}
		answered++
		if reason := Special(a.Address); reason != "" {
			if a.Operator == routerOperator {
				return netip.Addr{}, false, fmt.Sprintf("the router's own outside address, %s, is %s: carrier-grade NAT "+
					"or a second router stands before it, and nobody outside can reach us", a.Address, reason)
			}
			refused = append(refused, fmt.Sprintf("%s said %s, which is %s", a.Source, a.Address, reason))
			continue
		}
		if votes[a.Address] == nil {
			votes[a.Address] = map[string]bool{}
		}
		votes[a.Address][a.Operator] = true
	}

	best, tied := 0, false
	for candidate, operators := range votes {
		switch n := len(operators); {
		case n > best:
			address, best, tied = candidate, n, false
		case n == best:
			tied = true
		}
	}
	switch {
	case len(answers) == 0:
		return netip.Addr{}, false, "no source was asked"
	case answered == 0:
		return netip.Addr{}, false, fmt.Sprintf("none of %d sources answered", len(answers))
	case best == 0:
		return netip.Addr{}, false, strings.Join(refused, "; ")
	case best == 1 && len(votes) == 1:
		return netip.Addr{}, false, fmt.Sprintf("only %s said %s; a second operator must confirm it", operatorsOf(votes[address]), address)
	case best == 1 || tied:
		return netip.Addr{}, false, "the sources disagree: " + tally(votes)
	}
	for candidate, operators := range votes {
		if operators[routerOperator] && candidate != address {
			return netip.Addr{}, false, fmt.Sprintf("the router says %s, the outside sees %s: a second router, "+
				"carrier-grade NAT or a VPN is in between", candidate, address)
		}
	}
	return address, true, fmt.Sprintf("%s, according to %s", address, operatorsOf(votes[address]))
}

func operatorsOf(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), ", ")
}

// tally lists who said what, in a stable order.
func tally(votes map[netip.Addr]map[string]bool) string {
	var lines []string
	for _, a := range slices.SortedFunc(maps.Keys(votes), netip.Addr.Compare) {
		lines = append(lines, fmt.Sprintf("%s (%s)", a, operatorsOf(votes[a])))
	}
	return strings.Join(lines, ", ")
}
