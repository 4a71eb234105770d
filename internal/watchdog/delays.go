package watchdog

import (
	"slices"
	"sync"
	"time"
)

// delaysKept is how many publications of a zone are remembered.
const delaysKept = 10

// delays remembers how long the name servers of each zone took to serve what OVH had accepted. Any write of ours is
// good to measure that, so that it may be known before the first switch. Safe for concurrent use.
type delays struct {
	store store

	mu    sync.Mutex
	zones map[string][]float64 // in seconds, the newest first
}

func newDelays(st store) *delays {
	d := &delays{store: st}
	loadJSON(st.delaysPath(), &d.zones)
	if d.zones == nil {
		d.zones = map[string][]float64{}
	}
	return d
}

// add remembers one publication. That it may not be on disk is no harm.
func (d *delays) add(zone string, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Insert(d.zones[zone], 0, max(took.Seconds(), 0.001))
	d.zones[zone] = all[:min(len(all), delaysKept)]
	_ = saveJSON(d.store.delaysPath(), d.zones)
}

// last is how long the last publication took, and slowest the slowest of those remembered; 0 without any.
func (d *delays) last(zone string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if all := d.zones[zone]; len(all) > 0 {
		return seconds(all[0])
	}
	return 0
}

func (d *delays) slowest(zone string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if all := d.zones[zone]; len(all) > 0 {
		return seconds(slices.Max(all))
	}
	return 0
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
