package watchdog

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"releve/internal/daemon"
	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/ovhdns"
	"releve/internal/probe"
	"releve/internal/report"
)

// The rhythms that follow the probes': with the default interval of 5 s, 30 s.
const (
	paceRounds = 6
	maxPace    = 30 * time.Second // "a new address is in the zone within 60 s" leaves no more
	minPace    = 300 * time.Millisecond

	standbyGrace = 2 * time.Minute // a standby may restart without waking the owner
	silence      = 2 * time.Minute // after which old failures count no more
)

// watchdog is the running daemon.
type watchdog struct {
	cfg     *Config
	env     daemon.Env
	log     *slog.Logger
	now     func() time.Time
	store   store
	home    *home
	uplink  *uplink
	alarms  *alarms
	outbox  *notify.Outbox
	deadman *notify.Deadman
	sites   []*site
	word    *word
	delays  *delays
	calls   *apiCalls
	dyndns  *dyndns // nil = none
	hooks   *hooks
	begun   time.Time
}

// now is the wall clock: what is compared with it may come from a file.
func now() time.Time { return time.Now().UTC().Round(0) }

// serve is `watchdog run`.
func serve(ctx context.Context, env daemon.Env, cfg *Config) error {
	log := slog.New(slog.NewTextHandler(env.Stderr, nil))
	st := store{cfg.StateDir}
	if err := st.prepare(); err != nil {
		return err
	}
	unlock, err := st.lock()
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	w, err := assemble(env, cfg, log, st)
	if err != nil {
		return err
	}
	defer w.close()
	server := w.server()
	if err := server.Bind(); err != nil {
		return err
	}
	log.Info("watchdog started", "version", versionText(), "sites", len(w.sites), "state_dir", cfg.StateDir)
	tasks := []daemon.Task{
		{Name: "status", Run: server.Run},
		{Name: "notify", Run: w.outbox.Run},
		{Name: "reminders", Run: w.remind},
		{Name: "dead-man's switch", Run: w.deadman.Run},
		{Name: "home address", Run: w.home.run},
		{Name: "uplink", Run: w.uplink.run},
		{Name: "word", Run: w.leaveWord},
		{Name: "hooks", Run: w.hooks.run},
		{Name: "service manager", Run: w.reportAlive},
	}
	for _, s := range w.sites {
		tasks = append(tasks, s.tasks()...)
	}
	if w.dyndns != nil {
		tasks = append(tasks, daemon.Task{Name: "dyndns", Run: w.dyndns.run})
	}
	err = daemon.Run(ctx, tasks...)
	_ = daemon.Stopping(env.Getenv)
	log.Info("watchdog ended", "cause", context.Cause(ctx))
	return err
}

// assemble builds the daemon from its configuration. Nothing runs yet.
func assemble(env daemon.Env, cfg *Config, log *slog.Logger, st store) (*watchdog, error) {
	w := &watchdog{cfg: cfg, env: env, log: log, now: now, store: st, begun: now()}
	channels, err := notify.Channels("watchdog", cfg.Notify)
	if err != nil {
		return nil, err
	}
	if w.outbox, err = notify.OpenOutbox(st.outbox(), channels); err != nil {
		return nil, err
	}
	w.alarms = newAlarms(st, w.now, w.outbox.Post, log)
	w.delays, w.calls = newDelays(st), &apiCalls{}
	w.deadman = notify.NewDeadman(cfg.Deadman)
	w.home = newHome(cfg.Home, st, w.now)
	w.home.interval = w.homeInterval
	w.home.changed = w.homeChanged
	w.uplink = &uplink{refs: cfg.Uplink, now: w.now, interval: 2 * maxPace, back: w.uplinkBack}
	w.word = newWord(cfg.Replica.Control, cfg.Sites, log, w.now)
	w.hooks = newHooks(cfg.Replica, st, hookPace, w.now, w.alarms, log)
	reader, err := newZone(cfg.OVH, w.calls.made)
	if err != nil {
		return nil, err
	}
	for _, sc := range cfg.Sites {
		s, err := w.newSite(sc, reader)
		if err != nil {
			return nil, err
		}
		w.sites = append(w.sites, s)
	}
	if cfg.DynDNS == nil {
		w.alarms.clear(alarmDynDNS) // it may have been told before the table was taken out
	} else if err := w.newDynDNS(*cfg.DynDNS); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *watchdog) remind(ctx context.Context) error { return w.outbox.Remind(ctx, w.alarms.Lasting) }

// newDynDNS remembers what it can of the name of [dyndns].
func (w *watchdog) newDynDNS(cfg DynDNS) error {
	writer, err := newZone(w.cfg.OVH, w.calls.made)
	if err != nil {
		return err
	}
	d := newDynDNS(cfg, w.store, w.now)
	d.log, d.home, d.zone, d.alarms, d.delays = w.log.With("name", cfg.Name), w.home.get, writer, w.alarms, w.delays
	d.pace = 10 * w.shortestPace() // as the zone is read for the sites
	d.line = func() bool {
		up, at := w.uplink.state()
		return up.OK || at.IsZero()
	}
	w.dyndns = d
	return nil
}

func (w *watchdog) close() {
	if w.dyndns != nil {
		w.dyndns.zone.Close()
	}
	for _, s := range w.sites {
		s.reader.Close()
		s.zone.Close()
	}
}

func newZone(cfg OVH, observe func(method, result string)) (*ovhdns.Client, error) {
	roots, err := rootsWith(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	return ovhdns.New(ovhdns.Config{
		Endpoint: cfg.Endpoint, ApplicationKey: cfg.ApplicationKey.Reveal(),
		ApplicationSecret: cfg.ApplicationSecret.Reveal(), ConsumerKey: cfg.ConsumerKey.Reveal(), Roots: roots, Observe: observe,
	})
}

// rootsWith are the system's certificate authorities and those of a file; nil, which means the system's, without one.
func rootsWith(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	return probe.SystemRootsPlus(pem)
}

func pace(interval time.Duration) time.Duration {
	return max(min(paceRounds*interval, maxPace), minPace)
}

func policyOf(c Site) failover.Policy {
	return failover.Policy{
		Failures: c.Probe.Failures, Successes: c.Probe.Successes, Strikes: c.Probe.Strikes, Forgive: c.Probe.Forgive, Prod: c.Probe.Prod, TTL: c.TTL,
		Auto: c.Failback.Auto, Stay: c.Failback.Stay, MaxPerDay: c.MaxSwitchesPerDay,
		Fresh: 2*c.Probe.Interval + c.Probe.Target.Timeout, Gap: max(silence, 5*c.Probe.Interval),
		Outside: c.Opinion.Mode, OutsideWait: outsideWait(c),
		StandbyGrace: min(standbyGrace, 24*c.Probe.Interval),
	}
}

// newSite remembers what it can of a site. The reader is shared; each site writes through a client of its own, so that
// one that hangs keeps no other waiting.
func (w *watchdog) newSite(c Site, reader zone) (*site, error) {
	writer, err := newZone(w.cfg.OVH, w.calls.made)
	if err != nil {
		return nil, err
	}
	s := &site{
		cfg: c, policy: policyOf(c), target: c.Probe.Target, pace: pace(c.Probe.Interval), endpoint: w.cfg.OVH.Endpoint,
		log: w.log.With("site", c.Name), now: w.now, store: w.store, home: w.home, uplink: w.uplink,
		reader: reader, zone: writer, tell: w.outbox.Post, alarms: w.alarms, delays: w.delays, deadman: w.deadman, metrics: newSiteMetrics(),
		inbox: make(chan func(*failover.Observation)), orders: make(chan order, 1),
		asked: make(chan struct{}, 1), askOthers: make(chan struct{}, 1), reread: make(chan struct{}, 1),
		control: w.cfg.Replica.Control, word: w.word.news, returns: unasked(c),
	}
	if s.target.Roots, err = rootsWith(c.Probe.CAFile); err != nil {
		return nil, fmt.Errorf("site %s: %w", c.Name, err)
	}
	known := false
	if s.state, known, s.damage, err = w.store.loadSite(c.Name, w.now()); err != nil {
		return nil, err
	}
	if s.damage != "" {
		s.log.Error("state was damaged; going by what the zone holds", "damage", s.damage)
		if err := s.tell(s.damageMessage(w.now())); err != nil {
			s.log.Error("message is not on disk", "event", EventStateLost, "error", err)
		}
	}
	w.deadman.Watch(c.Name, s.policy.Fresh)
	if known {
		s.log.Info("state remembered", "state", string(s.state.Phase), "serving", string(s.state.Serving), "term", s.state.Term)
	}
	s.publish()
	return s, nil
}

func (s *site) tasks() []daemon.Task {
	task := func(name string, run func(context.Context) error) daemon.Task {
		return daemon.Task{Name: s.cfg.Name + ": " + name, Run: run}
	}
	return []daemon.Task{
		task("decide", s.loop), task("probe", s.rounds), task("standby", s.watchStandby),
		task("zone", s.readZone), task("write", s.write), task("credential", s.watchCredential),
		task("opinion", s.watchOutside),
	}
}

// homeInterval is how long our address may go unasked: seldom while all is well, often while it stands in a zone.
func (w *watchdog) homeInterval() time.Duration {
	shortest := w.shortestPace()
	busy := !w.home.get().IPv4.Agreed && w.cfg.Home.IPv4.Auto()
	for _, s := range w.sites {
		busy = busy || s.busy()
	}
	switch {
	case busy:
		return shortest
	case w.dyndns != nil:
		return 4 * shortest // it stands in a zone always; two minutes with the default interval
	}
	return 10 * shortest
}

func (w *watchdog) shortestPace() time.Duration {
	shortest := maxPace
	for _, s := range w.sites {
		shortest = min(shortest, s.pace)
	}
	return shortest
}

func (w *watchdog) homeChanged(ctx context.Context, before, after homeView) {
	if before.IPv4.Address != after.IPv4.Address || before.IPv6.Address != after.IPv6.Address {
		w.log.Info("home address", "ipv4", after.IPv4.Address, "ipv6", after.IPv6.Address)
		if err := saveJSON(w.store.homePath(), after); err != nil {
			w.log.Error("home address is not on disk", "error", err)
		}
		for _, s := range w.sites {
			hurry(s.reread) // whose the records are may be clear now
		}
	}
	if before.IPv4.Agreed != after.IPv4.Agreed {
		w.log.Info("sources of our address", "agreed", after.IPv4.Agreed, "why", after.IPv4.Why)
	}
	for _, s := range w.sites {
		s.homeChanged(ctx)
	}
	if w.dyndns != nil {
		w.dyndns.homeChanged(before, after)
	}
}

// uplinkWorth is how long the line must have been down to be worth a message.
const uplinkWorth = time.Minute

func (w *watchdog) uplinkBack(_ context.Context, from, until time.Time) {
	w.log.Info("own line is back", "down_for", until.Sub(from))
	w.home.ask() // with another address, as likely as not
	if until.Sub(from) < uplinkWorth {
		return
	}
	m := uplinkMessage(from, until)
	m.Key, m.Time = fmt.Sprintf("uplink-%d", from.Unix()), until
	if err := w.outbox.Post(m); err != nil {
		w.log.Error("message is not on disk", "event", m.Event, "error", err)
	}
}

// reportAlive tells the service manager that we are ready once every site has seen a first round, and from then on
// that every loop still turns: each is asked, and one that hangs is not vouched for.
func (w *watchdog) reportAlive(ctx context.Context) error {
	every := daemon.WatchdogInterval(w.env.Getenv)
	if every == 0 {
		every = maxPace
	}
	ready := false
	for {
		var turns atomic.Bool
		turns.Store(true)
		for _, s := range w.sites {
			if err := s.call(ctx, func(failover.Observation) {
				if !s.started {
					turns.Store(false)
				}
			}); err != nil {
				return nil
			}
		}
		next := every
		switch {
		case turns.Load() && !ready:
			ready = true
			if err := daemon.Ready(w.env.Getenv); err != nil {
				w.log.Warn("service manager not told", "error", err)
			}
		case !ready:
			next = min(every, time.Second)
		}
		_ = daemon.Status(w.env.Getenv, w.headline())
		_ = daemon.Watchdog(w.env.Getenv)
		if !wait(ctx, next, nil) {
			return nil
		}
	}
}

func (w *watchdog) server() *report.Server {
	return &report.Server{
		Socket: w.cfg.Status.Socket, Listen: w.cfg.Status.Listen,
		Status: func() any { return w.report() }, Page: w.page, Metrics: w.writeMetrics,
		Control:  w.control(),
		ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelError),
	}
}
