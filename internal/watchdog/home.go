package watchdog

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"releve/internal/publicip"
)

// knownAddress is what is known of our public address of one family.
type knownAddress struct {
	Address netip.Addr `json:"address"` // the last agreed; not valid if there never was one
	Time    time.Time  `json:"time"`    // when it was last agreed
	Agreed  bool       `json:"-"`       // in the last round
	Why     string     `json:"-"`       // of the last round
}

// homeView is a moment of [home].
type homeView struct {
	IPv4 knownAddress `json:"ipv4"`
	IPv6 knownAddress `json:"ipv6"`
}

// addrs are the addresses to publish.
func (v homeView) addrs() []netip.Addr {
	var out []netip.Addr
	for _, k := range []knownAddress{v.IPv4, v.IPv6} {
		if k.Address.IsValid() {
			out = append(out, k.Address)
		}
	}
	return out
}

// same reports whether both lead to the same addresses, and know them equally well.
func (v homeView) same(o homeView) bool {
	return v.IPv4.Address == o.IPv4.Address && v.IPv6.Address == o.IPv6.Address && v.IPv4.Agreed == o.IPv4.Agreed && v.IPv6.Agreed == o.IPv6.Agreed
}

// home follows our public addresses. An address that is not agreed on any more is still the best there is.
type home struct {
	cfg      Home
	store    store
	now      func() time.Time
	interval func() time.Duration // until the next round
	changed  func(ctx context.Context, before, after homeView)

	hurry chan struct{} // a round is wanted now

	mu    sync.Mutex
	view  homeView
	moved map[publicip.Family]int // how often each address became another one
}

func newHome(cfg Home, st store, now func() time.Time) *home {
	h := &home{cfg: cfg, store: st, now: now, hurry: make(chan struct{}, 1), moved: map[publicip.Family]int{}}
	var old homeView
	loadJSON(st.homePath(), &old)
	h.view.IPv4 = start(cfg.IPv4, old.IPv4, now())
	h.view.IPv6 = start(cfg.IPv6, old.IPv6, now())
	return h
}

func start(cfg HomeAddress, old knownAddress, now time.Time) knownAddress {
	switch {
	case cfg.Off():
		return knownAddress{Why: "off"}
	case cfg.Auto():
		old.Why = "not asked yet"
		return old
	}
	return knownAddress{Address: cfg.Fixed, Time: now, Agreed: true, Why: "given in the configuration"}
}

func (h *home) get() homeView {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view
}

// changes is how often the address of a family became another one since the start.
func (h *home) changes(f publicip.Family) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moved[f]
}

// run asks for as long as ctx lasts.
func (h *home) run(ctx context.Context) error {
	if !h.cfg.IPv4.Auto() && !h.cfg.IPv6.Auto() {
		<-ctx.Done()
		return nil
	}
	for {
		h.round(ctx)
		if !wait(ctx, h.interval(), h.hurry) {
			return nil
		}
	}
}

// ask wants a round at once.
func (h *home) ask() {
	select {
	case h.hurry <- struct{}{}:
	default:
	}
}

func (h *home) round(ctx context.Context) {
	before := h.get()
	after := before
	var wg sync.WaitGroup
	wg.Go(func() { after.IPv4 = h.discover(ctx, publicip.IPv4, h.cfg.IPv4, before.IPv4) })
	wg.Go(func() { after.IPv6 = h.discover(ctx, publicip.IPv6, h.cfg.IPv6, before.IPv6) })
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	h.view = after
	for f, a := range map[publicip.Family][2]netip.Addr{
		publicip.IPv4: {before.IPv4.Address, after.IPv4.Address}, publicip.IPv6: {before.IPv6.Address, after.IPv6.Address},
	} {
		if a[0].IsValid() && a[0] != a[1] {
			h.moved[f]++
		}
	}
	h.mu.Unlock()
	h.changed(ctx, before, after)
}

func (h *home) discover(ctx context.Context, f publicip.Family, cfg HomeAddress, old knownAddress) knownAddress {
	if !cfg.Auto() {
		return old
	}
	known := findOut(ctx, f, cfg)
	if !known.Agreed {
		old.Agreed, old.Why = false, known.Why
		return old
	}
	known.Time = h.now()
	return known
}

// findOut asks the sources once.
func findOut(ctx context.Context, f publicip.Family, cfg HomeAddress) knownAddress {
	r := publicip.Discover(ctx, f, cfg.Sources)
	if !r.Agreed {
		return knownAddress{Why: r.Why}
	}
	known := knownAddress{Address: r.Address, Agreed: true, Why: r.Why}
	if f == publicip.IPv6 {
		own, err := lasting(cfg, r.Address)
		if err != nil {
			return knownAddress{Why: err.Error()}
		}
		known.Address = own
	}
	return known
}

// lasting is the IPv6 address to lead visitors to, in the network of seen: what is seen is mostly a temporary address
// (RFC 8981) of this machine. Without a word of the owner it is this machine's own lasting one or, where it has none,
// the one seen.
func lasting(cfg HomeAddress, seen netip.Addr) (netip.Addr, error) {
	if cfg.Suffix.IsValid() {
		return publicip.WithSuffix(seen, cfg.Suffix)
	}
	own, err := publicip.InterfaceIPv6(seen, cfg.Interface)
	if err != nil && cfg.Interface == "" {
		return seen, nil
	}
	return own, err
}

// wait waits for d, or less if hurried; false means that ctx has ended.
func wait(ctx context.Context, d time.Duration, hurry <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-hurry:
	}
	return ctx.Err() == nil
}
