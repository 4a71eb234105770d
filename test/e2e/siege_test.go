package e2e_test

import (
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"releve/test/netlab"
)

// siege is a pair under fire: a source that changes all the time, a reader that watches the replica, and a seed from
// which it follows what happens. How it interleaves does not follow: that is the machine's.
//
// Each siege has a short version for every test run, and one as long as its variable says (`make siege`):
// SIEGE_KILLS, SIEGE_CUTS, SIEGE_FILLS. SIEGE_SEED=S repeats one.
type siege struct {
	*pair
	tree *sourceTree
	r    *rand.Rand
}

// siegeSize is how often something happens: the variable's number, or the short version's.
func siegeSize(variable string, short int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return short
}

// newSiege builds a siege whose first sync is done.
func newSiege(t *testing.T, p *pair, dirs, files int, extra ...string) *siege {
	t.Helper()
	seed := uint64(time.Now().UnixNano() % 1e9)
	if given, err := strconv.ParseUint(os.Getenv("SIEGE_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("SIEGE_SEED=%d", seed)
	// Random changes delete as nobody does, and the guard is another test's.
	write(t, p.path("syncagent.toml"), p.configuration(append(extra, "max_delete = 1000000")...), 0o644)
	s := &siege{pair: p, tree: newTree(p.source, seed), r: rand.New(rand.NewPCG(seed, 99))}
	if err := s.tree.grow(dirs, files); err != nil {
		t.Fatal(err)
	}
	s.readWhile(t)
	s.start(t)
	s.inSync(t, 2*time.Minute)
	s.settles(t, 0)
	return s
}

// settles wants everything to have ended well within the given time: the agent says so, both sides are identical, and
// nothing of ours lies about.
func (s *siege) settles(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	if within > 0 {
		s.inSync(t, within)
	}
	s.identical(t, 30*time.Second)
	s.noLitter(t)
	return time.Since(began)
}

// change makes n changes as fast as it can.
func (s *siege) change(t *testing.T, n int) {
	t.Helper()
	for range n {
		if err := s.tree.change(); err != nil {
			t.Fatal(err)
		}
	}
}

// beside makes changes beside the test: n of them, or for as long as the test has not called done, one each pause. done
// returns when no more come.
func (s *siege) beside(t *testing.T, n int, pause time.Duration) (done func()) {
	t.Helper()
	end, enough := make(chan error, 1), make(chan struct{})
	go func() {
		for ; n != 0; n-- {
			if err := s.tree.change(); err != nil {
				end <- err
				return
			}
			if pause == 0 {
				continue
			}
			select {
			case <-time.After(pause):
			case <-enough:
				n = 1
			}
		}
		end <- nil
	}()
	return func() {
		t.Helper()
		close(enough)
		if err := <-end; err != nil {
			t.Fatal(err)
		}
	}
}

// between draws a length whose magnitude is as likely to be one as another.
func (s *siege) between(low, high float64) float64 {
	return math.Exp(math.Log(low) + s.r.Float64()*math.Log(high/low))
}

// moment waits for a random one: until so many bytes have gone over the WAN. Half of them lie in a handshake or a listing,
// whatever their length, the others in an upload, the renames after it, or later still. Where nothing moves, it comes after
// a while by itself.
func (s *siege) moment() {
	const patience = 5 * time.Second
	bytes := int64(s.between(300, 1e6))
	if s.r.IntN(2) > 0 {
		bytes = 500_000 + s.r.Int64N(6_000_000)
	}
	if s.lab == nil {
		<-time.After(time.Duration(s.r.Float64() * float64(patience)))
		return
	}
	carried := func() int64 {
		up, down := s.lab.WAN.Bytes()
		return up + down
	}
	until := carried() + bytes
	late := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for carried() < until {
		select {
		case <-tick.C:
		case <-late:
			return
		}
	}
}

// TestSiegeKills: kill -9 of the agent at random moments of a burst of 5,000 changes, and of the catching up with it.
func TestSiegeKills(t *testing.T) {
	t.Parallel()
	const burst, perBurst = 5000, 10
	kills := siegeSize("SIEGE_KILLS", 6)
	s := newSiege(t, newPair(t, netlab.Options{RTT: 10 * time.Millisecond}), 250, 5000)
	midway, lost, known := 0, 0, map[string]bool{}
	for left := kills; left > 0; {
		began := time.Now()
		written := s.beside(t, burst, 0)
		for range min(left, perBurst) {
			left--
			s.moment()
			s.killAgent(t)
			files, processes := s.onTheWay(known)
			maps.Copy(known, processes)
			if files > 0 {
				midway++
				lost += files
			}
			s.start(t)
		}
		written()
		took := s.settles(t, 2*time.Minute)
		t.Logf("%d kills to go: burst and kills took %v, settled %v after", left, time.Since(began).Round(time.Millisecond), took.Round(time.Millisecond))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, of which %d hit files on their way, %d in all", kills, midway, lost)
}
