package watchdog

import (
	"time"

	"releve/internal/notify"
	"releve/internal/strictconf"
)

// configFile is watchdog.toml as it is written. configs/watchdog.toml explains each key to the owner.
type configFile struct {
	StateDir string          `toml:"state_dir"`
	Sites    []siteTable     `toml:"site"`
	OVH      ovhTable        `toml:"ovh"`
	Home     homeTable       `toml:"home"`
	DynDNS   dynDNSTable     `toml:"dyndns"`
	Uplink   uplinkTable     `toml:"uplink"`
	Replica  replicaTable    `toml:"replica"`
	Status   statusTable     `toml:"status"`
	Notify   []notify.Config `toml:"notify"`

	Deadman *notify.DeadmanConfig `toml:"deadman"`
}

// SetDefaults is called by strictconf, here and below.
func (f *configFile) SetDefaults() {
	f.StateDir = "/var/lib/releve/watchdog"
	f.OVH.Endpoint = "ovh-eu"
	f.Home = homeTable{IPv4: "auto", IPv6: "off"}
	f.DynDNS.TTL = 60
	f.Status = statusTable{Socket: "/run/releve/watchdog.sock", Listen: "127.0.0.1:9812"}
}

type siteTable struct {
	Name              string              `toml:"name"`
	Zone              string              `toml:"zone"`
	TTL               int64               `toml:"ttl"`
	NameServers       []string            `toml:"nameservers"`
	Folders           []string            `toml:"folders"`
	MaxLag            strictconf.Duration `toml:"max_lag"`
	MaxSwitchesPerDay int                 `toml:"max_switches_per_day"`
	Probe             probeTable          `toml:"probe"`
	Standby           standbyTable        `toml:"standby"`
	Failback          failbackTable       `toml:"failback"`
	Opinion           opinionTable        `toml:"opinion"`
}

func (s *siteTable) SetDefaults() {
	s.TTL = 60
	s.MaxLag = strictconf.Duration(15 * time.Minute)
	s.MaxSwitchesPerDay = 4
	s.Probe = probeTable{Interval: strictconf.Duration(5 * time.Second), Failures: 5, Successes: 12, Status: []int{200}}
	s.Standby = standbyTable{Address: "127.0.0.1:443"}
	s.Opinion = defaultOpinion()
	s.Failback = failbackTable{Mode: "manual", Stay: strictconf.Duration(10 * time.Minute)}
}

// defaultTimeout is that of a probe, or the interval where that is shorter.
const defaultTimeout = strictconf.Duration(2 * time.Second)

type probeTable struct {
	URL       string              `toml:"url"`
	Prod      []string            `toml:"prod"`
	Interval  strictconf.Duration `toml:"interval"`
	Timeout   strictconf.Duration `toml:"timeout"`
	Failures  int                 `toml:"failures"`
	Successes int                 `toml:"successes"`
	Strikes   int                 `toml:"strikes"`
	Forgive   int                 `toml:"forgive"`
	Status    []int               `toml:"status"`
	Body      string              `toml:"body"`
	Follow    bool                `toml:"follow_redirects"`
	CAFile    string              `toml:"ca_file"`
}

type standbyTable struct {
	Address string `toml:"address"`
}

type failbackTable struct {
	Mode string              `toml:"mode"`
	Stay strictconf.Duration `toml:"stay"`
}

type ovhTable struct {
	Endpoint          string            `toml:"endpoint"`
	CAFile            string            `toml:"ca_file"`
	ApplicationKey    strictconf.Secret `toml:"application_key"`
	ApplicationSecret strictconf.Secret `toml:"application_secret"`
	ConsumerKey       strictconf.Secret `toml:"consumer_key"`
}

type homeTable struct {
	IPv4     string   `toml:"ipv4"`
	IPv6     string   `toml:"ipv6"`
	IPv6Host string   `toml:"ipv6_host"`
	Sources  []string `toml:"sources"`
}

type dynDNSTable struct {
	Name        string   `toml:"name"`
	Zone        string   `toml:"zone"`
	TTL         int64    `toml:"ttl"`
	Families    []string `toml:"families"`
	NameServers []string `toml:"nameservers"`
}

type uplinkTable struct {
	References []string `toml:"references"`
}

type replicaTable struct {
	Control string               `toml:"control"`
	Folders []replicaFolderTable `toml:"folder"`
}

type replicaFolderTable struct {
	Name string   `toml:"name"`
	Path string   `toml:"path"`
	Hook []string `toml:"hook"`
}

type statusTable struct {
	Socket string `toml:"socket"`
	Listen string `toml:"listen"`
}
