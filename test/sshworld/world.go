// Package sshworld is the SSH side of the world in which tests and the demo run:
// a bastion that forwards to a backup and to nothing else, a backup with an SFTP
// server over one folder, their host keys, the client's keys and known_hosts.
// Both listen on loopback, live in this process, and misbehave on request.
//
// The SFTP server is this package's own, because pkg/sftp's differs from
// OpenSSH's exactly where a client that pipelines would notice: it runs writes
// and attribute changes of one flight in any order, applies FSETSTAT by path, and
// knows neither limits@openssh.com nor lsetstat@openssh.com. See sftp.go. The
// real sftp-server, or the whole of OpenSSH's sshd, can be used instead.
package sshworld

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"releve/test/memnet"
)

// SFTPServer is where Debian and its children keep OpenSSH's SFTP server.
const SFTPServer = "/usr/lib/openssh/sftp-server"

// Options of a [World]; the zero value will do.
type Options struct {
	// Root is the folder that the backup serves, as "/". It is made if need be.
	// Empty means "root" in the world's own folder.
	Root string

	// BackupName is HOST:PORT by which the bastion knows the backup. Nobody else
	// can resolve it. Empty means "backup.lan:22".
	BackupName string

	// BastionListen and BackupListen are addresses to listen on. Empty means any
	// port of 127.0.0.1.
	BastionListen, BackupListen string

	// Network is listened on in place of TCP, under the same addresses, which are
	// then needed. With it the world runs in fake time (testing/synctest).
	Network *memnet.Network

	// Command runs an SFTP server on its standard input and output, for instance
	// {SFTPServer}, in place of the built-in one. Such a server shows the whole
	// file system: see World.Remote.
	Command []string

	// Without lists extensions that the built-in SFTP server does not have, such
	// as "posix-rename@openssh.com".
	Without []string
}

// World is a running bastion and backup, and what a client needs to reach them.
type World struct {
	Bastion, Backup *Server

	BastionAddr string // HOST:PORT
	BackupAddr  string // HOST:PORT on which the backup really listens
	BackupName  string // HOST:PORT by which the bastion knows it

	BastionUser, BackupUser string
	BastionKey, BackupKey   string // private key files, mode 0600
	KnownHosts              string // a file with the bastion, BackupName and BackupAddr

	Root string // the folder that the backup serves

	absolute bool
	network  *memnet.Network
}

// Start builds a world. Its keys are kept in dir and used again by the next
// Start with the same dir. It ends with ctx or by Close.
func Start(ctx context.Context, dir string, o Options) (*World, error) {
	w := &World{
		BackupName:  o.BackupName,
		BastionUser: "jump",
		BackupUser:  "backup",
		BastionKey:  filepath.Join(dir, "bastion_ed25519"),
		BackupKey:   filepath.Join(dir, "backup_ed25519"),
		KnownHosts:  filepath.Join(dir, "known_hosts"),
		Root:        o.Root,
		absolute:    o.Command != nil,
		network:     o.Network,
	}
	if w.BackupName == "" {
		w.BackupName = "backup.lan:22"
	}
	if w.Root == "" {
		w.Root = filepath.Join(dir, "root")
	}
	for _, d := range []string{dir, w.Root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.Backup, err = w.server(dir, "backup", o.BackupListen, w.BackupKey); err != nil {
		return nil, err
	}
	w.Backup.user = w.BackupUser
	w.Backup.subsystem = sftpSubsystem(w.Root, o)
	w.BackupAddr = w.Backup.Addr()

	if w.Bastion, err = w.server(dir, "bastion", o.BastionListen, w.BastionKey); err != nil {
		return nil, err
	}
	w.Bastion.user = w.BastionUser
	w.Bastion.permit = map[string]string{w.BackupName: w.BackupAddr}
	w.BastionAddr = w.Bastion.Addr()

	known := knownhosts.Line([]string{w.BastionAddr}, w.Bastion.HostKey()) + "\n" +
		knownhosts.Line([]string{w.BackupName, w.BackupAddr}, w.Backup.HostKey()) + "\n"
	if err = os.WriteFile(w.KnownHosts, []byte(known), 0o644); err != nil {
		return nil, err
	}
	w.Backup.start()
	w.Bastion.start()
	context.AfterFunc(ctx, func() { w.Close() })
	return w, nil
}

// server makes a server that lets the key in clientKey in.
func (w *World) server(dir, name, listen, clientKey string) (*Server, error) {
	host, err := keyFile(filepath.Join(dir, name+"_host_ed25519"))
	if err != nil {
		return nil, err
	}
	client, err := keyFile(clientKey)
	if err != nil {
		return nil, err
	}
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	s := newServer(host, client.PublicKey())
	if w.network != nil {
		s.listen, s.dial = w.network.Listen, w.network.DialContext
	}
	if s.listener, err = s.listen(listen); err != nil {
		return nil, err
	}
	s.address = s.listener.Addr().String()
	return s, nil
}

// Remote is the path by which the backup's SFTP server knows rel, a path
// relative to Root.
func (w *World) Remote(rel string) string {
	if w.absolute {
		return filepath.Join(w.Root, rel)
	}
	return filepath.Join("/", rel)
}

// Close ends both servers and every connection, and waits for them.
func (w *World) Close() error {
	var errs []error
	for _, s := range []*Server{w.Bastion, w.Backup} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// keyFile reads a private key, or makes one.
func keyFile(name string) (ssh.Signer, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		if text, err = WriteKey(name); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(text)
}

// WriteKey makes an Ed25519 key and writes it to a file of mode 0600, and its
// public half to name + ".pub". It returns what it wrote to the first.
func WriteKey(name string) ([]byte, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(name+".pub", ssh.MarshalAuthorizedKey(key), 0o644); err != nil {
		return nil, err
	}
	return text, nil
}

func sftpSubsystem(root string, o Options) func(context.Context, ssh.Channel, func(op, path string) error) error {
	if o.Command != nil {
		return func(ctx context.Context, ch ssh.Channel, _ func(op, path string) error) error {
			return runCommand(ctx, o.Command, root, ch)
		}
	}
	return func(_ context.Context, ch ssh.Channel, fault func(op, path string) error) error {
		dir, err := os.OpenRoot(root)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		defer dir.Close()
		return ServeSFTP(ch, dir, o.Without, fault)
	}
}
