package probe

import (
	"context"
	"errors"
	"sync"
	"time"
)

// State is what the references say of one address family.
type State string

// The states of a family.
const (
	Up      State = "up"      // a majority of those asked answered
	Down    State = "down"    // it did not
	Unknown State = "unknown" // no reference could be asked over this family
)

// UplinkResult says whether our own uplink works, per address family and altogether.
type UplinkResult struct {
	// OK is true when IPv4 or IPv6 is Up. A verdict over one family needs that family's own state: where ours
	// is not Up, nothing was learnt about the site over it.
	OK         bool
	IPv4, IPv6 State
	// Answered and Asked count questions of both families; a reference given by name is asked over each.
	Answered, Asked int
	// Details holds one entry per question, in the order of the references, IPv4 first.
	Details []ReferenceResult
}

// ReferenceResult is the answer to one question.
type ReferenceResult struct {
	Reference string
	IPv6      bool
	OK        bool
	Skipped   bool // the name has no address of this family; not counted
	Took      time.Duration
	Detail    string // why not, when not OK
}

// Uplink asks all references at once, over every family they can be asked over, and returns when all have answered
// or timeout (2 s when zero) has passed. When ctx is cancelled meanwhile the result means nothing.
func Uplink(ctx context.Context, refs []Reference, timeout time.Duration) UplinkResult {
	if timeout <= 0 {
		timeout = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var details []ReferenceResult
	var asked []Reference
	for _, ref := range refs {
		for _, v6 := range []bool{false, true} {
			if ref.over(v6) {
				details = append(details, ReferenceResult{Reference: ref.String(), IPv6: v6})
				asked = append(asked, ref)
			}
		}
	}
	var wg sync.WaitGroup
	for i := range details {
		wg.Go(func() {
			d, begin := &details[i], time.Now()
			err := asked[i].ask(ctx, d.IPv6, timeout)
			d.Took = time.Since(begin)
			d.OK, d.Skipped = err == nil, errors.Is(err, errNoAddress)
			if err != nil {
				d.Detail = err.Error()
			}
		})
	}
	wg.Wait()
	return judge(details)
}

// judge counts the answers: pure.
func judge(details []ReferenceResult) UplinkResult {
	var asked, answered [2]int
	for _, d := range details {
		if d.Skipped {
			continue
		}
		family := 0
		if d.IPv6 {
			family = 1
		}
		asked[family]++
		if d.OK {
			answered[family]++
		}
	}
	r := UplinkResult{
		IPv4:     majority(answered[0], asked[0]),
		IPv6:     majority(answered[1], asked[1]),
		Answered: answered[0] + answered[1],
		Asked:    asked[0] + asked[1],
		Details:  details,
	}
	r.OK = r.IPv4 == Up || r.IPv6 == Up
	return r
}

func majority(answered, asked int) State {
	switch {
	case asked == 0:
		return Unknown
	case 2*answered > asked:
		return Up
	default:
		return Down
	}
}
