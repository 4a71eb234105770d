package pairing

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"releve/internal/tree"
)

// temp is the watchdog's file while it is being written. It has one writer, so one name will do, and what a crash
// leaves is overwritten by the next.
const temp = tree.Prefix + "-tmp-watchdog"

// ReadAgent reads the agent's file in the control folder dir. written is when it came to lie there, by the clock of
// this machine: the SFTP server's own stamp. The error matches [fs.ErrNotExist] if dir is there and the file is not,
// and otherwise says what is wrong with either.
//
// The folder belongs to the account that prod logs in to, so that nothing in it is trusted: no link is followed, and
// nothing but a regular file is opened.
func ReadAgent(dir string) (a Agent, written time.Time, err error) {
	text, written, err := read(dir, AgentFile)
	if err != nil {
		return Agent{}, time.Time{}, err
	}
	a, err = DecodeAgent(text)
	return a, written, err
}

// ReadWatchdog reads the watchdog's file in the control folder dir: what the watchdog itself said last. Its errors are
// those of [ReadAgent].
func ReadWatchdog(dir string) (Watchdog, error) {
	text, _, err := read(dir, WatchdogFile)
	if err != nil {
		return Watchdog{}, err
	}
	return DecodeWatchdog(text)
}

func read(dir, name string) (text []byte, written time.Time, err error) {
	root, err := tree.Open(dir)
	if err != nil {
		// %v: a folder that is missing must not pass for a file that is.
		return nil, time.Time{}, fmt.Errorf("open control folder: %v", err)
	}
	defer root.Close()
	f, entry, err := root.OpenFile(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	if text, err = io.ReadAll(io.LimitReader(f, MaxSize+1)); err != nil {
		return nil, time.Time{}, fmt.Errorf("read %s: %w", name, err)
	}
	return text, time.Unix(0, entry.MTime), nil
}

// WriteWatchdog replaces the watchdog's file in the control folder dir. Readers see the old one or the new one, whole,
// and may be any user: it holds no secret, and the agent reads it as the account that it logs in to.
//
// It is not synced to the disk. The next writing is seconds away, and what a power cut leaves of this one is refused
// or old: both have the agent wait for the watchdog of the restarted machine.
func WriteWatchdog(dir string, w Watchdog) error {
	text, err := w.Encode()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open control folder: %w", err)
	}
	defer root.Close()
	if err := replace(root, WatchdogFile, text); err != nil {
		return fmt.Errorf("write %s: %w", WatchdogFile, err)
	}
	return nil
}

func replace(root *os.Root, name string, text []byte) (err error) {
	// O_EXCL below follows no link; what is in its way is removed, never written to.
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temp)
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask says
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return root.Rename(temp, name)
}
