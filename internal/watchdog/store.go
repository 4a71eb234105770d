package watchdog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"releve/internal/failover"
)

// store is the state directory: what the daemon must find again after a restart.
type store struct{ dir string }

func (st store) sitePath(name string) string { return filepath.Join(st.dir, "site-"+name+".json") }
func (st store) homePath() string            { return filepath.Join(st.dir, "home.json") }
func (st store) alarmsPath() string          { return filepath.Join(st.dir, "alarms.json") }
func (st store) hooksPath() string           { return filepath.Join(st.dir, "hooks.json") }
func (st store) dynDNSPath() string          { return filepath.Join(st.dir, "dyndns.json") }
func (st store) delaysPath() string          { return filepath.Join(st.dir, "publications.json") }
func (st store) outbox() string              { return filepath.Join(st.dir, "outbox") }

// prepare makes the directory and shows that it can be written.
func (st store) prepare() error {
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	probe := filepath.Join(st.dir, ".probe")
	if err := renameio.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("write to state directory: %w", err)
	}
	return os.Remove(probe)
}

// lock keeps a second daemon off the same state, and so off the same zone, until the returned function is called.
func (st store) lock() (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(st.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock state directory %s: another watchdog is at work there", st.dir)
		}
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	return f.Close, nil
}

// loadSite reads what is remembered of a site; ok is false if nothing is. A file that cannot be made sense of is set
// aside, never guessed at and never overwritten: damage then says where it went and why, and the zone itself will
// tell who serves. A file of another version is an error: somebody went back to an older program, and what the newer
// one knows must not be lost.
func (st store) loadSite(name string, now time.Time) (s failover.State, ok bool, damage string, err error) {
	path := st.sitePath(name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return failover.New(), false, "", nil
	}
	if err != nil {
		return s, false, "", fmt.Errorf("read state of %s: %w", name, err)
	}
	s, err = failover.Decode(text)
	if err == nil {
		return s, true, "", nil
	}
	if errors.Is(err, failover.ErrVersion) {
		return s, false, "", fmt.Errorf("read state %s: %w; install that version again, or move the file away to start from what the zone holds", path, err)
	}
	aside := path + ".damaged-" + now.UTC().Format("20060102T150405Z")
	if rerr := os.Rename(path, aside); rerr != nil {
		return s, false, "", fmt.Errorf("set damaged state aside: %w", rerr)
	}
	return failover.New(), false, fmt.Sprintf("%s could not be read (%v) and is now %s", path, err, aside), nil
}

// saveSite returns when the state is on disk.
func (st store) saveSite(name string, s failover.State) error {
	text, err := s.Encode()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(st.sitePath(name), text, 0o600); err != nil {
		return fmt.Errorf("write state of %s: %w", name, err)
	}
	return nil
}

// loadJSON reads a file of lesser worth into v, which is left alone where there is none or it is damaged: what such
// a file holds will be found out anew.
func loadJSON(path string, v any) {
	if text, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(text, v)
	}
}

func saveJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
