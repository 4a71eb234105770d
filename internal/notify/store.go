package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// A message on a channel is one file, named after the channel and the message's key. Its extension says how far it has come.
const (
	waitingExt = ".json"
	sentExt    = ".sent"    // delivered; kept so that the same key is not told again
	expiredExt = ".expired" // given up
	badExt     = ".bad"     // not a message
)

const (
	entryVersion = 1
	maxEntry     = 256 << 10
)

// entry is a message on one channel.
type entry struct {
	Version int       `json:"version"`
	Channel string    `json:"channel"`
	Posted  time.Time `json:"posted"`
	Message Message   `json:"message"`

	file      string // name without extension
	unwritten bool   // it is not on disk yet
	attempts  int
}

// fileName is short, and fit for a file system, whatever the key is.
func fileName(channel, key string) string {
	sum := sha256.Sum256([]byte(channel + "\x00" + key))
	return hex.EncodeToString(sum[:16])
}

// A store is the folder with the files.
type store struct{ dir string }

func (s store) path(file, ext string) string { return filepath.Join(s.dir, file+ext) }

// has tells whether a message is known: waiting, told or given up.
func (s store) has(file string) bool {
	for _, ext := range []string{waitingExt, sentExt, expiredExt} {
		if _, err := os.Lstat(s.path(file, ext)); err == nil {
			return true
		}
	}
	return false
}

// write puts a message on disk: whole or not at all, and to stay.
func (s store) write(e *entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(s.path(e.file, waitingExt), text, 0o600, renameio.WithTempDir(s.dir)); err != nil {
		return err
	}
	return s.sync()
}

// mark says that a message is done with.
func (s store) mark(file, ext string) error {
	err := os.Rename(s.path(file, waitingExt), s.path(file, ext))
	if errors.Is(err, os.ErrNotExist) { // it never was on disk
		err = os.WriteFile(s.path(file, ext), nil, 0o600)
	}
	if err != nil {
		return err
	}
	return s.sync()
}

// remove forgets a waiting message. That it may come back after a power cut does no harm.
func (s store) remove(file string) {
	os.Remove(s.path(file, waitingExt))
}

// sync makes renames in the folder survive a power cut.
func (s store) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// contents is what open found.
type contents struct {
	waiting      []*entry
	bad, expired int
}

// open reads the folder, sets aside what is not a message and removes what has become too old to matter.
func (s store) open(now time.Time) (contents, error) {
	var c contents
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return c, err
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return c, err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			continue
		}
		age := now.Sub(info.ModTime())
		path := filepath.Join(s.dir, f.Name())
		switch file, ext := strings.TrimSuffix(f.Name(), filepath.Ext(f.Name())), filepath.Ext(f.Name()); {
		case strings.HasPrefix(f.Name(), "."): // a write that a crash cut short
			os.Remove(path)
		case ext == waitingExt:
			e, err := s.read(file)
			switch {
			case err != nil:
				if err := os.Rename(path, s.path(file, badExt)); err != nil {
					return c, err
				}
				c.bad++
			default:
				c.waiting = append(c.waiting, e)
			}
		case ext == badExt:
			c.bad++
		case ext == sentExt && age > remember:
			os.Remove(path)
		case ext == expiredExt && age > remember:
			os.Remove(path)
		case ext == expiredExt:
			c.expired++
		}
	}
	slices.SortFunc(c.waiting, func(a, b *entry) int { return a.Posted.Compare(b.Posted) })
	return c, nil
}

// read reads one waiting message, strictly.
func (s store) read(file string) (*entry, error) {
	f, err := os.Open(s.path(file, waitingExt))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEntry+1))
	if err != nil {
		return nil, err
	}
	return parseEntry(file, text)
}

func parseEntry(file string, text []byte) (*entry, error) {
	if len(text) > maxEntry {
		return nil, errors.New("too long")
	}
	e := &entry{file: file}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	switch {
	case e.Version != entryVersion:
		return nil, fmt.Errorf("version %d is not known", e.Version)
	case fileName(e.Channel, e.Message.Key) != file:
		return nil, errors.New("the name is not that of the message")
	case e.Posted.IsZero() || e.Message.Event == "" || e.Message.Reminder && !strings.Contains(e.Message.Key, isReminder):
		return nil, errors.New("not a message")
	}
	return e, nil
}
