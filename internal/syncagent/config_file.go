package syncagent

import (
	"time"

	"releve/internal/notify"
	"releve/internal/strictconf"
)

// configFile is syncagent.toml as it is written. configs/syncagent.toml explains each key to the owner.
type configFile struct {
	StateDir string          `toml:"state_dir"`
	Folders  []folderTable   `toml:"folder"`
	Backups  []backupTable   `toml:"backup"`
	Status   statusTable     `toml:"status"`
	Notify   []notify.Config `toml:"notify"`

	Deadman *notify.DeadmanConfig `toml:"deadman"`
}

// SetDefaults is called by strictconf, here and below.
func (f *configFile) SetDefaults() {
	f.StateDir = "/var/lib/releve/syncagent"
	f.Status = statusTable{Socket: "/run/releve/syncagent.sock", Listen: "127.0.0.1:9811"}
}

type folderTable struct {
	Name             string              `toml:"name"`
	Kind             Kind                `toml:"kind"`
	Source           string              `toml:"source"`
	Target           string              `toml:"target"`
	Exclude          []string            `toml:"exclude"`
	Settle           strictconf.Duration `toml:"settle"`
	Keep             strictconf.Duration `toml:"keep"`
	MaxDelete        int                 `toml:"max_delete"`
	MaxDeletePercent int                 `toml:"max_delete_percent"`
}

func (f *folderTable) SetDefaults() {
	f.Kind = Files
	f.Settle = strictconf.Duration(100 * time.Millisecond)
	f.Keep = strictconf.Duration(7 * 24 * time.Hour)
	f.MaxDelete = 100
	f.MaxDeletePercent = 20
}

type backupTable struct {
	Name string `toml:"name"`
	hostTable
	Control string      `toml:"control"`
	Bastion *hostTable  `toml:"bastion"`
	Probe   *probeTable `toml:"probe"`
}

// hostTable is how to log in to one SSH host.
type hostTable struct {
	Address        string `toml:"address"`
	User           string `toml:"user"`
	Key            string `toml:"key"`
	PassphraseFile string `toml:"key_passphrase_file"`
	KnownHosts     string `toml:"known_hosts"`
}

// defaultTimeout is that of a probe, or the interval where that is shorter.
const defaultTimeout = strictconf.Duration(10 * time.Second)

type probeTable struct {
	URL      string              `toml:"url"`
	Address  string              `toml:"address"`
	Interval strictconf.Duration `toml:"interval"`
	Timeout  strictconf.Duration `toml:"timeout"`
	Failures int                 `toml:"failures"`
	CAFile   string              `toml:"ca_file"`
}

func (p *probeTable) SetDefaults() {
	p.Interval = strictconf.Duration(time.Minute)
	p.Failures = 3
}

type statusTable struct {
	Socket string `toml:"socket"`
	Listen string `toml:"listen"`
}
