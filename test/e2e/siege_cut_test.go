package e2e_test

import (
	"context"
	"testing"
	"time"

	"releve/test/netlab"
)

// ways are those in which the line between agent and backup breaks: without a word to either end, and with one.
func (s *siege) ways() (silent, told []way) {
	ctx := context.Background()
	quietly := func(f func()) func() error {
		return func() error {
			f()
			return nil
		}
	}
	wan := s.lab.WAN
	silent = []way{
		{"the WAN swallows everything", quietly(wan.Cut), quietly(wan.Mend)},
		{"the WAN swallows requests", quietly(func() { wan.CutOneWay(true) }), quietly(wan.Mend)},
		{"the WAN swallows replies", quietly(func() { wan.CutOneWay(false) }), quietly(wan.Mend)},
		{"the backup's cable is out", func() error { return s.lab.CutLAN(ctx) }, func() error { return s.lab.MendLAN(ctx) }},
	}
	told = []way{
		{"the backup's sshd is gone", s.backup.Kill, func() error { return s.backup.Start(ctx) }},
		{"the bastion's sshd is gone", s.bastion.Kill, func() error { return s.bastion.Start(ctx) }},
	}
	return silent, told
}

type way struct {
	name      string
	cut, mend func() error
}

// TestSiegeCuts: the line breaks at random moments, in handshakes, listings, uploads and renames, for a tenth of a second
// up to longer than a silence is tolerated, while the source goes on changing.
func TestSiegeCuts(t *testing.T) {
	t.Parallel()
	needLab(t)
	const perRound = 10
	longest := 40.0 // seconds; a dead peer is given up after half of that
	cuts := siegeSize("SIEGE_CUTS", 4)
	if cuts < perRound {
		longest = 3 // TestWANCut has the patience
	}
	s := newSiege(t, newPair(t, netlab.Options{RTT: 20 * time.Millisecond}), 250, 4000)
	for left := cuts; left > 0; {
		began := time.Now()
		changed := s.beside(t, -1, 10*time.Millisecond)
		for range min(left, perRound) {
			left--
			ways, told := s.ways()
			if left%2 > 0 {
				ways = told
			}
			w := ways[s.r.IntN(len(ways))]
			length := time.Duration(s.between(0.1, longest) * float64(time.Second))
			s.moment()
			if err := w.cut(); err != nil {
				t.Fatal(err)
			}
			<-time.After(length)
			if err := w.mend(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s for %v", w.name, length.Round(time.Millisecond))
		}
		changed()
		took := s.settles(t, 3*time.Minute)
		t.Logf("%d cuts to go: the round took %v, settled %v after", left, time.Since(began).Round(time.Millisecond), took.Round(time.Millisecond))
		if t.Failed() {
			return
		}
	}
}
