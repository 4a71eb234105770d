package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"crypto/tls"

	"golang.org/x/sys/unix"

	"releve/internal/daemon"
	"releve/internal/notify"
	"releve/internal/ovhdns"
	"releve/internal/probe"
	"releve/internal/publicip"
	"releve/internal/report"
)

// checkTime bounds each question of `watchdog check`.
const checkTime = 20 * time.Second

// checklist prints findings as they come.
type checklist struct {
	out    io.Writer
	failed bool
}

func (c *checklist) good(format string, args ...any) {
	fmt.Fprintf(c.out, "✓ "+format+"\n", args...)
}

// note is for what is not wrong but should be known.
func (c *checklist) note(format string, args ...any) {
	fmt.Fprintf(c.out, "! "+format+"\n", args...)
}

// bad is for what would keep a fail-over from working, with what to do about it.
func (c *checklist) bad(remedy, format string, args ...any) {
	c.failed = true
	fmt.Fprintf(c.out, "✗ "+format+"\n", args...)
	for line := range strings.Lines(remedy) {
		fmt.Fprintf(c.out, "    %s\n", strings.TrimRight(line, "\n"))
	}
}

// check is `watchdog check`. It changes nothing, and works whether or not the daemon runs.
func check(ctx context.Context, env daemon.Env, cfg *Config, path string) error {
	c := &checklist{out: env.Stdout}
	c.good("%s is a good configuration", path)
	c.stateDir(cfg)
	c.controlFolder(cfg.Replica.Control)
	c.hooks(cfg.Replica)
	c.running(ctx, cfg)
	c.channels(cfg)
	home := c.home(ctx, cfg.Home)
	c.uplink(ctx, cfg.Uplink)
	client := c.api(ctx, cfg)
	if client != nil {
		defer client.Close()
	}
	if client != nil && cfg.DynDNS != nil {
		c.dyndns(ctx, cfg, client, home)
	}
	for _, s := range cfg.Sites {
		k := siteCheck{checklist: c, cfg: cfg, site: s, home: home}
		if client != nil {
			k.zone = client
		}
		k.run(ctx)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if c.failed {
		return errSaid
	}
	return nil
}

func (c *checklist) stateDir(cfg *Config) {
	if err := (store{cfg.StateDir}).prepare(); err != nil {
		c.bad("give the watchdog's user the directory: install -d -m 700 -o USER "+cfg.StateDir, "state directory: %v", err)
		return
	}
	c.good("state directory %s can be written", cfg.StateDir)
}

// controlFolder is where the agent is told that the standby serves.
func (c *checklist) controlFolder(dir string) {
	if dir == "" {
		return
	}
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		c.bad("mount its disk, or make it for both: install -d -o SFTPUSER -g WATCHDOGGROUP -m 2775 "+dir, "control folder %s: %v", dir, err)
		return
	}
	c.good("control folder %s can be written", dir)
}

// hooks are not run, only looked for.
func (c *checklist) hooks(cfg Replica) {
	word := readAgentWord(cfg.Control)
	for _, f := range cfg.Folders {
		if len(f.Hook) == 0 {
			continue
		}
		command := f.Hook[0]
		st, err := os.Stat(command)
		if err == nil {
			err = unix.Access(command, unix.X_OK)
		}
		if err == nil && !st.Mode().IsRegular() {
			err = errors.New("it is no file")
		}
		_, known := word.Folder(f.Name)
		switch {
		case err != nil:
			c.bad("put it there and make it executable: chmod +x "+command+"; or correct the hook of replica.folder "+f.Name, "hook of %s: %s: %v", f.Name, command, err)
		case word.Err == nil && !known:
			c.bad("name it there, or correct the name of the replica.folder here", "hook of %s never runs: syncagent knows no folder of that name (it has %s)", f.Name, folderNames(word.Agent))
		default:
			c.good("hook of %s: %s can be run", f.Name, command)
		}
	}
}

func (c *checklist) running(ctx context.Context, cfg *Config) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var st statusReport
	err := report.Client{Program: "watchdog", Socket: cfg.Status.Socket}.Fetch(ctx, &st)
	switch {
	case errors.Is(err, report.ErrNotRunning):
		c.note("the watchdog is not running: nothing would be switched now")
	case err != nil:
		c.note("the running watchdog does not answer: %v", err)
	default:
		c.good("the watchdog is running, version %s", st.Version)
	}
}

func (c *checklist) channels(cfg *Config) {
	channels, err := notify.Channels("watchdog", cfg.Notify)
	switch {
	case err != nil:
		c.bad("correct the [[notify]] table", "notifications: %v", err)
	case len(channels) == 0:
		c.note("nobody will be told: there is no [[notify]] in the configuration")
	default:
		var names []string
		for _, ch := range channels {
			names = append(names, ch.Name)
		}
		c.good("you are told by %s (try: watchdog notify-test)", strings.Join(names, ", "))
	}
}

func (c *checklist) home(ctx context.Context, cfg Home) homeView {
	var v homeView
	for _, f := range []struct {
		family publicip.Family
		cfg    HomeAddress
		known  *knownAddress
	}{{publicip.IPv4, cfg.IPv4, &v.IPv4}, {publicip.IPv6, cfg.IPv6, &v.IPv6}} {
		switch {
		case f.cfg.Off():
			f.known.Why = "off"
		case f.cfg.Fixed.IsValid():
			*f.known = knownAddress{Address: f.cfg.Fixed, Agreed: true}
			c.good("home's %s address is %s, as configured", f.family, f.cfg.Fixed)
			if f.cfg.Fixed.IsPrivate() || f.cfg.Fixed.IsLoopback() {
				c.note("%s is a private address: nobody outside would reach the standby there", f.cfg.Fixed)
			}
		default:
			ctx, cancel := context.WithTimeout(ctx, checkTime)
			*f.known = findOut(ctx, f.family, f.cfg)
			cancel()
			if !f.known.Agreed {
				c.bad("give it as home."+strings.ToLower(f.family.String())+", or other home.sources, or \"off\"", "home's %s address: %s", f.family, f.known.Why)
				continue
			}
			c.good("home's %s address is %s: %s", f.family, f.known.Address, f.known.Why)
		}
	}
	return v
}

func (c *checklist) uplink(ctx context.Context, refs []probe.Reference) {
	r := probe.Uplink(ctx, refs, uplinkTimeout)
	if !r.OK {
		c.bad("without a majority nothing is ever held against prod, so that nothing is switched: mend the line, or name other uplink.references",
			"own line: %d of %d references answered", r.Answered, r.Asked)
		return
	}
	c.good("own line: %d of %d references answered", r.Answered, r.Asked)
	for _, d := range r.Details {
		if !d.OK && !d.Skipped {
			c.note("reference %s does not answer: %s", d.Reference, d.Detail)
		}
	}
}

// clockTolerance is what OVH's signatures forgive, well within its own limit.
const clockTolerance = 15 * time.Second

// api makes the client, and asks for what needs no site. It is nil if the API cannot be used at all.
func (c *checklist) api(ctx context.Context, cfg *Config) *ovhdns.Client {
	client, err := newZone(cfg.OVH, nil)
	if err != nil {
		c.bad("correct the [ovh] table", "OVH: %v", err)
		return nil
	}
	skew, err := clockSkew(ctx, cfg.OVH)
	switch {
	case err != nil:
		c.bad("nothing can be switched until it does; see https://www.status-ovhcloud.com", "OVH's API does not answer: %v", err)
		client.Close()
		return nil
	case skew.Abs() > clockTolerance:
		c.bad("set the clock, and keep it with systemd-timesyncd or chrony", "this machine's clock differs from OVH's by %s", short(skew.Abs()))
	default:
		c.good("OVH's API answers, and its clock agrees with ours")
	}
	for _, zone := range zonesOf(cfg) {
		c.rights(ctx, client, cfg.OVH.Endpoint, zone)
	}
	return client
}

func (c *checklist) rights(ctx context.Context, client *ovhdns.Client, endpoint, zone string) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	page, err := ovhdns.CreateTokenURL(endpoint, zone)
	if err != nil {
		page = "OVH's createToken page"
	}
	remedy := "make a key that has them: " + page
	r, err := client.Rights(ctx, zone)
	switch {
	case err != nil:
		c.bad(remedy, "the key at OVH: %v", err)
		return
	case !r.Known:
		c.note("what the key may do for zone %s cannot be asked: it lacks GET /auth/currentCredential", zone)
		return
	}
	if missing := r.Missing(); len(missing) > 0 {
		c.bad(remedy, "the key at OVH lacks rights for zone %s: %s", zone, joinAddrs(missing))
		return
	}
	until := "without an end"
	if !r.Expires.IsZero() {
		until = "until " + clock(r.Expires)
		if left := time.Until(r.Expires); left < credentialWarning {
			c.bad(remedy, "the key at OVH ends in %s", days(left))
			return
		}
	}
	c.good("the key at OVH has all rights for zone %s, %s", zone, until)
}

// clockSkew is how far OVH's clock is ahead of ours.
func clockSkew(ctx context.Context, cfg OVH) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	base, err := ovhdns.ResolveEndpoint(cfg.Endpoint)
	if err != nil {
		return 0, err
	}
	roots, err := rootsWith(cfg.CAFile)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/auth/time", nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the time: %w", err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask for the time: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	if err != nil {
		return 0, fmt.Errorf("ask for the time: %w", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("ask for the time: status %d, and no number", resp.StatusCode)
	}
	middle := began.Add(time.Since(began) / 2)
	return time.Unix(seconds, 0).Sub(middle), nil
}

func zonesOf(cfg *Config) []string {
	var out []string
	seen := map[string]bool{}
	add := func(zone string) {
		if !seen[zone] {
			seen[zone] = true
			out = append(out, zone)
		}
	}
	for _, s := range cfg.Sites {
		add(s.Zone)
	}
	if cfg.DynDNS != nil {
		add(cfg.DynDNS.Zone)
	}
	return out
}
