package watchdog

import (
	"net/netip"
	"time"

	"releve/internal/failover"
	"releve/internal/notify"
	"releve/internal/probe"
	"releve/internal/publicip"
	"releve/internal/strictconf"
)

// Config is what watchdog.toml says, checked and split by consumer. It is never changed after LoadConfig.
type Config struct {
	StateDir string
	Sites    []Site // at least one
	OVH      OVH
	Home     Home
	DynDNS   *DynDNS           // nil = none
	Uplink   []probe.Reference // never empty
	Replica  Replica
	Status   Status
	Notify   []notify.Config
	Deadman  *notify.DeadmanConfig // nil = none
}

// Site is one name that is switched.
type Site struct {
	Name        string // also the DNS name, without a dot at its end
	Zone        string
	TTL         int64         // of the records that lead to the standby, in seconds; 0 = the zone's
	NameServers []string      // HOST:PORT, asked instead of those that the zone names; empty = those
	Folders     []string      // of the agent, which the standby needs to serve the site
	MaxLag      time.Duration // an older replica is no standby; 0 = any age will do

	MaxSwitchesPerDay int

	Probe          Probe
	StandbyAddress string // HOST:PORT, asked with the site's name
	Failback       Failback
	Opinion        Opinion
}

// Probe is how prod is asked, and what makes it down or up.
type Probe struct {
	Target    probe.Target // without Address (each of Prod in turn) and Roots (see CAFile)
	Prod      []netip.Addr // at least one
	Interval  time.Duration
	Failures  int // in a row: down
	Successes int // in a row: up
	Strikes   int // failures, in a row or not: down as well; 0 = only those in a row count
	Forgive   int // successes in a row, after which the strikes are forgotten; 0 without Strikes
	CAFile    string
}

// Failback is when the name goes back to prod.
type Failback struct {
	Auto bool
	Stay time.Duration // the least time that the standby serves, before an automatic fail-back
}

// OVH is the access to the zone.
type OVH struct {
	Endpoint          string // a name that go-ovh knows, or a URL that ends in /1.0
	CAFile            string // extra roots, beside the system's; "" = none
	ApplicationKey    strictconf.Secret
	ApplicationSecret strictconf.Secret
	ConsumerKey       strictconf.Secret
}

// Home is where the standby is reached from outside.
type Home struct {
	IPv4, IPv6 HomeAddress
}

// HomeAddress says how home gets its address of one family: it is found out (Auto), given (Fixed), or there is
// none (Off).
type HomeAddress struct {
	Sources []publicip.Source // to be asked; empty unless Auto
	Fixed   netip.Addr        // valid only when given

	// Which address of the IPv6 network found is the standby's: the one on an interface, or the one that ends like
	// Suffix. With neither it is found out too.
	Interface string
	Suffix    netip.Addr
}

// Auto says that the address is to be found out.
func (h HomeAddress) Auto() bool { return len(h.Sources) > 0 }

// Off says that home has no address of this family.
func (h HomeAddress) Off() bool { return !h.Auto() && !h.Fixed.IsValid() }

// DynDNS is a name that is kept on the home address at all times.
type DynDNS struct {
	Name, Zone  string
	TTL         int64    // of its records, in seconds; 0 = the zone's
	NameServers []string // HOST:PORT, asked instead of those that the zone names; empty = those
	IPv4, IPv6  bool     // the families that it follows, at least one
}

// Replica is the standby's own disk: where the agent pushes to.
type Replica struct {
	Control string // the folder where the two daemons leave word for each other; "" = no agent
	Folders []ReplicaFolder
}

// ReplicaFolder is a folder of the agent as it lies on this machine.
type ReplicaFolder struct {
	Name string
	Path string
	Hook []string // run after the folder changed; empty = nothing
}

// Status says where the daemon answers.
type Status struct {
	Socket string
	Listen string // HOST:PORT of the web page and metrics; "" = off
}

// LoadConfig reads the file at path. Its error is a *strictconf.Error with everything that is wrong with the file.
// Nothing but the file and the secrets it points to is looked at: whether zone, prod and replica are there is a
// question for `check`.
func LoadConfig(path string) (*Config, error) {
	var f configFile
	doc := strictconf.Load(path, &f)
	cfg := f.build(doc)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Events lists what the watchdog tells the owner about; a [[notify]] may ask for some of them.
func Events() []string {
	return []string{
		EventFailedOver, EventPublished, EventFailedBack, EventCannotSwitch, EventCannotFollow, EventProdPartial, EventProdBack, EventHeld,
		EventStandbyDown, EventStandbyUp, EventForeignRecords, EventReplicaLag, EventUplinkDown, EventCertificate,
		EventCredential, EventStateLost, EventHookFailed, EventDynDNS,
	}
}

// The events of the watchdog. Those of a switch are package failover's.
const (
	EventFailedOver     = string(failover.EventFailedOver)
	EventPublished      = string(failover.EventPublished)
	EventFailedBack     = string(failover.EventFailedBack)
	EventCannotSwitch   = string(failover.EventCannotSwitch)
	EventCannotFollow   = string(failover.EventCannotFollow)
	EventProdPartial    = string(failover.EventProdPartial)
	EventProdBack       = string(failover.EventProdBack)
	EventHeld           = string(failover.EventHeld)
	EventStandbyDown    = string(failover.EventStandbyDown)
	EventStandbyUp      = string(failover.EventStandbyUp)
	EventForeignRecords = string(failover.EventForeignRecords)

	EventReplicaLag  = "replica_lag" // the replica is too old, or the agent silent
	EventUplinkDown  = "uplink_down" // our own line was; told once it is back
	EventCertificate = "certificate" // runs out, or is not the one received
	EventCredential  = "credential"  // the OVH credential is refused, lacks a right or runs out
	EventStateLost   = "state_lost"  // the watchdog's own memory was damaged
	EventHookFailed  = "hook_failed" // a hook did; told once until it succeeds
	EventDynDNS      = "dyndns"      // the name of [dyndns] does not lead home, and cannot be made to
)
