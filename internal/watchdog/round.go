package watchdog

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
)

// round is one look at prod.
type round struct {
	Verdict failover.Verdict
	Partial string
	Results map[netip.Addr]probe.Result
}

// prober looks at prod at a fixed rate.
type prober struct {
	site   Site
	target probe.Target // of the site, with its roots
	uplink *uplink
	age    func() time.Duration // of an answer of the uplink that will do
	failed bool                 // the last round had a failure
}

// run looks every interval until ctx ends, and gives each round to done. A round never outlasts its interval: the
// configuration bounds the timeout by it, and so does look the question to the references.
func (p *prober) run(ctx context.Context, done func(context.Context, round)) error {
	ticks := time.NewTicker(p.site.Probe.Interval)
	defer ticks.Stop()
	for {
		r := p.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		done(ctx, r)
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// look asks every address of prod. Where one fails, the uplink is asked too; in a row of failures at the same time as
// prod, so that the decisive round is not the slowest.
func (p *prober) look(ctx context.Context) round {
	timeout := min(uplinkTimeout, p.site.Probe.Interval)
	var up probe.UplinkResult
	var wg sync.WaitGroup
	if p.failed {
		wg.Go(func() { up = p.uplink.ask(ctx, timeout, p.age()) })
	}
	results := make([]probe.Result, len(p.site.Probe.Prod))
	for i, addr := range p.site.Probe.Prod {
		t := p.target
		t.Address = hostPort(addr, t)
		wg.Go(func() { results[i] = probe.Check(ctx, t) })
	}
	wg.Wait()
	r := round{Results: map[netip.Addr]probe.Result{}}
	var probes []failover.Probe
	failed := false
	for i, addr := range p.site.Probe.Prod {
		r.Results[addr] = results[i]
		probes = append(probes, failover.Probe{Address: addr, OK: results[i].OK, Why: results[i].Detail})
		failed = failed || !results[i].OK
	}
	if failed && !p.failed {
		up = p.uplink.ask(ctx, timeout, 0)
	}
	p.failed = failed
	r.Verdict, r.Partial = failover.Judge(probes, failover.Reach{IPv4: up.IPv4 == probe.Up, IPv6: up.IPv6 == probe.Up})
	return r
}

// hostPort is addr with the port of the target's URL.
func hostPort(addr netip.Addr, t probe.Target) string {
	port := t.URL.Port()
	if port == "" {
		port = strconv.Itoa(map[string]int{"http": 80, "https": 443}[t.URL.Scheme])
	}
	return net.JoinHostPort(addr.String(), port)
}
