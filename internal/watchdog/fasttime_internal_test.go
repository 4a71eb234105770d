package watchdog

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/daemon"
	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/ovhdns"
	"releve/test/dnsworld"
	"releve/test/ovhworld"
)

// fast is one site of a daemon with a clock of its own, in which an hour takes a second: the loop, the writer and the
// reader are real, and so is OVH's API, through memory. What the rounds see is told by the test. Time stands still
// while anything waits for a real socket, so that the name server has to answer.
type fast struct {
	*testing.T
	*site
	ovh  *ovhworld.World
	told []notify.Message
	mu   sync.Mutex
	up6  bool // prod answers over IPv6
}

const fastConfig = `
state_dir = %q
[[site]]
name = "www.example.net"
zone = "example.net"
nameservers = [%q]
max_switches_per_day = 4
[site.probe]
url = "https://www.example.net/"
prod = ["203.0.113.10", "2001:db8::10"]
%s
[ovh]
endpoint = %q
application_key = "app"
application_secret = "secret"
consumer_key = "consumer"
[home]
ipv4 = "198.51.100.1"
[status]
socket = %q
listen = ""
`

// inFastTime plays a story, which begins at midnight of the year 2000.
func inFastTime(t *testing.T, more string, story func(f *fast)) {
	t.Helper()
	dir := t.TempDir()
	var zones atomic.Pointer[ovhworld.World] // as soon as there is one
	ns := dnsworld.New(func() []dnsworld.Zone {
		if world := zones.Load(); world != nil {
			return world.Zones()
		}
		return nil
	})
	nsAddr, err := ns.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	path := filepath.Join(dir, "watchdog.toml")
	text := fmt.Sprintf(fastConfig, dir, nsAddr, more, ovhworld.Endpoint, filepath.Join(dir, "socket"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		world := ovhworld.New(ovhworld.Options{})
		zones.Store(world)
		defer world.Close()
		world.AddApplication("app", "secret")
		world.AddCredential("app", "consumer", time.Time{}, ovhworld.AllRules()...)
		world.AddZone("example.net", 3600, []string{nsAddr},
			ovhworld.Record{SubDomain: "www", Type: "A", Target: "203.0.113.10", TTL: 60}, ovhworld.Record{SubDomain: "www", Type: "AAAA", Target: "2001:db8::10", TTL: 60})
		client, err := ovhdns.New(ovhdns.Config{Endpoint: ovhworld.Endpoint, ApplicationKey: "app", ApplicationSecret: "secret", ConsumerKey: "consumer", DialContext: world.DialContext})
		if err != nil {
			t.Fatal(err)
		}
		w, err := assemble(daemon.Env{Getenv: func(string) string { return "" }}, cfg, slog.New(slog.DiscardHandler), store{dir})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		f := &fast{T: t, site: w.sites[0], ovh: world}
		f.reader.Close()
		f.zone.Close()
		f.reader, f.zone = client, client
		f.tell = func(m notify.Message) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.told = append(f.told, m)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var tasks sync.WaitGroup
		for _, run := range []func(context.Context) error{f.loop, f.write, f.readZone} {
			tasks.Go(func() { _ = run(ctx) })
		}
		defer tasks.Wait()
		defer cancel()
		story(f)
	})
}

// round is one look at prod, after the interval, from a house that is online.
func (f *fast) round(up4 bool) {
	time.Sleep(f.cfg.Probe.Interval)
	probes := []failover.Probe{
		{Address: netip.MustParseAddr("203.0.113.10"), OK: up4, Why: "no connection within 2s"},
		{Address: netip.MustParseAddr("2001:db8::10"), OK: up4 || f.up6, Why: "no connection within 2s"},
	}
	verdict, partial := failover.Judge(probes, failover.Reach{IPv4: true, IPv6: true})
	f.send(f.Context(), func(o *failover.Observation) {
		f.standby = failover.Readiness{Time: o.Time, Checks: []failover.Check{{Name: "answer", OK: true}}}
		o.Standby, o.Probed, o.Verdict, o.Partial = f.standby, true, verdict, partial
	})
}

// rounds plays rounds for as long as d.
func (f *fast) rounds(d time.Duration, up4 bool) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		f.round(up4)
	}
}

func (f *fast) in(phase failover.Phase, serving failover.Who) {
	f.Helper()
	synctest.Wait()
	if st := f.get().State; st.Phase != phase || st.Serving != serving {
		f.Fatalf("at %s: %s, %s serves; want %s, %s", time.Now().Format(time.TimeOnly), st.Phase, st.Serving, phase, serving)
	}
}

// events are what the owner was told, in order.
func (f *fast) events() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, m := range f.told {
		out = append(out, m.Event)
	}
	return strings.Join(out, " ")
}

func (f *fast) records() string {
	var out []string
	for _, r := range f.ovh.Records("example.net") {
		out = append(out, r.Type+" "+r.Target)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestHourOfOctober2021 plays 13 October 2021, 09:20 to 10:20: prod, OVH's API and its name servers are gone together,
// over IPv4 alone, for an hour. Home is online. The switch is tried all that time and cannot be made; the owner is told
// so, once; and when all comes back together nothing has been written, and nothing is.
func TestHourOfOctober2021(t *testing.T) {
	inFastTime(t, "", func(f *fast) {
		f.rounds(10*time.Minute, true)
		f.in(failover.Normal, failover.Prod)
		f.ovh.ForgetCalls()
		back := f.ovh.Down()
		f.up6 = true
		f.rounds(20*time.Second, false)
		f.in(failover.Failing, failover.Prod)
		f.rounds(10*time.Second, false)
		f.in(failover.Switching, failover.Prod)
		f.rounds(time.Hour-30*time.Second, false)
		f.in(failover.Switching, failover.Prod)
		if got := f.events(); got != "failed_over" || !strings.Contains(f.told[0].Subject, "the switch does not get through") || !strings.Contains(f.told[0].Text, "503") {
			t.Errorf("told %q: %+v", got, f.told)
		}
		var last time.Time
		calls := f.ovh.Calls()
		for _, c := range calls {
			if gap := c.Time.Sub(last); !last.IsZero() && gap > 30*time.Second {
				t.Errorf("not tried for %s", gap)
			}
			last = c.Time
		}
		if n := len(calls); n < 120 || n > 1500 {
			t.Errorf("%d calls in an hour", n)
		}
		back()
		f.rounds(time.Minute, true)
		f.in(failover.Normal, failover.Prod)
		f.rounds(time.Hour, true)
		f.in(failover.Normal, failover.Prod)
		if e := f.ovh.Effects(); len(e) > 0 {
			t.Errorf("written: %v", e)
		}
		if got := f.events(); got != "failed_over prod_back" {
			t.Errorf("told %q", got)
		}
	})
}

// TestApiBackBeforeProd: the same hour, but prod stays dead: the switch is made as soon as it can be, and the owner is
// told that it has worked after all.
func TestApiBackBeforeProd(t *testing.T) {
	inFastTime(t, "", func(f *fast) {
		f.rounds(time.Minute, true)
		back := f.ovh.Down()
		f.up6 = true
		f.rounds(time.Hour, false)
		back()
		f.rounds(30*time.Second, false)
		f.in(failover.FailedOver, failover.Standby)
		if got := f.records(); got != "A 198.51.100.1" {
			t.Errorf("the zone holds %s", got)
		}
		if got := f.events(); got != "failed_over published" {
			t.Errorf("told %q", got)
		}
	})
}

// TestDayOfFlapping: prod comes and goes for 24 hours. At most the allowed switches, each of them whole, and one alarm
// for the hold, which finds the site where it works.
func TestDayOfFlapping(t *testing.T) {
	inFastTime(t, "interval = \"30s\"\nfailures = 3\nsuccesses = 3\n[site.failback]\nmode = \"auto\"\nstay = \"1m\"", func(f *fast) {
		f.rounds(2*time.Minute, true)
		f.in(failover.Normal, failover.Prod)
		for hour := range 48 {
			f.rounds(time.Duration(3+hour%7)*time.Minute, false)
			f.rounds(time.Duration(30-3-hour%7)*time.Minute, true)
		}
		f.in(failover.Held, failover.Standby)
		if n := strings.Count(strings.Join(f.ovh.Effects(), "\n"), "refresh"); n > 4 {
			t.Errorf("%d refreshes: %v", n, f.ovh.Effects())
		}
		if term := f.get().State.Term; term > 4 {
			t.Errorf("%d switches", term)
		}
		got := strings.Fields(f.events())
		if n := strings.Count(f.events(), "held"); n != 1 {
			t.Errorf("%d alarms for the hold: %q", n, got)
		}
		if got[len(got)-1] != "prod_back" || len(got) != 5 {
			t.Errorf("told %q", got)
		}
		t.Logf("%d switches in 24 h; told %q", f.get().State.Term, got)
	})
}
