package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// DefaultOutside is Globalping's public API, which is free and wants no account: 250 tests an hour and address, one
// for each point.
const DefaultOutside = "https://api.globalping.io"

// Outside asks others, at points all over the world, whether they reach a target: Globalping's HTTP measurement
// (https://globalping.io/docs/api.globalping.io, version 1). It tells a dead site from a broken path to us.
//
// Everything about the question goes to a third party, which publishes what it finds to whoever knows the
// measurement's name: the target's address, and its URL with path and query.
type Outside struct {
	// Base is the API's address, without /v1.
	Base *url.URL
	// Points is how many points are to ask, each for itself.
	Points int
	// Timeout bounds it all. The points give up by themselves after 10 s.
	Timeout time.Duration
	// Roots are the certificate authorities for Base; nil means the system's.
	Roots *x509.CertPool
}

// OutsideResult is what the points saw.
type OutsideResult struct {
	// State is Up when most of those that could tell reach the target, on one of its addresses at least, Down when
	// most do not, and Unknown otherwise.
	State State
	// Why is a sentence for a human: how many saw what, or what kept us from knowing.
	Why string
	// Asked, Reached and Failed count points, of all addresses. The others could not tell, or not in time.
	Asked, Reached, Failed int
	// After is how long the API wants to be left alone; 0 = nothing was said.
	After time.Duration
}

// errBusy is an answer that asks for patience.
type errBusy struct {
	what  string
	after time.Duration
}

func (e *errBusy) Error() string {
	return fmt.Sprintf("%s; it wants to be left alone for %s", e.what, e.after.Round(time.Second))
}

// Ask asks about one site, given as a target for each of its addresses. What has come by the end of the timeout
// counts. When ctx is cancelled meanwhile the result means nothing. Safe for concurrent use.
func (o Outside) Ask(ctx context.Context, targets []Target) OutsideResult {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.Roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	api := &globalping{base: strings.TrimSuffix(o.Base.String(), "/") + "/v1/measurements", http: &http.Client{
		Transport: transport,
		// It does not redirect. Who else answers here may, and learns nothing.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	results := make([]OutsideResult, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			votes, err := api.measure(ctx, t, o.Points)
			results[i] = votes.judge(err)
		})
	}
	wg.Wait()
	return combine(targets, results)
}

// vote is what one point says of the target.
type vote int

const (
	voteNone    vote = iota // not yet, or it cannot tell: its own fault
	voteReached             // the target answers there as it should
	voteFailed              // it does not
)

// ballot are the votes of the points that were asked.
type ballot struct {
	votes []vote
	whys  []string // of those that failed, one for each
	final bool     // no more will come
}

func (b ballot) count() (reached, failed int) {
	for _, v := range b.votes {
		switch v {
		case voteReached:
			reached++
		case voteFailed:
			failed++
		}
	}
	return reached, failed
}

// decided reports whether nothing that may still come changes the outcome.
func (b ballot) decided() bool {
	reached, failed := b.count()
	return b.final || 2*reached > len(b.votes) || 2*failed > len(b.votes)
}

// judge counts: most of those that could tell decide, if they are most of those that were asked, and more than one.
func (b ballot) judge(err error) OutsideResult {
	reached, failed := b.count()
	r := OutsideResult{State: Unknown, Asked: len(b.votes), Reached: reached, Failed: failed}
	var busy *errBusy
	if errors.As(err, &busy) {
		r.After = busy.after
	}
	told := reached + failed
	switch {
	case told < 2 || 2*told <= len(b.votes):
		r.Why = fmt.Sprintf("%d of %d points could tell in time", told, len(b.votes))
		if err != nil {
			r.Why = err.Error()
		}
		return r
	case 2*failed > told:
		r.State = Down
	case 2*reached > told:
		r.State = Up
	}
	r.Why = fmt.Sprintf("%d of %d points reach it", reached, told)
	if failed > 0 {
		r.Why += " (" + b.whys[0] + ")"
	}
	return r
}

// combine is the result for a site: as long as one of its addresses is reached, it is.
func combine(targets []Target, results []OutsideResult) OutsideResult {
	all := OutsideResult{State: Down}
	var whys []string
	for i, r := range results {
		all.Asked, all.Reached, all.Failed = all.Asked+r.Asked, all.Reached+r.Reached, all.Failed+r.Failed
		all.After = max(all.After, r.After)
		switch {
		case r.State == Up:
			all.State = Up
		case r.State == Unknown && all.State == Down:
			all.State = Unknown
		}
		why := r.Why
		if len(results) > 1 {
			why = targets[i].Address + ": " + why
		}
		whys = append(whys, why)
	}
	if len(results) == 0 {
		all.State = Unknown
		whys = []string{"there is no address to ask about"}
	}
	all.Why = strings.Join(whys, "; ")
	return all
}
