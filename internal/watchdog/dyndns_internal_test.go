package watchdog

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"releve/internal/failover"
	"releve/internal/notify"
)

var (
	dynHome4  = []netip.Addr{netip.MustParseAddr("81.2.69.142"), netip.MustParseAddr("81.2.69.160"), netip.MustParseAddr("81.2.69.161")}
	dynHome6  = []netip.Addr{netip.MustParseAddr("2a01:cb00::10"), netip.MustParseAddr("2a01:cb00:1::10")}
	dynOthers = []netip.Addr{netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("2001:db8::66")}
)

// TestDynPlan holds the plan for any records, any knowledge of home and any memory against what is promised.
func TestDynPlan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := slices.Concat(dynHome4, dynHome6, dynOthers)
		record := rapid.Custom(func(t *rapid.T) failover.Record {
			return failover.Record{Addr: rapid.SampledFrom(all).Draw(t, "addr"), TTL: rapid.SampledFrom([]int64{0, 60, 300}).Draw(t, "ttl")}
		})
		have := failover.Records(rapid.SliceOfN(record, 0, 5).Draw(t, "have"))
		homes := slices.DeleteFunc(slices.Concat(dynHome4, dynHome6), func(netip.Addr) bool { return rapid.Bool().Draw(t, "forgotten") })
		known := func(from []netip.Addr) (k knownAddress) {
			if rapid.IntRange(0, 3).Draw(t, "known") > 0 {
				k.Address, k.Agreed = rapid.SampledFrom(from).Draw(t, "home"), rapid.Bool().Draw(t, "agreed")
			}
			return k
		}
		home := homeView{IPv4: known(dynHome4), IPv6: known(dynHome6)}
		cfg := DynDNS{TTL: 60, IPv4: rapid.Bool().Draw(t, "ipv4"), IPv6: rapid.Bool().Draw(t, "ipv6")}
		want, foreign := dynPlan(cfg, have, home, homes)
		for _, r := range have {
			follows, k := cfg.IPv4, home.IPv4
			if r.Addr.Is6() {
				follows, k = cfg.IPv6, home.IPv6
			}
			ours := slices.Contains(homes, r.Addr) || r.Addr == k.Address
			switch {
			case follows && !ours && !slices.Contains(foreign, r):
				t.Fatalf("%v is nobody's of ours and not foreign", r)
			case !ours && !follows && !slices.Contains(want, r):
				t.Fatalf("%v, of a family that is not followed, would go", r)
			case follows && !k.Agreed && !slices.Contains(want, r): // by force or not
				t.Fatalf("%v would go although nobody knows where home is", r)
			}
		}
		for _, r := range want {
			agreed := cfg.IPv4 && home.IPv4.Agreed && r.Addr == home.IPv4.Address || cfg.IPv6 && home.IPv6.Agreed && r.Addr == home.IPv6.Address
			if !agreed && !slices.Contains(have, r) {
				t.Fatalf("%v is neither there nor home's", r)
			}
		}
		if len(foreign) > 0 {
			return
		}
		if again, _ := dynPlan(cfg, want, home, homes); !again.Equal(want) {
			t.Fatalf("the plan for %s is %s, and for that it is %s", have, want, again)
		}
	})
}

// TestDynMemory: what was home's stays known over a restart, for this name alone, and not for ever.
func TestDynMemory(t *testing.T) {
	t.Parallel()
	st := store{t.TempDir()}
	d := newDynDNS(DynDNS{Name: "home.example.net"}, st, time.Now)
	for i, news := range []bool{true, false} {
		if d.memory.know(dynHome4[0]) != news {
			t.Errorf("time %d: news %v", i, !news)
		}
	}
	d.memory.know(dynHome4[1])
	d.memory.know(dynHome4[0]) // came back
	if got := d.memory.Homes; !slices.Equal(got, []netip.Addr{dynHome4[1], dynHome4[0]}) {
		t.Errorf("%v", got)
	}
	if err := d.remember(); err != nil {
		t.Fatal(err)
	}
	if got := newDynDNS(DynDNS{Name: "home.example.net"}, st, time.Now).memory; len(got.Homes) != 2 {
		t.Errorf("after a restart: %+v", got)
	}
	if got := newDynDNS(DynDNS{Name: "mail.example.net"}, st, time.Now).memory; len(got.Homes) != 0 {
		t.Errorf("another name: %+v", got)
	}
	a := netip.MustParseAddr("10.0.0.0")
	for range 100 {
		a = a.Next()
		d.memory.know(a)
	}
	if n := len(d.memory.Homes); n != homesKept || d.memory.Homes[n-1] != a {
		t.Errorf("%d are kept, the last %s", n, d.memory.Homes[n-1])
	}
	if err := os.WriteFile(st.dynDNSPath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := newDynDNS(DynDNS{Name: "home.example.net"}, st, time.Now).memory; got.Name != "home.example.net" || got.Unsettled {
		t.Errorf("damaged: %+v", got)
	}
}

// TestDynAlarm: the owner is told at once of what only he can mend, otherwise after a while, never while the line is
// down, and once.
func TestDynAlarm(t *testing.T) {
	t.Parallel()
	st := store{t.TempDir()}
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	var told []string
	tell := func(m notify.Message) error { told = append(told, m.Subject); return nil }
	line := true
	d := newDynDNS(DynDNS{Name: "home.example.net", IPv4: true}, st, clock)
	d.log = slog.New(slog.DiscardHandler)
	d.alarms, d.line = newAlarms(st, clock, tell, d.log), func() bool { return line }
	for i, step := range []struct {
		after time.Duration
		state string
		line  bool
		told  int
	}{
		{0, dynFailing, true, 0},
		{14 * time.Minute, dynFailing, true, 0},
		{time.Minute, dynFailing, false, 0},
		{time.Minute, dynFailing, true, 1},
		{time.Hour, dynUpdating, true, 1},
		{time.Minute, dynInSync, true, 1},
		{time.Minute, dynWaiting, true, 1}, // counts from here
		{14 * time.Minute, dynWaiting, true, 1},
		{time.Minute, dynWaiting, true, 2},
		{time.Minute, dynInSync, true, 2},
		{time.Minute, dynForeign, true, 3},
	} {
		now = now.Add(step.after)
		line = step.line
		d.set(func(v *dynView) { v.State = step.state })
		if d.judge(); len(told) != step.told {
			t.Fatalf("step %d: told %q", i, told)
		}
	}
}

// TestCopies: what stood there before is kept, the newest first, each write once and not without end.
func TestCopies(t *testing.T) {
	t.Parallel()
	st := store{t.TempDir()}
	at := func(i int64) failover.Records { return failover.Records{{Addr: dynHome4[0], TTL: i}} }
	for i := range int64(100) {
		for range 2 { // the same write tried again
			if err := st.keepCopy("www.example.net", time.Unix(i, 0), at(i), at(i+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var kept []zoneCopy
	loadJSON(filepath.Join(st.dir, "records-www.example.net.json"), &kept)
	if len(kept) != copies || kept[0].Before[0].TTL != 99 || kept[1].Before[0].TTL != 98 || kept[0].Write[0].TTL != 100 {
		t.Errorf("%d kept: %+v", len(kept), kept[:2])
	}
}

// TestDelays: the last and the slowest publication, over a restart, zone by zone, and of late only.
func TestDelays(t *testing.T) {
	t.Parallel()
	st := store{t.TempDir()}
	d := newDelays(st)
	d.add("example.net", time.Hour)
	d.add("example.org", time.Minute)
	for i := range delaysKept {
		d.add("example.net", time.Duration(delaysKept-i)*time.Second)
	}
	d = newDelays(st)
	if last, slowest := d.last("example.net"), d.slowest("example.net"); last != time.Second || slowest != delaysKept*time.Second {
		t.Errorf("last %s, slowest %s", last, slowest)
	}
	if got := d.slowest("example.org"); got != time.Minute {
		t.Errorf("another zone: %s", got)
	}
	if d.last("example.com") != 0 || d.slowest("example.com") != 0 {
		t.Error("a zone of which nothing is known")
	}
}
