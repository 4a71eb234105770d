package sshjump_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"releve/pkg/sshjump"
	"releve/test/sshworld"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startWorld(t *testing.T) *sshworld.World {
	t.Helper()
	w, err := sshworld.Start(context.Background(), t.TempDir(), sshworld.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func hops(w *sshworld.World) []sshjump.Hop {
	return []sshjump.Hop{
		{Name: "bastion", Address: w.BastionAddr, User: w.BastionUser, KeyFile: w.BastionKey, KnownHosts: []string{w.KnownHosts}},
		{Name: "backup", Address: w.BackupName, User: w.BackupUser, KeyFile: w.BackupKey, KnownHosts: []string{w.KnownHosts}},
	}
}

// within bounds a test's patience, not the code under test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func waitDone(t *testing.T, c *sshjump.Conn) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the connection is still there")
	}
}

// eventually polls, for what happens beside the call that is tested.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// useSubsystem speaks a little SFTP: INIT, and VERSION comes back.
func useSubsystem(t *testing.T, c *sshjump.Conn) {
	t.Helper()
	s, err := c.Subsystem(within(t), "sftp")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 9)
	if _, err := io.ReadFull(s, head); err != nil || head[4] != 2 {
		t.Fatalf("got % x, %v", head, err)
	}
}

func TestTwoHops(t *testing.T) {
	w := startWorld(t)
	c, err := sshjump.Dial(within(t), hops(w)...)
	if err != nil {
		t.Fatal(err)
	}
	useSubsystem(t, c)
	useSubsystem(t, c)
	if user := c.Client().User(); user != w.BackupUser {
		t.Errorf("the client is logged in as %q", user)
	}
	eventually(t, "one command on the bastion", func() bool { return w.Bastion.Commands() == 1 })
	if n := w.Backup.Commands(); n != 0 {
		t.Errorf("%d commands on the last hop, which had no need of one", n)
	}
	_, err = c.Subsystem(within(t), "nonesuch")
	wantError(t, err, 1, sshjump.Protocol, `start subsystem "nonesuch"`)
	if c.Err() != nil {
		t.Errorf("the connection ended: %v", c.Err())
	}
	c.Close()
	if !errors.Is(c.Err(), net.ErrClosed) {
		t.Errorf("after Close: %v", c.Err())
	}
	if _, err := c.Subsystem(within(t), "sftp"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("subsystem after Close: %v", err)
	}
}

func TestOneHop(t *testing.T) {
	w := startWorld(t)
	h := hops(w)[1]
	h.Address = w.BackupAddr
	c, err := sshjump.Dial(within(t), h)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	useSubsystem(t, c)
}

func wantError(t *testing.T, err error, hop int, kind sshjump.Kind, says ...string) *sshjump.Error {
	t.Helper()
	e, ok := errors.AsType[*sshjump.Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	if e.Hop != hop || e.Kind != kind {
		t.Errorf("hop %d, kind %v, want %d, %v: %v", e.Hop, e.Kind, hop, kind, err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
	return e
}

func newKey(t *testing.T) (file string, key ssh.Signer) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	text, err := sshworld.WriteKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = ssh.ParsePrivateKey(text); err != nil {
		t.Fatal(err)
	}
	return file, key
}

// encryptedKey copies a key made by ssh-keygen -a 1, its passphrase "open sesame".
func encryptedKey(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/encrypted_ed25519")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, string(text), 0o600)
}

func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestRefusals has one fault each, and what must be said about it.
func TestRefusals(t *testing.T) {
	w := startWorld(t)
	stranger, strangerKey := newKey(t)
	encrypted := encryptedKey(t)
	open := writeFile(t, "", 0o644)
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		set  func(h []sshjump.Hop)
		hop  int
		kind sshjump.Kind
		says []string
	}{
		{"unknown bastion", func(h []sshjump.Hop) { h[0].KnownHosts = []string{os.DevNull} }, 0, sshjump.HostKey,
			[]string{"bastion (" + w.BastionAddr + "): host key: ", ssh.FingerprintSHA256(w.Bastion.HostKey()), "/dev/null has no key for it", "echo '"}},
		{"unknown backup", func(h []sshjump.Hop) { h[1].KnownHosts = []string{os.DevNull} }, 1, sshjump.HostKey,
			[]string{"backup (" + w.BackupName + "): host key: ", ssh.FingerprintSHA256(w.Backup.HostKey())}},
		{"no known hosts", func(h []sshjump.Hop) { h[1].KnownHosts = nil }, 1, sshjump.HostKey, []string{"no known_hosts file"}},
		{"missing known hosts", func(h []sshjump.Hop) { h[1].KnownHosts = []string{"/nonexistent"} }, 1, sshjump.HostKey,
			[]string{ssh.FingerprintSHA256(w.Backup.HostKey()), "/nonexistent has no key for it", ">> /nonexistent"}},
		{"bad known hosts", func(h []sshjump.Hop) { h[0].KnownHosts = []string{writeFile(t, "\nhost ssh-ed25519\n", 0o644)} }, 0, sshjump.HostKey, []string{":2: "}},
		{"revoked", func(h []sshjump.Hop) {
			h[0].KnownHosts = append(h[0].KnownHosts, writeFile(t, "@revoked * "+string(ssh.MarshalAuthorizedKey(w.Bastion.HostKey())), 0o644))
		}, 0, sshjump.HostKey, []string{"revoked"}},
		{"not its key", func(h []sshjump.Hop) {
			h[1].KnownHosts = []string{writeFile(t, knownhosts.Line([]string{w.BackupName}, strangerKey.PublicKey()), 0o644)}
		}, 1, sshjump.HostKey, []string{":1 says ssh-ed25519 " + ssh.FingerprintSHA256(strangerKey.PublicKey()), "somebody stands in between", ssh.FingerprintSHA256(w.Backup.HostKey())}},
		{"not its kind of key", func(h []sshjump.Hop) {
			h[0].KnownHosts = []string{writeFile(t, w.BastionAddr+" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7\n", 0o644)}
		}, 0, sshjump.HostKey, nil},
		{"bastion refuses the key", func(h []sshjump.Hop) { h[0].KeyFile = stranger }, 0, sshjump.Auth,
			[]string{`user "jump"`, ssh.FingerprintSHA256(strangerKey.PublicKey()), stranger}},
		{"backup refuses the key", func(h []sshjump.Hop) { h[1].KeyFile, h[1].Signers = "", []ssh.Signer{strangerKey} }, 1, sshjump.Auth,
			[]string{`user "backup"`, ssh.FingerprintSHA256(strangerKey.PublicKey())}},
		{"not permitted", func(h []sshjump.Hop) {
			h[1].Address = "elsewhere"
			h[1].KnownHosts = []string{writeFile(t, knownhosts.Line([]string{"elsewhere"}, w.Backup.HostKey()), 0o644)}
		}, 1, sshjump.Forward, []string{"backup (elsewhere:22)", "bastion (" + w.BastionAddr + ") does not permit it", "administratively prohibited"}},
		{"missing key", func(h []sshjump.Hop) { h[1].KeyFile = "/nonexistent" }, 1, sshjump.Key, []string{"/nonexistent", "no such file"}},
		{"no key", func(h []sshjump.Hop) { h[1].KeyFile = "" }, 1, sshjump.Key, []string{"no key was given"}},
		{"key is a folder", func(h []sshjump.Hop) { h[1].KeyFile = "/" }, 1, sshjump.Key, []string{"not a regular file"}},
		{"key open to the group", func(h []sshjump.Hop) { h[0].KeyFile = open }, 0, sshjump.Key, []string{"mode 0640", "chmod 600 " + open}},
		{"not a key", func(h []sshjump.Hop) { h[0].KeyFile = writeFile(t, "hello", 0o600) }, 0, sshjump.Key, []string{"no key found"}},
		{"key encrypted", func(h []sshjump.Hop) { h[0].KeyFile = encrypted }, 0, sshjump.Key, []string{"is encrypted, and no passphrase file was given"}},
		{"wrong passphrase", func(h []sshjump.Hop) { h[0].KeyFile, h[0].PassphraseFile = encrypted, writeFile(t, "wrong\n", 0o600) }, 0, sshjump.Key, []string{"decrypt " + encrypted}},
		{"passphrase open to others", func(h []sshjump.Hop) { h[0].KeyFile, h[0].PassphraseFile = encrypted, open }, 0, sshjump.Key, []string{"mode 0640"}},
		{"decrypted, but a stranger's", func(h []sshjump.Hop) {
			h[0].KeyFile, h[0].PassphraseFile = encrypted, writeFile(t, "open sesame\r\n", 0o400)
		}, 0, sshjump.Auth, []string{encrypted}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := hops(w)
			test.set(h)
			c, err := sshjump.Dial(within(t), h...)
			if err == nil {
				c.Close()
				t.Fatal("it was let through")
			}
			wantError(t, err, test.hop, test.kind, test.says...)
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			for _, secret := range []string{"sesame", "wrong"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q gives the passphrase away", err)
				}
			}
		})
	}
}

// The command in the error about an unknown host must do what it says.
func TestCommandMakesHostKnown(t *testing.T) {
	w := startWorld(t)
	h := hops(w)
	file := filepath.Join(t.TempDir(), "it's known")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h[0].KnownHosts, h[1].KnownHosts = []string{file}, []string{file}
	for range h {
		_, err := sshjump.Dial(within(t), h...)
		unknown, ok := errors.AsType[*sshjump.HostKeyError](err)
		if !ok || unknown.Changed {
			t.Fatalf("got %v", err)
		}
		_, command, _ := strings.Cut(err.Error(), "run: ")
		if out, err := exec.CommandContext(within(t), "sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	c, err := sshjump.Dial(within(t), h...)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestChangedHostKey(t *testing.T) {
	w := startWorld(t)
	_, key := newKey(t)
	w.Backup.SetHostKey(key)
	_, err := sshjump.Dial(within(t), hops(w)...)
	wantError(t, err, 1, sshjump.HostKey)
	changed, ok := errors.AsType[*sshjump.HostKeyError](err)
	if !ok || !changed.Changed || changed.File != w.KnownHosts || changed.Line != 2 {
		t.Errorf("%+v", changed)
	}
}

func TestUnreachable(t *testing.T) {
	w := startWorld(t)
	w.Backup.Refuse()
	_, err := sshjump.Dial(within(t), hops(w)...)
	wantError(t, err, 1, sshjump.Forward, "bastion ("+w.BastionAddr+") could not connect to it", "Connection refused")
	w.Bastion.Refuse()
	_, err = sshjump.Dial(within(t), hops(w)...)
	wantError(t, err, 0, sshjump.Network, "refused")
	if err := errors.Join(w.Backup.Welcome(), w.Bastion.Welcome()); err != nil {
		t.Fatal(err)
	}
	c, err := sshjump.Dial(within(t), hops(w)...)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A hop that goes away is named, and everything that waits is woken.
func TestKilled(t *testing.T) {
	for hop, name := range []string{"bastion", "backup"} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t)
			c, err := sshjump.Dial(within(t), hops(w)...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := c.Subsystem(within(t), "sftp")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			[]*sshworld.Server{w.Bastion, w.Backup}[hop].Kill()
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("read went on")
			}
			waitDone(t, c)
			wantError(t, c.Err(), hop, sshjump.Network, "connection")
		})
	}
}

func Example() {
	knownHosts := []string{"/etc/backup/known_hosts"}
	conn, err := sshjump.Dial(context.Background(),
		sshjump.Hop{Name: "bastion", Address: "gate.example.net", User: "jump", KeyFile: "/etc/backup/bastion_ed25519", KnownHosts: knownHosts},
		sshjump.Hop{Name: "storage", Address: "storage.lan:2222", User: "backup", KeyFile: "/etc/backup/storage_ed25519", KnownHosts: knownHosts},
	)
	if e, ok := errors.AsType[*sshjump.Error](err); ok && e.Kind == sshjump.Auth {
		fmt.Println("wait for half a minute before the next attempt:", e)
	}
	if err != nil {
		return
	}
	defer conn.Close()
	sftp, err := conn.Subsystem(context.Background(), "sftp")
	if err != nil {
		return
	}
	defer sftp.Close()
	<-conn.Done()
	fmt.Println("lost:", conn.Err())
}
