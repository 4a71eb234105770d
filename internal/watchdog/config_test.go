package watchdog_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
	"releve/internal/publicip"
	"releve/internal/strictconf"
	"releve/internal/watchdog"
	"releve/test/conftest"
)

func TestLoadConfig(t *testing.T) {
	cfg, err := watchdog.LoadConfig(conftest.Copy(t, "testdata/good-design.toml"))
	if err != nil {
		t.Fatal(err)
	}
	site := cfg.Sites[0]
	url := site.Probe.Target.URL
	site.Probe.Target.URL = nil
	if url.String() != "https://www.example.net/" {
		t.Errorf("url: %v", url)
	}
	if want := (watchdog.Site{
		Name: "www.example.net", Zone: "example.net", TTL: 60, Folders: []string{"webroot", "letsencrypt"}, MaxLag: 15 * time.Minute, MaxSwitchesPerDay: 4,
		Probe: watchdog.Probe{
			Target:   probe.Target{Timeout: 2 * time.Second, Status: []int{200}},
			Prod:     []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8::10")},
			Interval: 5 * time.Second, Failures: 5, Successes: 12,
		},
		StandbyAddress: "127.0.0.1:443",
		Failback:       watchdog.Failback{Stay: 10 * time.Minute},
	}); !reflect.DeepEqual(site, want) {
		t.Errorf("site: got\n%+v\nwant\n%+v", site, want)
	}
	const secret = "https://www.example.net/swordfish" // what every file of a copied config holds
	if o := cfg.OVH; o.Endpoint != "ovh-eu" || o.CAFile != "" || o.ApplicationKey.Reveal() != "…" || o.ApplicationSecret.Reveal() != secret || o.ConsumerKey.Reveal() != secret {
		t.Errorf("ovh: %+v", o)
	}
	if h := cfg.Home; !h.IPv4.Auto() || h.IPv4.Off() || !h.IPv6.Off() || h.IPv6.Auto() || len(h.IPv4.Sources) != len(publicip.DefaultSources(publicip.IPv4)) {
		t.Errorf("home: %+v", h)
	}
	if len(cfg.Uplink) != len(probe.DefaultReferences()) {
		t.Errorf("uplink: %v", cfg.Uplink)
	}
	if want := (watchdog.Replica{Control: "/srv/replica/.releve", Folders: []watchdog.ReplicaFolder{
		{Name: "letsencrypt", Path: "/srv/replica/letsencrypt", Hook: []string{"/usr/local/sbin/reload-nginx"}},
	}}); !reflect.DeepEqual(cfg.Replica, want) {
		t.Errorf("replica: %+v", cfg.Replica)
	}
	if n := cfg.Notify; len(n) != 1 || n[0].ChannelName() != "ifttt" || n[0].BaseURL() != "https://maker.ifttt.com" || n[0].Key.Reveal() != secret {
		t.Errorf("notify: %+v", n)
	}
	if cfg.StateDir != "/var/lib/releve/watchdog" || cfg.Status != (watchdog.Status{Socket: "/run/releve/watchdog.sock", Listen: "127.0.0.1:9812"}) {
		t.Errorf("%+v", cfg)
	}
	if shown := fmt.Sprintf("%+v %#v", cfg, cfg); strings.Contains(shown, "swordfish") {
		t.Error(shown)
	}
}

const minimal = `
[[site]]
name = "www.example.net"
zone = "example.net"
[site.probe]
url = "http://www.example.net:8080/"
prod = ["203.0.113.10"]
[ovh]
application_key = "a"
application_secret = "b"
consumer_key = "c"
`

func parse(t *testing.T, text string) *watchdog.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := watchdog.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// What is left out is as the samples say.
func TestConfigDefaults(t *testing.T) {
	got, want := parse(t, minimal), parse(t, `
state_dir = "/var/lib/releve/watchdog"
[[site]]
name = "www.example.net"
zone = "example.net"
ttl = 60
nameservers = []
folders = []
max_lag = "15m"
max_switches_per_day = 4
[site.probe]
url = "http://www.example.net:8080/"
prod = ["203.0.113.10"]
interval = "5s"
timeout = "2s"
failures = 5
successes = 12
strikes = 0
forgive = 12
status = [200]
body = ""
follow_redirects = false
ca_file = ""
[site.standby]
address = "127.0.0.1:443"
[site.failback]
mode = "manual"
stay = "10m"
[site.opinion]
mode = "off"
url = "https://api.globalping.io"
points = 5
timeout = "15s"
[ovh]
endpoint = "ovh-eu"
ca_file = ""
application_key = "a"
application_secret = "b"
consumer_key = "c"
[home]
ipv4 = "auto"
ipv6 = "off"
sources = []
[uplink]
references = []
[replica]
control = ""
[status]
socket = "/run/releve/watchdog.sock"
listen = "127.0.0.1:9812"
`)
	for _, cfg := range []*watchdog.Config{got, want} {
		// Empty or missing is the same, and secrets are equal by their text.
		cfg.Sites[0].Folders = nil
		cfg.OVH.ApplicationKey, cfg.OVH.ApplicationSecret, cfg.OVH.ConsumerKey = strictconf.Secret{}, strictconf.Secret{}, strictconf.Secret{}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestConfigValues(t *testing.T) {
	with := func(old, now string) *watchdog.Config {
		return parse(t, strings.Replace(minimal, old, now+"\n"+old, 1))
	}

	site := with("[site.probe]", `nameservers = ["dns1.example.net", "192.0.2.53:5353", "2001:db8::53"]`).Sites[0]
	if want := []string{"dns1.example.net:53", "192.0.2.53:5353", "[2001:db8::53]:53"}; !reflect.DeepEqual(site.NameServers, want) {
		t.Errorf("nameservers: %v", site.NameServers)
	}
	if p := with("prod =", `interval = "1s"`).Sites[0].Probe; p.Target.Timeout != time.Second {
		t.Errorf("timeout: %v", p.Target.Timeout)
	}
	if p := with("prod =", `follow_redirects = true`).Sites[0].Probe; !p.Target.FollowRedirects {
		t.Error("redirects are not followed")
	}
	if p := with("prod =", `body = "(?i)welcome"`).Sites[0].Probe; p.Target.Body == nil || !p.Target.Body.MatchString("You are WELCOME") {
		t.Errorf("body: %v", p.Target.Body)
	}
	if s := with("[ovh]", "[site.opinion]\nmode = 'prefer'").Sites[0]; s.Opinion.Mode != failover.OutsidePrefer || s.Opinion.Outside.Base.String() != probe.DefaultOutside ||
		s.Opinion.Outside.Points != 5 || s.Opinion.Outside.Timeout != 15*time.Second {
		t.Errorf("opinion: %+v", s.Opinion)
	}
	for text, want := range map[string][2]int{"": {0, 0}, "strikes = 10": {10, 12}, "strikes = 5\nforgive = 3": {5, 3}, "forgive = 3": {0, 0}} {
		if p := with("prod =", text).Sites[0].Probe; [2]int{p.Strikes, p.Forgive} != want {
			t.Errorf("%q: strikes %d, forgive %d", text, p.Strikes, p.Forgive)
		}
	}
	if s := with("[ovh]", "[site.standby]\naddress = '192.0.2.7'").Sites[0]; s.StandbyAddress != "192.0.2.7:8080" {
		t.Errorf("standby: %v", s.StandbyAddress)
	}
	if s := with("[ovh]", "[site.failback]\nmode = 'auto'\nstay = '1d'").Sites[0]; s.Failback != (watchdog.Failback{Auto: true, Stay: 24 * time.Hour}) {
		t.Errorf("failback: %v", s.Failback)
	}
	h := with("[ovh]", "[home]\nipv4 = '198.51.100.7'\nipv6 = 'auto'\nsources = ['fritzbox:', 'https://api6.ipify.org/']").Home
	if h.IPv4.Fixed != netip.MustParseAddr("198.51.100.7") || h.IPv4.Auto() || len(h.IPv6.Sources) != 2 || h.IPv6.Off() {
		t.Errorf("home: %+v", h)
	}
	if u := with("[ovh]", "[uplink]\nreferences = ['dns:9.9.9.9']").Uplink; len(u) != 1 || u[0].String() != "dns:9.9.9.9" {
		t.Errorf("uplink: %+v", u)
	}
	for _, endpoint := range []string{"ovh-ca", "https://eu.api.ovh.com/1.0", "http://127.0.0.1:1234/1.0", "http://[::1]/1.0", "http://localhost/1.0"} {
		if o := with("application_key", fmt.Sprintf("endpoint = %q", endpoint)).OVH; o.Endpoint != endpoint {
			t.Errorf("endpoint: %v", o.Endpoint)
		}
	}
}
