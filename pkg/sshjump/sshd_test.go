package sshjump_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"releve/pkg/sshjump"
	"releve/test/memnet"
	"releve/test/sshworld"
)

// realWorld is two of OpenSSH's sshd: a bastion as its manual advises to set one
// up, and a server with SFTP. Their known_hosts file has Ed25519 keys alone,
// though both have ECDSA and RSA keys, too.
type realWorld struct {
	bastion, backup *sshworld.SSHD
	bastionDir      string
	hops            []sshjump.Hop
}

func startReal(t *testing.T, bastion ...string) *realWorld {
	t.Helper()
	// sshd reads authorized_keys as the user who logs in, so that t.TempDir, all
	// below it being closed to others, will only do for root: who logs in here.
	key, _ := newKey(t)
	r := &realWorld{bastionDir: t.TempDir()}
	start := func(dir string, config ...string) *sshworld.SSHD {
		s, err := sshworld.StartSSHD(context.Background(), dir, key+".pub", config...)
		if errors.Is(err, sshworld.ErrNoSSHD) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	r.backup = start(t.TempDir(), "Subsystem sftp internal-sftp", "AllowTcpForwarding no")
	if len(bastion) == 0 {
		bastion = []string{"PermitOpen " + r.backup.Addr}
	}
	r.bastion = start(r.bastionDir, append([]string{"ForceCommand /usr/sbin/nologin", "AllowTcpForwarding local", "PermitTTY no", "ClientAliveInterval 1"}, bastion...)...)
	known := writeFile(t, knownhosts.Line([]string{r.bastion.Addr}, r.bastion.HostKey)+"\n"+knownhosts.Line([]string{r.backup.Addr}, r.backup.HostKey)+"\n", 0o644)
	r.hops = []sshjump.Hop{
		{Name: "bastion", Address: r.bastion.Addr, User: "root", KeyFile: key, KnownHosts: []string{known}},
		{Name: "backup", Address: r.backup.Addr, User: "root", KeyFile: key, KnownHosts: []string{known}},
	}
	return r
}

func (r *realWorld) bastionSays(t *testing.T, what string) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.bastionDir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), what)
}

func TestOpenSSH(t *testing.T) {
	r := startReal(t)

	t.Run("two hops", func(t *testing.T) {
		d := &sshjump.Dialer{KeepaliveInterval: 20 * time.Millisecond}
		c, err := d.Dial(within(t), r.hops...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		useSubsystem(t, c)
		eventually(t, "the command that turns Nagle off", func() bool {
			return r.bastionSays(t, "Starting session: forced-command (config) '/usr/sbin/nologin'")
		})
		_, err = c.Subsystem(within(t), "nonesuch")
		wantError(t, err, 1, sshjump.Protocol, "refused")
		useSubsystem(t, c)
		if c.Err() != nil {
			t.Error(c.Err())
		}
	})

	t.Run("not permitted", func(t *testing.T) {
		h := []sshjump.Hop{r.hops[0], r.hops[1]}
		h[1].Address = r.bastion.Addr
		_, err := sshjump.Dial(within(t), h...)
		wantError(t, err, 1, sshjump.Forward, "does not permit it", "administratively prohibited")
	})

	t.Run("wrong key", func(t *testing.T) {
		h := []sshjump.Hop{r.hops[0], r.hops[1]}
		h[1].KeyFile, _ = newKey(t)
		_, err := sshjump.Dial(within(t), h...)
		wantError(t, err, 1, sshjump.Auth, `user "root"`, h[1].KeyFile)
	})

	t.Run("wrong host key", func(t *testing.T) {
		h := []sshjump.Hop{r.hops[0], r.hops[1]}
		_, other := newKey(t)
		h[1].KnownHosts = []string{writeFile(t, knownhosts.Line([]string{h[1].Address}, other.PublicKey()), 0o644)}
		_, err := sshjump.Dial(within(t), h...)
		wantError(t, err, 1, sshjump.HostKey, "somebody stands in between", ssh.FingerprintSHA256(r.backup.HostKey))
	})

	t.Run("unknown host", func(t *testing.T) {
		h := []sshjump.Hop{r.hops[0], r.hops[1]}
		h[0].KnownHosts = []string{os.DevNull}
		_, err := sshjump.Dial(within(t), h...)
		// The key that owners know, not the ECDSA key that x/crypto/ssh would ask for.
		wantError(t, err, 0, sshjump.HostKey, "it offered ssh-ed25519 "+ssh.FingerprintSHA256(r.bastion.HostKey))
	})

	t.Run("black hole", func(t *testing.T) {
		// The bastion makes itself heard every second (ClientAliveInterval), which
		// must not be taken for a sign of life of the backup.
		d := &sshjump.Dialer{KeepaliveInterval: 100 * time.Millisecond, KeepaliveTimeout: 2500 * time.Millisecond}
		c, err := d.Dial(within(t), r.hops...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := r.backup.Stop(); err != nil {
			t.Fatal(err)
		}
		defer r.backup.Continue()
		waitDone(t, c)
		wantError(t, c.Err(), 1, sshjump.Network, "given up")

		d.HandshakeTimeout = 500 * time.Millisecond
		_, err = d.Dial(within(t), r.hops...)
		wantError(t, err, 1, sshjump.Network, "no answer within 500ms")
	})

	t.Run("killed", func(t *testing.T) { // the last: the bastion does not come back
		c, err := sshjump.Dial(within(t), r.hops...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r.bastion.Close()
		waitDone(t, c)
		wantError(t, c.Err(), 0, sshjump.Network, "connection")
		_, err = sshjump.Dial(within(t), r.hops...)
		wantError(t, err, 0, sshjump.Network, "refused")
	})
}

// A bastion that refuses sessions altogether is used as it is.
func TestOpenSSHWithoutSessions(t *testing.T) {
	r := startReal(t, "MaxSessions 0")
	c, err := sshjump.Dial(within(t), r.hops...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	useSubsystem(t, c)
}

// Certificates of hosts are accepted where their authority is known, whatever the
// type of the authority's key.
func TestCertAuthority(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	_, host := newKey(t)
	cert := &ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, KeyId: "host", ValidPrincipals: []string{"server"},
		ValidBefore: ssh.CertTimeInfinity,
	}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(cert, host)
	if err != nil {
		t.Fatal(err)
	}
	network := new(memnet.Network)
	w, err := sshworld.Start(t.Context(), t.TempDir(), sshworld.Options{Network: network, BastionListen: "bastion:22", BackupListen: "server:22"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Backup.SetHostKey(signer)
	h := hops(w)[1]
	h.Address = "server"
	h.KnownHosts = []string{writeFile(t, "@cert-authority server "+string(ssh.MarshalAuthorizedKey(authority.PublicKey())), 0o644)}
	d := &sshjump.Dialer{DialContext: network.DialContext}
	c, err := d.Dial(within(t), h)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()

	_, other := newKey(t)
	h.KnownHosts = []string{writeFile(t, "@cert-authority server "+string(ssh.MarshalAuthorizedKey(other.PublicKey())), 0o644)}
	_, err = d.Dial(within(t), h)
	wantError(t, err, 0, sshjump.HostKey)
}
