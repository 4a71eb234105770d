package watchdog_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"releve/test/sites"
)

// TestDetect measures in real time how long it takes from prod's death to a refresh that OVH has accepted (W3): with the
// default settings, and with quick ones. Prod dies at a random moment of its interval; every other time it falls
// silent, which takes longer to tell than a refusal. DETECT_RUNS is how many watchdogs are watching at once, each in a
// world of its own; without it, one with the quick settings does.
func TestDetect(t *testing.T) {
	runs, _ := strconv.Atoi(os.Getenv("DETECT_RUNS"))
	for _, c := range []struct {
		name     string
		config   map[string]string
		interval time.Duration
		most     time.Duration
	}{
		{"default settings", map[string]string{"interval": "", "timeout": "", "failures": "", "successes": ""}, 5 * time.Second, 45 * time.Second},
		{"interval 1s, failures 3", map[string]string{"interval": `"1s"`, "timeout": "", "failures": "3", "successes": ""}, time.Second, 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := runs
			switch {
			case runs == 0 && c.interval > time.Second:
				t.Skip("it takes a minute; make detect plays it")
			case runs == 0:
				n = 2
			}
			took := detect(t, n, c.config, c.interval)
			slices.Sort(took)
			t.Logf("%d runs: least %v, median %v, most %v, promised %v; all: %v", n, took[0], took[n/2], took[n-1], c.most, took)
			if took[n-1] > c.most {
				t.Errorf("%v is more than %v", took[n-1], c.most)
			}
		})
	}
}

// detect plays n deaths at once, and returns how long each took to be answered.
func detect(t *testing.T, n int, config map[string]string, interval time.Duration) []time.Duration {
	worlds := make([]*world, n)
	for i := range worlds {
		worlds[i] = newWorld(t)
		for k, v := range config {
			worlds[i].set(k, v)
		}
		worlds[i].start()
	}
	for _, w := range worlds {
		w.ready()
	}
	type death struct {
		world int
		at    time.Time
	}
	deaths := make(chan death, n)
	for i, w := range worlds {
		time.AfterFunc(rand.N(interval), func() { //nolint:gosec // no secret
			at := time.Now()
			if i%2 == 0 {
				w.prod.Stop()
			} else {
				w.prod.SetFault(sites.Hang)
			}
			deaths <- death{i, at}
		})
	}
	var took []time.Duration
	for range n {
		d := <-deaths
		st := worlds[d.world].until("an accepted switch", func(st status) bool {
			l := st.Sites[0].LastSwitch
			return l != nil && l.To == "standby" && l.Accepted != nil
		})
		took = append(took, st.Sites[0].LastSwitch.Accepted.Sub(d.at).Round(10*time.Millisecond))
	}
	return took
}
