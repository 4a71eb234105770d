package publicip_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"releve/internal/publicip"
)

func said(operator, address string) publicip.Answer {
	return publicip.Answer{Source: "source of " + operator, Operator: operator, Address: netip.MustParseAddr(address)}
}

func silent(operator string) publicip.Answer {
	return publicip.Answer{Source: "source of " + operator, Operator: operator, Err: errors.New("timeout")}
}

func TestAgree(t *testing.T) {
	t.Parallel()
	const router = publicip.RouterOperator
	for _, c := range []struct {
		name    string
		answers []publicip.Answer
		want    string // "" = no agreement
		why     string
	}{
		{"nobody asked", nil, "", "no source was asked"},
		{"nobody answered", []publicip.Answer{silent("a"), silent("b")}, "", "none of 2 sources answered"},
		{"one alone", []publicip.Answer{said("a.net", "5.6.7.8"), silent("b")}, "", "only a.net said 5.6.7.8; a second operator must confirm it"},
		{"one operator twice", []publicip.Answer{said("a.net", "5.6.7.8"), said("a.net", "5.6.7.8")}, "", "only a.net said"},
		{"two operators", []publicip.Answer{said("b.net", "5.6.7.8"), said("a.net", "5.6.7.8")}, "5.6.7.8", "5.6.7.8, according to a.net, b.net"},
		{"two against one", []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.8"), said("c", "9.9.9.1")}, "5.6.7.8", ""},
		{"one against one", []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.9")}, "", "the sources disagree: 5.6.7.8 (a), 5.6.7.9 (b)"},
		{"two against two", []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.8"), said("c", "5.6.7.9"), said("d", "5.6.7.9")}, "", "disagree"},
		{"three against two", []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.8"), said("e", "5.6.7.8"), said("c", "5.6.7.9"), said("d", "5.6.7.9")}, "5.6.7.8", ""},
		{"router and an echo", []publicip.Answer{said(router, "5.6.7.8"), said("a", "5.6.7.8")}, "5.6.7.8", ""},
		{"the router twice is one", []publicip.Answer{said(router, "5.6.7.8"), said(router, "5.6.7.8")}, "", "only router"},
		{"router behind carrier-grade NAT", []publicip.Answer{said(router, "100.64.3.4"), said("a", "5.6.7.8"), said("b", "5.6.7.8")}, "",
			"the router's own outside address, 100.64.3.4, is shared by a carrier-grade NAT (RFC 6598)"},
		{"second router", []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.8"), said(router, "192.168.1.2")}, "", "192.168.1.2, is private"},
		{"VPN", []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.8"), said(router, "81.2.3.4")}, "", "the router says 81.2.3.4, the outside sees 5.6.7.8"},
		{"private echoes", []publicip.Answer{said("a", "10.0.0.1"), said("b", "10.0.0.1")}, "", "source of a said 10.0.0.1, which is private"},
		{"private echoes beside good ones", []publicip.Answer{said("a", "10.0.0.1"), said("b", "10.0.0.1"), said("c", "5.6.7.8"), said("d", "5.6.7.8")}, "5.6.7.8", ""},
		{"documentation", []publicip.Answer{said("a", "203.0.113.9"), said("b", "203.0.113.9")}, "", "documentation"},
		{"WARP", []publicip.Answer{said("a", "104.28.1.2"), said("b", "104.28.1.2")}, "", "Cloudflare's"},
		{"IPv6", []publicip.Answer{said("a", "2a01:cb00::1"), said("b", "2a01:cb00::1")}, "2a01:cb00::1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, ok, why := publicip.Agree(c.answers)
			if ok != (c.want != "") || ok && address.String() != c.want || !ok && address.IsValid() || !strings.Contains(why, c.why) || why == "" {
				t.Errorf("got %s, %v, %q; want %q, %q", address, ok, why, c.want, c.why)
			}
		})
	}
}

// drawAnswers draws from few operators and few addresses, so that agreement, ties and quarrels all happen.
func drawAnswers(t *rapid.T) []publicip.Answer {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) publicip.Answer {
		operator := rapid.SampledFrom([]string{"a", "b", "c", "d", publicip.RouterOperator}).Draw(t, "operator")
		if rapid.IntRange(0, 4).Draw(t, "silent") == 0 {
			return silent(operator)
		}
		return said(operator, rapid.SampledFrom([]string{"5.6.7.8", "5.6.7.9", "81.2.3.4", "10.0.0.1", "100.64.0.1"}).Draw(t, "address"))
	}), 0, 8).Draw(t, "answers")
}

// What is agreed was said by two operators at least, is fit for the world, and the router says nothing else.
func TestAgreementIsProven(t *testing.T) {
	agreed := 0
	rapid.Check(t, func(t *rapid.T) {
		answers := drawAnswers(t)
		address, ok, _ := publicip.Agree(answers)
		if !ok {
			return
		}
		agreed++
		operators := map[string]bool{}
		for _, a := range answers {
			if a.Err != nil {
				continue
			}
			if a.Address == address {
				operators[a.Operator] = true
			} else if a.Operator == publicip.RouterOperator {
				t.Fatalf("agreed on %s, and the router said %s", address, a.Address)
			}
		}
		if len(operators) < 2 {
			t.Fatalf("agreed on %s by %v alone", address, operators)
		}
		if why := publicip.Special(address); why != "" {
			t.Fatalf("agreed on %s, which is %s", address, why)
		}
	})
	if agreed == 0 {
		t.Error("no history agreed: the property was never tried")
	}
}

// One operator that lies, with however many sources and in whatever way, cannot make us believe another address than
// the honest ones give. The worst it can do is to leave us without an answer.
func TestOneLiarNeverMovesUs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const truth = "5.6.7.8"
		var answers []publicip.Answer
		for i := range rapid.IntRange(0, 4).Draw(t, "honest") {
			operator := fmt.Sprintf("honest%d", i)
			if rapid.Bool().Draw(t, "silent") {
				answers = append(answers, silent(operator))
			} else {
				answers = append(answers, said(operator, truth))
			}
		}
		liar := rapid.SampledFrom([]string{"liar", publicip.RouterOperator}).Draw(t, "liar")
		for range rapid.IntRange(1, 5).Draw(t, "lies") {
			answers = append(answers, said(liar, rapid.SampledFrom([]string{"6.6.6.6", "7.7.7.7", "10.0.0.1"}).Draw(t, "lie")))
		}
		answers = rapid.Permutation(answers).Draw(t, "order")
		if address, ok, why := publicip.Agree(answers); ok && address.String() != truth {
			t.Fatalf("believed %s: %s", address, why)
		}
	})
}

// An echo that lies does not even keep three honest operators from agreeing.
func TestOneLyingEchoDoesNotBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		answers := []publicip.Answer{said("a", "5.6.7.8"), said("b", "5.6.7.8"), silent("c")}
		for range rapid.IntRange(0, 4).Draw(t, "lies") {
			answers = append(answers, said("liar", rapid.SampledFrom([]string{"6.6.6.6", "7.7.7.7", "10.0.0.1"}).Draw(t, "lie")))
		}
		if address, ok, why := publicip.Agree(rapid.Permutation(answers).Draw(t, "order")); !ok || address.String() != "5.6.7.8" {
			t.Fatalf("got %s, %v: %s", address, ok, why)
		}
	})
}

// Neither the order of the answers nor their repetition changes anything.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		answers := drawAnswers(t)
		address, ok, why := publicip.Agree(answers)
		mixed := rapid.Permutation(slices.Concat(answers, answers)).Draw(t, "mixed")
		if a, o, _ := publicip.Agree(mixed); a != address || o != ok {
			t.Fatalf("%s, %v (%s) became %s, %v", address, ok, why, a, o)
		}
	})
}

func TestSpecial(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"0.0.0.0", "0.1.2.3", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1", "172.31.255.255",
		"192.0.0.9", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.255",
		"224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "104.16.1.1", "172.64.0.1", "104.28.255.255",
		"::", "::1", "::ffff:10.0.0.1", "64:ff9b::5.6.7.8", "100::1", "2001::1", "2001:db8::1", "2002:506:708::1", "3fff::1", "5f00::1",
		"fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "2606:4700::1111", "4000::1",
	} {
		if publicip.Special(netip.MustParseAddr(s)) == "" {
			t.Errorf("%s passes for a public address", s)
		}
	}
	for _, s := range []string{
		"1.1.1.1", "5.6.7.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.1",
		"192.167.255.255", "198.17.255.255", "198.20.0.0", "203.0.112.255", "223.255.255.255", "::ffff:5.6.7.8",
		"2a01:cb00::1", "2001:200::1", "2003::1", "3ffe::1",
	} {
		if why := publicip.Special(netip.MustParseAddr(s)); why != "" {
			t.Errorf("%s is refused as %s", s, why)
		}
	}
	if publicip.Special(netip.Addr{}) == "" {
		t.Error("no address at all passes")
	}
}
