// Package pairing is how the two daemons leave word for each other: two small JSON files in one folder of the backup,
// the control folder. The agent on prod reaches it over the SFTP that it has anyway, the watchdog has it on its own
// disk, and so neither needs a port of the other. docs/pair.md describes the files.
//
// Each file has one writer, which replaces it atomically every few seconds, and one reader, which believes little: a
// file has a largest size and a version, fields that the version does not know are refused, and what it holds has to
// make sense. A name in a file is a name, to be compared and shown; nothing in a file is ever used as a path.
//
// The clocks of the two machines are never compared. What is needed of the other's clock is either the difference of
// two of its own readings ([Agent.Lag]) or whether it has moved at all.
package pairing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// The files in the control folder.
const (
	AgentFile    = "agent.json"
	WatchdogFile = "watchdog.json"
)

const (
	// MaxSize is the most that is read of a file, in bytes; a longer one is refused.
	MaxSize = 1 << 20
	// Version is that of both formats.
	Version = 1

	maxName = 255
)

// ErrVersion means that a file was written by a program of another version: it is no damage, and nothing in it is
// understood.
var ErrVersion = errors.New("written by another version")

// Agent is what the agent says of the replicas on one backup.
type Agent struct {
	Version  int       `json:"version"`
	Sequence uint64    `json:"sequence"` // grows with every writing, also over a restart; from 1
	Time     time.Time `json:"time"`     // of the writing, by prod's clock
	Folders  []Folder  `json:"folders"`
}

// Folder is what the agent says of one folder. Its times are by prod's clock.
type Folder struct {
	Name  string      `json:"name"`
	State FolderState `json:"state"`
	// AsOf: every change that the source had seen until then is on the replica; nil while it was never complete. At
	// the time of writing the oldest change that may be missing is Agent.Time - AsOf old. Deletions that are held for
	// approval are not missing.
	AsOf        *time.Time `json:"as_of"`
	Pending     int        `json:"pending"`       // entries known to be missing
	Held        int        `json:"held"`          // deletions that wait for approval
	LastChange  *time.Time `json:"last_change"`   // when something was last pushed, by this run of the agent
	InSyncSince *time.Time `json:"in_sync_since"` // nil while it is not
	// Compared is when the agent, while it pushes nothing because the standby serves, last compared the whole source
	// with what is served: Pending is in how many entries they differ. Nil at any other time, and until it has.
	Compared *time.Time `json:"compared"`
}

// FolderState is a folder's state as the agent's status names it.
type FolderState string

// The states of a folder.
const (
	Syncing FolderState = "syncing" // a comparison or a push is under way
	InSync  FolderState = "in_sync" // the replica equals the source
	Held    FolderState = "held"    // equal but for deletions that wait for approval
	Waiting FolderState = "waiting" // nothing can be pushed just now
)

// Watchdog is what the watchdog says to the agent.
type Watchdog struct {
	Version  int       `json:"version"`
	Time     time.Time `json:"time"` // of the writing, by the backup's clock
	Sites    []Site    `json:"sites"`
	DiskFree uint64    `json:"disk_free"` // bytes that fit into the file system of the control folder
}

// Site is what the watchdog says of one site.
type Site struct {
	Name string `json:"name"`
	// Serving is who has the name. It is Standby from the moment at which the zone may begin to lead there until it is
	// sure to lead to prod again.
	Serving Who `json:"serving"`
	Term    int `json:"term"` // counts the switches
	// Since is when the last switch was decided; nil if there never was one.
	Since *time.Time `json:"since"`
	// CertificateDays are left of the certificate that the standby serves; nil if that is not known.
	CertificateDays *int `json:"certificate_days"`
}

// Who can serve a site.
type Who string

// Who serves a site.
const (
	Prod    Who = "prod"
	Standby Who = "standby"
)

// Lag is how old the replica of f was at the time at, if the file that said so was written at the time written; both
// by the clock of the backup, which need not agree with prod's. ok is false if the replica was never complete.
func (a Agent) Lag(f Folder, written, at time.Time) (lag time.Duration, ok bool) {
	if f.AsOf == nil {
		return 0, false
	}
	behind := a.Time.Sub(*f.AsOf)
	return max(0, behind+at.Sub(written)), true
}

// Folder returns what a says of the folder name.
func (a Agent) Folder(name string) (Folder, bool) {
	i := slices.IndexFunc(a.Folders, func(f Folder) bool { return f.Name == name })
	if i < 0 {
		return Folder{}, false
	}
	return a.Folders[i], true
}

// StandbyServes returns the sites that the standby serves.
func (w Watchdog) StandbyServes() []Site {
	var sites []Site
	for _, s := range w.Sites {
		if s.Serving == Standby {
			sites = append(sites, s)
		}
	}
	return sites
}

// Encode is the content of the agent's file. What [DecodeAgent] would refuse is an error.
func (a Agent) Encode() ([]byte, error) {
	a.Version = Version
	if a.Folders == nil {
		a.Folders = []Folder{}
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", AgentFile, err)
	}
	return encode(AgentFile, a)
}

// Encode is the content of the watchdog's file. What [DecodeWatchdog] would refuse is an error.
func (w Watchdog) Encode() ([]byte, error) {
	w.Version = Version
	if w.Sites == nil {
		w.Sites = []Site{}
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", WatchdogFile, err)
	}
	return encode(WatchdogFile, w)
}

func encode(name string, v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	if len(text)+1 > MaxSize {
		return nil, fmt.Errorf("encode %s: more than %d bytes", name, MaxSize)
	}
	return append(text, '\n'), nil
}

// DecodeAgent reads the agent's file. An error matches [ErrVersion] if it is of another version.
func DecodeAgent(text []byte) (Agent, error) {
	var a Agent
	err := decode(text, &a)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return Agent{}, fmt.Errorf("decode %s: %w", AgentFile, err)
	}
	return a, nil
}

// DecodeWatchdog reads the watchdog's file. An error matches [ErrVersion] if it is of another version.
func DecodeWatchdog(text []byte) (Watchdog, error) {
	var w Watchdog
	err := decode(text, &w)
	if err == nil {
		err = w.check()
	}
	if err != nil {
		return Watchdog{}, fmt.Errorf("decode %s: %w", WatchdogFile, err)
	}
	return w, nil
}

// decode looks at the version first: the fields of another one would only be called unknown.
func decode(text []byte, into any) error {
	if len(text) > MaxSize {
		return fmt.Errorf("more than %d bytes", MaxSize)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	if v.Version == 0 {
		return errors.New("it has no version")
	}
	if v.Version != Version {
		return fmt.Errorf("version %d: %w", v.Version, ErrVersion)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func (a Agent) check() error {
	if a.Sequence == 0 {
		return errors.New("the sequence begins at 1")
	}
	if a.Time.IsZero() {
		return errors.New("it has no time")
	}
	seen := map[string]bool{}
	for _, f := range a.Folders {
		if err := checkName(f.Name, seen); err != nil {
			return fmt.Errorf("folder: %w", err)
		}
		if err := a.checkFolder(f); err != nil {
			return fmt.Errorf("folder %s: %w", f.Name, err)
		}
	}
	return nil
}

func (a Agent) checkFolder(f Folder) error {
	if !slices.Contains([]FolderState{Syncing, InSync, Held, Waiting}, f.State) {
		return fmt.Errorf("state %q is none", f.State)
	}
	if f.Pending < 0 || f.Held < 0 {
		return errors.New("a count is negative")
	}
	for _, t := range []*time.Time{f.AsOf, f.LastChange, f.InSyncSince, f.Compared} {
		if t != nil && t.After(a.Time) {
			return fmt.Errorf("%s is after the time of writing, %s", t.Format(time.RFC3339Nano), a.Time.Format(time.RFC3339Nano))
		}
	}
	return nil
}

func (w Watchdog) check() error {
	if w.Time.IsZero() {
		return errors.New("it has no time")
	}
	seen := map[string]bool{}
	for _, s := range w.Sites {
		if err := checkName(s.Name, seen); err != nil {
			return fmt.Errorf("site: %w", err)
		}
		if s.Serving != Prod && s.Serving != Standby {
			return fmt.Errorf("site %s: %q cannot serve", s.Name, s.Serving)
		}
		if s.Term < 0 {
			return fmt.Errorf("site %s: term %d is negative", s.Name, s.Term)
		}
		if s.Since != nil && s.Since.After(w.Time) {
			return fmt.Errorf("site %s: it was switched after the time of writing", s.Name)
		}
	}
	return nil
}

// checkName wants a name that can be shown on a terminal as it is.
func checkName(name string, seen map[string]bool) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("%s is no name", strconv.Quote(name[:min(len(name), maxName)]))
	}
	for _, r := range name {
		if !unicode.IsGraphic(r) {
			return fmt.Errorf("%s is no name", strconv.Quote(name))
		}
	}
	if seen[name] {
		return fmt.Errorf("%s is there twice", strconv.Quote(name))
	}
	seen[name] = true
	return nil
}
