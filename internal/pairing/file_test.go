package pairing_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/internal/pairing"
)

func TestReadAgent(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := pairing.ReadAgent(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := pairing.ReadAgent(filepath.Join(dir, "none")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v; must not pass for a file that is not there yet", err)
	}
	name := filepath.Join(dir, pairing.AgentFile)
	text := encoded(t, agent())
	when := time.Unix(1_700_000_000, 5)
	write(t, name, text)
	if err := os.Chtimes(name, when, when); err != nil {
		t.Fatal(err)
	}
	a, written, err := pairing.ReadAgent(dir)
	if err != nil || a.Sequence != 7 || !written.Equal(when) {
		t.Errorf("got %v, %v, %v", a.Sequence, written, err)
	}
	write(t, name, append(text, make([]byte, pairing.MaxSize)...))
	if _, _, err := pairing.ReadAgent(dir); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too long: %v", err)
	}
}

// TestReadAgentOpensFilesOnly: the folder belongs to an account that may put anything there.
func TestReadAgentOpensFilesOnly(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, pairing.AgentFile)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, encoded(t, agent()))
	for what, make := range map[string]func() error{
		"link":      func() error { return os.Symlink(secret, name) },
		"FIFO":      func() error { return syscall.Mkfifo(name, 0o644) },
		"directory": func() error { return os.Mkdir(name, 0o755) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := pairing.ReadAgent(dir); err == nil {
			t.Errorf("a %s was read", what)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteWatchdog(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, []byte("mine"))
	// Links where the file and its temporary name belong must not lead a writer out of the folder.
	for _, name := range []string{pairing.WatchdogFile, ".releve-tmp-watchdog"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for range 2 {
		if err := pairing.WriteWatchdog(dir, watchdog()); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := pairing.ReadWatchdog(dir); err != nil || len(w.StandbyServes()) != 1 {
		t.Errorf("got %v, %v", w, err)
	}
	info, err := os.Lstat(filepath.Join(dir, pairing.WatchdogFile))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("got %v, %v; the agent's account must be able to read it", info.Mode(), err)
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "mine" {
		t.Errorf("written outside: %q, %v", text, err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if err := pairing.WriteWatchdog(filepath.Join(dir, "none"), watchdog()); err == nil {
		t.Error("no folder, no error")
	}
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
