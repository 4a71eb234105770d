package ovhdns_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/internal/ovhdns"
	"releve/test/dnsworld"
	"releve/test/ovhworld"
)

// nameServer serves the world's zones at an address of its own.
func nameServer(t *testing.T, w *ovhworld.World) (*dnsworld.Server, string) {
	t.Helper()
	s := dnsworld.New(w.Zones)
	t.Cleanup(s.Close)
	addr, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return s, addr
}

// TestPublishedWithin: where nothing but the TTLs was to change, the old ones are not what is wanted.
func TestPublishedWithin(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, rows("www", ovhdns.Set{a("192.0.2.1", 300), aaaa("2001:db8::1", 60)})...)
	_, addr := nameServer(t, w)
	for ttl, says := range map[int64]string{300: "", 299: "still serves A 192.0.2.1 ttl 300"} {
		err := ovhdns.PublishedWithin(t.Context(), []string{addr}, site, prod, ttl)[addr]
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("ttl %d: %v, want %q", ttl, err, says)
		}
	}
}

func TestPublished(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	for _, tc := range []struct {
		name  string
		site  string
		want  ovhdns.Set
		spoil func(s *dnsworld.Server)
		says  string // "" is success
	}{
		{"served", site, prod, nil, ""},
		{"another spelling, another ttl", "WWW.example.NET.", ovhdns.Set{a("192.0.2.1", 300), aaaa("2001:DB8:0:0::1", 0)}, nil, ""},
		{"cut over UDP", site, prod, func(s *dnsworld.Server) { s.LimitUDP(40) }, ""},
		{"not the address", site, ovhdns.Set{home[0], prod[1]}, nil, "serves A 192.0.2.1"},
		{"one too many", site, prod[:1], nil, "AAAA 2001:db8::1"},
		{"one too few", site, append(slices.Clone(prod), a("192.0.2.2", 60)), nil, "serves"},
		{"no such name", "nope.example.net", prod, nil, "serves no address records"},
		{"alias", "alias.example.net", prod, nil, "is a CNAME of www.example.net"},
		{"not its zone", "www.example.org", prod, nil, "REFUSED"},
		{"lame", site, prod, func(s *dnsworld.Server) { s.Lame(true) }, "not authoritative"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, addr := nameServer(t, w)
			if tc.spoil != nil {
				tc.spoil(s)
			}
			result := ovhdns.Published(t.Context(), []string{addr}, tc.site, tc.want)
			err, asked := result[addr]
			if !asked || len(result) != 1 || (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", result, tc.says)
			}
			for _, q := range s.Queries() {
				if q.Recursion || q.Type != "A" && q.Type != "AAAA" {
					t.Errorf("asked %v", q)
				}
			}
		})
	}
}

// TestPublishedAsksEachServer: one serves, one is silent, one has no address.
func TestPublishedAsksEachServer(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	_, good := nameServer(t, w)
	mute, silent := nameServer(t, w)
	mute.Silence(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, port, _ := net.SplitHostPort(good)
	result := ovhdns.Published(ctx, []string{good, "localhost:" + port, silent, "no..such.host"}, site, prod)
	if result[good] != nil || result["localhost:"+port] != nil || result[silent] == nil || result["no..such.host"] == nil || len(result) != 4 {
		t.Errorf("%v", result)
	}
}

func TestWaitPublished(t *testing.T) {
	const delay = 60 * time.Millisecond
	w := newWorld(t, ovhworld.Options{PublishDelay: delay}, prodRows...)
	_, one := nameServer(t, w)
	_, two := nameServer(t, w)
	servers := []string{one, two}
	c := newClient(t, config(listen(t, w)))
	replace(t, c, site, home)
	took, err := ovhdns.WaitPublished(t.Context(), servers, site, home, 5*time.Millisecond)
	if err != nil || took < delay/2 || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = ovhdns.WaitPublished(ctx, servers, site, prod, 5*time.Millisecond)
	if !errors.Is(err, ovhdns.ErrUnconfirmed) || !strings.Contains(err.Error(), "could not confirm publication of www.example.net") ||
		!strings.Contains(err.Error(), one+": serves A 198.51.100.7") || !strings.Contains(err.Error(), two+": ") {
		t.Error(err)
	}
	if _, err = ovhdns.WaitPublished(t.Context(), nil, site, prod, time.Millisecond); err == nil {
		t.Error("published on no server")
	}
}

// slowTimer is a context whose own timer comes later than those of the sockets that have its deadline, as happens.
type slowTimer struct {
	context.Context
	deadline time.Time
}

func (c slowTimer) Deadline() (time.Time, bool) { return c.deadline, true }

// TestWaitPublishedTellsOfServers: what is reported of a name server is what it said, not that we ran out of time.
func TestWaitPublishedTellsOfServers(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	_, addr := nameServer(t, w)
	soon := time.Now().Add(100 * time.Millisecond)
	ctx, cancel := context.WithDeadline(t.Context(), soon.Add(100*time.Millisecond))
	defer cancel()
	_, err := ovhdns.WaitPublished(slowTimer{ctx, soon}, []string{addr}, site, home, 5*time.Millisecond)
	if !errors.Is(err, ovhdns.ErrUnconfirmed) || !strings.Contains(err.Error(), addr+": serves A 192.0.2.1 ") {
		t.Error(err)
	}
}

func TestNameServers(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	if ns, err := c.NameServers(t.Context(), zone); err != nil || strings.Join(ns, " ") != "ns1.example.net ns2.example.net" {
		t.Error(ns, err)
	}
	_, err := c.NameServers(t.Context(), "example.org")
	if e, ok := errors.AsType[*ovhdns.APIError](err); !ok || e.Kind != ovhdns.Permanent {
		t.Error(err)
	}
}

func TestSet(t *testing.T) {
	for _, tc := range []struct {
		name          string
		a, b          ovhdns.Set
		equal, sameIP bool
	}{
		{"order", ovhdns.Set{prod[0], prod[1]}, ovhdns.Set{prod[1], prod[0]}, true, true},
		{"spelling", ovhdns.Set{aaaa("2001:db8::1", 60)}, ovhdns.Set{aaaa("2001:0DB8:0:0:0:0:0:1", 60)}, true, true},
		{"duplicates", ovhdns.Set{prod[0], prod[0]}, prod[:1], true, true},
		{"DynHost", ovhdns.Set{{Type: "A", Target: "192.0.2.1", TTL: 60, DynHost: true}}, prod[:1], true, true},
		{"ttl", ovhdns.Set{a("192.0.2.1", 60)}, ovhdns.Set{a("192.0.2.1", 300)}, false, true},
		{"address", ovhdns.Set{a("192.0.2.1", 60)}, ovhdns.Set{a("192.0.2.2", 60)}, false, false},
		{"one more", prod, prod[:1], false, false},
		{"empty", nil, ovhdns.Set{}, true, true},
		{"not an address", ovhdns.Set{a("x", 60)}, ovhdns.Set{a("y", 60)}, false, false},
	} {
		if tc.a.Equal(tc.b) != tc.equal || tc.b.Equal(tc.a) != tc.equal || tc.a.SameTargets(tc.b) != tc.sameIP {
			t.Errorf("%s: %s, %s", tc.name, tc.a, tc.b)
		}
	}
	if got := (ovhdns.Set{prod[1], a("192.0.2.10", 0), a("192.0.2.9", 60)}).String(); got != "A 192.0.2.9 ttl 60, A 192.0.2.10 ttl default, AAAA 2001:db8::1 ttl 60" {
		t.Error(got)
	}
}
