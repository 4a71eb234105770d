package ovhdns

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const zoneTTL = 3600

// Few addresses and TTLs, so that sets overlap, repeat and differ in one thing.
var (
	anyRecord = rapid.Custom(func(t *rapid.T) Record {
		n := rapid.IntRange(1, 3).Draw(t, "address")
		ttl := rapid.SampledFrom([]int64{0, 60, 300, zoneTTL}).Draw(t, "ttl")
		if rapid.Bool().Draw(t, "v6") {
			return Record{Type: "AAAA", Target: fmt.Sprintf("2001:db8::%d", n), TTL: ttl}
		}
		return Record{Type: "A", Target: fmt.Sprintf("192.0.2.%d", n), TTL: ttl}
	})
	anyHave = rapid.Custom(func(t *rapid.T) []found {
		have := []found{}
		for i, r := range rapid.SliceOfN(anyRecord, 0, 6).Draw(t, "have") {
			if rapid.IntRange(0, 3).Draw(t, "dynHost") == 0 {
				r.DynHost, r.TTL = true, dynHostTTL
			}
			have = append(have, found{id: int64(i + 1), Record: r})
		}
		return have
	})
)

// apply does to have what OVH does at one write; it fails on what OVH refuses.
func apply(t *rapid.T, have []found, o op) []found {
	at := slices.IndexFunc(have, func(f found) bool { return f.id == o.id && f.DynHost == o.DynHost })
	have = slices.Clone(have)
	switch o.verb {
	case post:
		if o.DynHost {
			t.Fatalf("%s: adds to the DynHost collection", o)
		}
		return append(have, found{id: int64(100 + len(have)), Record: o.Record})
	case put:
		if at < 0 || have[at].Type != o.Type || o.DynHost && o.TTL != dynHostTTL {
			t.Fatalf("%s on %v", o, have)
		}
		have[at].Record = o.Record
		return have
	default:
		if at < 0 {
			t.Fatalf("%s on %v", o, have)
		}
		return slices.Delete(have, at, at+1)
	}
}

// plain is the set as it is served: no default TTLs, no collections.
func plain(s Set) Set {
	var p Set
	for _, r := range s {
		r = r.canonical(r.TTL)
		if r.TTL == 0 {
			r.TTL = zoneTTL
		}
		p = append(p, r)
	}
	return p
}

func count(have []found, family string) (n int) {
	for _, f := range have {
		if f.Type == family {
			n++
		}
	}
	return n
}

func TestDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := anyHave.Draw(t, "have")
		want, err := Set(rapid.SliceOfN(anyRecord, 1, 6).Draw(t, "want")).writable()
		if err != nil {
			t.Fatal(err)
		}
		ops := diff(have, want, zoneTTL)
		now := have
		for i, o := range ops {
			now = apply(t, now, o)
			for _, family := range []string{"A", "AAAA"} {
				wanted := slices.ContainsFunc(want, func(r Record) bool { return r.Type == family })
				if wanted && count(have, family) > 0 && count(now, family) == 0 {
					t.Fatalf("no %s left after op %d of %v", family, i+1, ops)
				}
			}
		}
		if !plain(set(now)).Equal(plain(want)) || len(now) != len(want) {
			t.Fatalf("ops %v make %v of %v, want %v", ops, set(now), set(have), want)
		}
		if again := diff(now, want, zoneTTL); len(again) > 0 {
			t.Fatalf("not done after %v: %v", ops, again)
		}
		if most := len(have) + len(want); len(ops) > most {
			t.Fatalf("%d ops: %v", len(ops), ops)
		}
		// Without DynHost each family costs one write for each record that
		// has to come, go or change.
		if !slices.ContainsFunc(have, func(f found) bool { return f.DynHost }) {
			least := 0
			for _, family := range []string{"A", "AAAA"} {
				kept := 0
				for _, w := range want {
					if w.Type == family && slices.ContainsFunc(have, func(f found) bool { return plain(Set{f.Record}).Equal(plain(Set{w})) }) {
						kept++
					}
				}
				wanted := 0
				for _, w := range want {
					if w.Type == family {
						wanted++
					}
				}
				least += max(count(have, family), wanted) - kept
			}
			if len(ops) != least {
				t.Fatalf("%d ops where %d do: %v", len(ops), least, ops)
			}
		}
	})
}

func TestDiffLeavesWhatIsRight(t *testing.T) {
	have := []found{
		{1, Record{Type: "A", Target: "192.0.2.1", TTL: 0}},
		{2, Record{Type: "AAAA", Target: "2001:DB8:0::1", TTL: 60, DynHost: true}},
	}
	want := Set{{Type: "A", Target: "192.0.2.1", TTL: zoneTTL}, {Type: "AAAA", Target: "2001:db8::1", TTL: 60}}
	if ops := diff(have, want, zoneTTL); len(ops) != 0 {
		t.Errorf("%v", ops)
	}
}

func TestSplit(t *testing.T) {
	for _, tc := range []struct {
		zone, name, sub string
		ok              bool
	}{
		{"example.net", "example.net", "", true},
		{"Example.NET.", "WWW.example.net.", "www", true},
		{"example.net", "a.b.example.net", "a.b", true},
		{"example.net", "*.example.net", "*", true},
		{"example.net", "notexample.net", "", false},
		{"example.net", ".example.net", "", false},
		{"example.net", "example.org", "", false},
		{"", "www", "", false},
		{"example.net/record", "example.net/record", "", false},
		{"example.net", "w?x.example.net", "", false},
	} {
		_, sub, err := split(tc.zone, tc.name)
		if (err == nil) != tc.ok || sub != tc.sub {
			t.Errorf("split(%q, %q) = %q, %v", tc.zone, tc.name, sub, err)
		}
	}
}

func TestMatchRule(t *testing.T) {
	for _, tc := range []struct {
		rule, path string
		want       bool
	}{
		{"/*", "/domain/zone/example.net", true},
		{"/domain/zone/example.net/*", "/domain/zone/example.net", false},
		{"/domain/zone/*/refresh", "/domain/zone/example.net/refresh", true},
		{"/domain/zone/*/refresh", "/domain/zone/example.net/record", false},
		{"/domain/zone/example.net/record/*", "/domain/zone/example.net/record/1", true},
		{"/domain/zone/example.net/record/2", "/domain/zone/example.net/record/1", false},
		{"/domain/zone/*", "/domain/zone/example.net/record/1", true},
		{"*", "/anything", true},
		{"", "/anything", false},
	} {
		if got := matchRule(tc.rule, tc.path); got != tc.want {
			t.Errorf("matchRule(%q, %q) = %v", tc.rule, tc.path, got)
		}
	}
}
