package syncagent

import (
	"time"

	"releve/internal/notify"
	"releve/internal/probe"
	"releve/internal/strictconf"
	"releve/internal/tree"
	"releve/pkg/sshjump"
)

// Config is what syncagent.toml says, checked and split by consumer. It is never changed after LoadConfig.
type Config struct {
	StateDir string
	Folders  []Folder // at least one
	Backups  []Backup // at least one
	Status   Status
	Notify   []notify.Config
	Deadman  *notify.DeadmanConfig // nil = none
}

// Folder is one source on prod and its target on every backup.
type Folder struct {
	Name             string // unique; fit for a file name
	Kind             Kind
	Source           string // absolute, clean
	Target           string // absolute, clean, as the SFTP server shows it
	Filter           *tree.Filter
	Settle           time.Duration // quiet time, where the kernel cannot tell that the writer is done
	Keep             time.Duration // of what was replaced or deleted, on the replica; 0 = not at all
	MaxDelete        int           // more deletions than this at once, and
	MaxDeletePercent int           // more than this share of the folder, are held
}

// Kind says what rules a folder's content has beyond those of files.
type Kind string

// The kinds of folders.
const (
	Files       Kind = "files"
	LetsEncrypt Kind = "letsencrypt" // lineages go out as one transaction
)

// Backup is one machine that holds replicas.
type Backup struct {
	Name    string
	Hops    []sshjump.Hop // the bastion, if any, then the backup itself
	Control string        // the folder where the two daemons leave word for each other
	Probe   *Probe        // nil = the standby's site is not checked from here
}

// Probe is prod's own check of the standby's site.
type Probe struct {
	Target   probe.Target // without Roots: see CAFile
	CAFile   string       // extra roots, beside the system's; "" = none
	Interval time.Duration
	Failures int // in a row, before the owner is told
}

// Status says where the daemon answers.
type Status struct {
	Socket string
	Listen string // HOST:PORT of the web page and metrics; "" = off
}

// LoadConfig reads the file at path. Its error is a *strictconf.Error with everything that is wrong with the file.
// Nothing but the file and the secrets it points to is looked at: whether sources, keys and hosts are there is a
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

// Events lists what the agent tells the owner about; a [[notify]] may ask for some of them.
func Events() []string {
	return []string{
		EventHeld, EventStandbyDown, EventStandbyUp, EventBackupUnreachable, EventBackupBack, EventReplicaFull,
		EventWatchdogSilent, EventSourceGone, EventCertificate,
	}
}

// The events of the agent.
const (
	EventHeld              = "held"               // deletions wait for approval
	EventStandbyDown       = "standby_down"       // the standby's site does not answer
	EventStandbyUp         = "standby_up"         // it does again
	EventBackupUnreachable = "backup_unreachable" // nothing can be pushed
	EventBackupBack        = "backup_back"        // pushing again
	EventReplicaFull       = "replica_full"       // no space left there
	EventWatchdogSilent    = "watchdog_silent"    // no word from the watchdog
	EventSourceGone        = "source_gone"        // a source folder vanished or was emptied
	EventCertificate       = "certificate"        // the standby's certificate runs out
)
