package watchdog

import (
	"fmt"
	"strings"
	"time"

	"releve/internal/failover"
)

// The parts of a fail-over that no configuration decides.
const (
	apiBudget      = 15 * time.Second  // the calls to OVH, with one of them repeated
	publishTypical = 110 * time.Second // from an accepted refresh to OVH's name servers, until measured
	publishWorst   = 210 * time.Second
	promise        = 5 * time.Minute // what the owner asked for
)

// budget is how long, from prod's death, the world may be without the site.
type budget struct {
	Site      Site
	Detection time.Duration
	Decision  time.Duration
	API       time.Duration
	Publish   time.Duration // the slowest measured of late, or else what OVH usually takes
	Measured  bool
	TTL       time.Duration
}

// computeBudget is the budget of a site. ttl is the longest that a resolver may keep prod's records; measured is how
// long a publication took, or 0.
func computeBudget(s Site, ttl, measured time.Duration) budget {
	p := s.Probe
	b := budget{
		Site: s,
		// Prod dies right after a round, and the last round takes as long as it may.
		Detection: time.Duration(p.Failures)*p.Interval + p.Target.Timeout,
		// The references and the standby are asked beside the rounds; only a single round is not asked about in advance.
		Decision: uplinkTimeout,
		API:      apiBudget,
		Publish:  publishTypical,
		TTL:      ttl,
	}
	if s.Opinion.Mode != failover.OutsideOff {
		// Others are waited for beside the detection, and rarely longer: the first failure is seen a round after prod died.
		b.Decision = max(b.Decision, p.Interval+p.Target.Timeout+outsideWait(s)-b.Detection)
	}
	if measured > 0 {
		b.Publish, b.Measured = measured, true
	}
	return b
}

// ours is the part up to an accepted refresh, which is ours to keep.
func (b budget) ours() time.Duration { return b.Detection + b.Decision + b.API }

func (b budget) total() time.Duration { return b.ours() + b.Publish + b.TTL }

// worst is the total when OVH is as slow as it was ever seen to be.
func (b budget) worst() time.Duration { return b.ours() + max(b.Publish, publishWorst) + b.TTL }

func (b budget) String() string {
	publish := "usual with OVH"
	if b.Measured {
		publish = "as measured"
	}
	return fmt.Sprintf("%s: detection %s + decision %s + API %s + publication %s (%s) + TTL %s; %s at OVH's slowest",
		short(b.total()), short(b.Detection), short(b.Decision), short(b.API), short(b.Publish), publish, short(b.TTL), short(b.worst()))
}

// advice is what would bring the total under the promise; "" if it is.
func (b budget) advice() string {
	if b.total() <= promise {
		return ""
	}
	var out []string
	own := time.Duration(b.Site.TTL) * time.Second
	switch {
	case own > 0 && b.TTL > own:
		out = append(out, fmt.Sprintf("resolvers may keep prod's records for %s: watchdog prepare %s makes that %s", short(b.TTL), b.Site.Name, short(own)))
	case b.TTL > time.Minute:
		out = append(out, fmt.Sprintf("resolvers may keep prod's records for %s: set ttl = 60, and then watchdog prepare %s", short(b.TTL), b.Site.Name))
	}
	if b.Detection > 30*time.Second {
		out = append(out, "lower probe.interval or probe.failures")
	}
	if len(out) == 0 {
		out = append(out, "OVH is slow to publish, which is not in our hands")
	}
	return strings.Join(out, "; ")
}

// short is d to the second, as one says it.
func short(d time.Duration) string {
	if d < 10*time.Second {
		d = d.Round(100 * time.Millisecond)
	} else {
		d = d.Round(time.Second)
	}
	switch s := d.String(); {
	case d >= time.Hour && strings.HasSuffix(s, "h0m0s"):
		return strings.TrimSuffix(s, "0m0s")
	case d >= time.Minute && strings.HasSuffix(s, "m0s"):
		return strings.TrimSuffix(s, "0s")
	default:
		return s
	}
}

// longestTTL is how long a resolver may keep these records.
func longestTTL(records failover.Records, zoneTTL int64) time.Duration {
	var longest int64
	for _, r := range records {
		ttl := r.TTL
		if ttl == 0 {
			ttl = zoneTTL
			if ttl == 0 {
				ttl = 3600 // what OVH gives a zone
			}
		}
		longest = max(longest, ttl)
	}
	return time.Duration(longest) * time.Second
}
