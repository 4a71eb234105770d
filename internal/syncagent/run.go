package syncagent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"releve/internal/daemon"
	"releve/internal/notify"
	"releve/internal/report"
)

type runCmd struct{}

// agent is the daemon: a link to each backup, an engine for each folder on each of them, and what tells the owner.
type agent struct {
	app     *app
	cfg     *Config
	began   time.Time
	links   []*link
	engines []*engine
	outbox  *notify.Outbox
	alarms  *alarms
	deadman *notify.Deadman
	standby []*standby
}

func (runCmd) Run(a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	agent, err := newAgent(a, cfg)
	if err != nil {
		return err
	}
	return agent.run(a.ctx)
}

func newAgent(a *app, cfg *Config) (*agent, error) {
	g := &agent{app: a, cfg: cfg, began: time.Now(), deadman: notify.NewDeadman(cfg.Deadman)}
	id, err := processID()
	if err != nil {
		return nil, err
	}
	for _, b := range cfg.Backups {
		l := newLink(b, a.log)
		g.links = append(g.links, l)
		for _, f := range cfg.Folders {
			e := newEngine(f, l, cfg.StateDir, id, a.log)
			e.lives(g.deadman)
			g.engines = append(g.engines, e)
		}
		l.word.folders = g.wordOf(l)
		if b.Probe != nil {
			s, err := newStandby(b, a.log)
			if err != nil {
				return nil, err
			}
			g.standby = append(g.standby, s)
		}
	}
	channels, err := notify.Channels("syncagent", cfg.Notify)
	if err != nil {
		return nil, err
	}
	if g.outbox, err = notify.OpenOutbox(filepath.Join(cfg.StateDir, "outbox"), channels); err != nil {
		return nil, err
	}
	g.alarms = newAlarms(g)
	return g, nil
}

// run runs everything until ctx ends.
func (g *agent) run(ctx context.Context) error {
	server := g.server()
	if err := server.Bind(); err != nil {
		return err
	}
	tasks := []daemon.Task{
		{Name: "status", Run: server.Run},
		{Name: "notify", Run: g.outbox.Run},
		{Name: "alarms", Run: g.alarms.run},
		{Name: "reminders", Run: g.remind},
		{Name: "dead-man's switch", Run: g.deadman.Run},
		{Name: "systemd", Run: g.tellSystemd},
	}
	for _, l := range g.links {
		tasks = append(tasks, daemon.Task{Name: "link " + l.backup.Name, Run: l.run}, daemon.Task{Name: "word " + l.backup.Name, Run: l.talk})
	}
	for _, e := range g.engines {
		tasks = append(tasks, daemon.Task{Name: "folder " + e.folder.Name, Run: e.run})
	}
	for _, s := range g.standby {
		tasks = append(tasks, daemon.Task{Name: "standby " + s.backup.Name, Run: s.run})
	}
	g.app.log.Info("started", "version", versionText(), "config", g.app.config, "folders", len(g.cfg.Folders))
	err := daemon.Run(ctx, tasks...)
	g.app.log.Info("stopped", "why", context.Cause(ctx))
	return err
}

func (g *agent) remind(ctx context.Context) error { return g.outbox.Remind(ctx, g.alarms.Lasting) }

// tellSystemd keeps the service manager informed; without one it has nothing to do.
func (g *agent) tellSystemd(ctx context.Context) error {
	getenv := g.app.env.Getenv
	if err := daemon.Ready(getenv); err != nil {
		g.app.log.Warn("could not tell systemd", "err", err)
	}
	every := daemon.WatchdogInterval(getenv) / 2
	if every <= 0 || every > 10*time.Second {
		every = 10 * time.Second
	}
	for sleep(ctx, every) {
		daemon.Watchdog(getenv)
		daemon.Status(getenv, g.headline())
	}
	daemon.Stopping(getenv)
	return nil
}

// server is the agent's face: socket, web page, metrics.
func (g *agent) server() *report.Server {
	return &report.Server{
		Socket:  g.cfg.Status.Socket,
		Listen:  g.cfg.Status.Listen,
		Status:  func() any { return g.status(time.Now()) },
		Page:    g.page,
		Metrics: g.metrics,
		Control: map[string]report.Command{"approve": g.approve},
	}
}

// processID distinguishes the temporary names of this process from those of all others.
func processID() (string, error) {
	b := make([]byte, 4)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// errLocked: another process works with the same state.
var errLocked = errors.New("another syncagent is running with this state_dir")

// lockState makes sure that one process at a time pushes from this state directory: two would sweep away each other's
// temporary files. The lock goes with the process.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state_dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state_dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, errLocked)
		}
		return nil, fmt.Errorf("lock state_dir: %w", err)
	}
	return f, nil
}
