package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/test/netlab"
	"releve/test/sites"
	"releve/test/treecmp"
)

// certbot writes a folder as certbot does: the same files and links in the same order, see its storage.py.
type certbot struct {
	root  string // etc/letsencrypt
	name  string
	ca    *sites.CA
	n     int          // of the present version
	pause func() error // called after each step; an error ends what is under way there
}

var lineageParts = []string{"privkey", "cert", "chain", "fullchain"} // in the order of writing

func (c *certbot) live(part string) string {
	return filepath.Join(c.root, "live", c.name, part+".pem")
}

func (c *certbot) archive(part string, n int) string {
	return filepath.Join(c.root, "archive", c.name, fmt.Sprintf("%s%d.pem", part, n))
}

// step ends a step that went as err says.
func (c *certbot) step(err error) error {
	if err != nil || c.pause == nil {
		return err
	}
	return c.pause()
}

// first makes the folder and the first certificate.
func (c *certbot) first() error {
	for _, dir := range []string{"", "live", "archive", "renewal", "accounts", filepath.Join("live", c.name), filepath.Join("archive", c.name)} {
		mode := fs.FileMode(0o755)
		if dir == "live" || dir == "archive" || dir == "accounts" {
			mode = 0o700
		}
		if err := os.Mkdir(filepath.Join(c.root, dir), mode); err != nil {
			return err
		}
	}
	if err := c.issue(1); err != nil {
		return err
	}
	c.n = 1
	for _, part := range lineageParts {
		if err := c.step(c.link(c.live(part), part)); err != nil {
			return err
		}
	}
	return c.conf()
}

// link makes a link to the present version.
func (c *certbot) link(path, part string) error {
	return os.Symlink(fmt.Sprintf("../../archive/%s/%s%d.pem", c.name, part, c.n), path)
}

// issue writes the four files of a version; the key is for its owner alone from its first byte on.
func (c *certbot) issue(n int) error {
	cert, err := c.ca.Issue([]string{c.name}, time.Now().AddDate(0, 0, 90))
	if err != nil {
		return err
	}
	leaf, chain, key, err := sites.PEM(cert)
	if err != nil {
		return err
	}
	texts := [][]byte{key, leaf, chain, slices.Concat(leaf, chain)}
	for i, part := range lineageParts {
		mode := fs.FileMode(0o644)
		if part == "privkey" {
			mode = 0o600
		}
		if err := c.step(os.WriteFile(c.archive(part, n), texts[i], mode)); err != nil {
			return err
		}
	}
	return nil
}

// conf replaces the renewal configuration atomically.
func (c *certbot) conf() error {
	path := filepath.Join(c.root, "renewal", c.name+".conf")
	text := fmt.Appendf(nil, "version = 2.1.0\narchive_dir = /etc/letsencrypt/archive/%s\n", c.name)
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return c.step(os.Rename(path+".new", path))
}

// renew writes the next version and exchanges the links, one after the other, with those to the old version beside them
// meanwhile.
func (c *certbot) renew() error {
	if err := c.issue(c.n + 1); err != nil {
		return err
	}
	if err := c.conf(); err != nil {
		return err
	}
	previous := func(part string) string { return filepath.Join(c.root, "live", c.name, "previous_"+part+".pem") }
	for _, part := range lineageParts {
		if err := c.step(c.link(previous(part), part)); err != nil {
			return err
		}
	}
	c.n++
	for _, part := range lineageParts {
		if err := c.step(os.Remove(c.live(part))); err != nil {
			return err
		}
		if err := c.step(c.link(c.live(part), part)); err != nil {
			return err
		}
	}
	for _, part := range lineageParts {
		if err := c.step(os.Remove(previous(part))); err != nil {
			return err
		}
	}
	return nil
}

// lineageReader loads the certificate and key that the replica shows, over and over, as a web server that is reloaded.
type lineageReader struct {
	mu       sync.Mutex
	pairs    int
	mixed    time.Duration // the longest time that they did not belong together
	open     []string      // private keys that others could read
	since    time.Time     // of the mismatch there is now
	previous bool
}

func (r *lineageReader) run(ctx context.Context, live string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, err := tls.LoadX509KeyPair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
		fi, statErr := os.Stat(filepath.Join(live, "privkey.pem"))
		names, _ := filepath.Glob(filepath.Join(live, "previous_*"))
		r.mu.Lock()
		r.pairs++
		switch {
		case err == nil:
			r.since = time.Time{}
		case r.since.IsZero():
			r.since = time.Now()
		default:
			r.mixed = max(r.mixed, time.Since(r.since))
		}
		if statErr == nil && fi.Mode().Perm()&0o077 != 0 {
			r.open = append(r.open, fi.Mode().String())
		}
		r.previous = r.previous || len(names) > 0
		r.mu.Unlock()
	}
}

// TestCertificateRenewed: certbot renews, slowly; the replica goes from one complete set to the next, and the standby's
// nginx is reloaded with it and serves it.
func TestCertificateRenewed(t *testing.T) {
	t.Parallel()
	p := newPair(t, netlab.Options{RTT: 10 * time.Millisecond})
	p.source = p.path("letsencrypt")
	bot := certbotIn(t, p.source)
	write(t, p.path("syncagent.toml"), p.configuration(`kind = "letsencrypt"`), 0o644)
	p.start(t)
	p.inSync(t, 30*time.Second)
	p.identical(t, 0)

	live := filepath.Join(p.replica, "live", bot.name)
	reader := &lineageReader{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		reader.run(ctx, live)
	}()
	defer func() {
		cancel()
		<-done
	}()

	var nginx *netlab.Nginx
	if netlab.NoNginx() == nil {
		nginx = &netlab.Nginx{Host: p.backup.Host, Dir: p.mkdir(t, "nginx"), Name: bot.name, Root: p.dir,
			Certificate: filepath.Join(live, "fullchain.pem"), Key: filepath.Join(live, "privkey.pem")}
		if p.lab != nil {
			nginx.Listen = []string{netlab.BackupIPv4 + ":443"}
		} else {
			nginx.Listen = []string{freePort(t)}
		}
		if err := nginx.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := nginx.Kill(); err != nil {
				t.Error(err)
			}
		})
	} else {
		t.Logf("left out: the reload, for there is %v", netlab.NoNginx())
	}

	pace := time.NewTicker(40 * time.Millisecond) // longer than anything settles
	defer pace.Stop()
	for _, slow := range []bool{true, false, true} {
		bot.pause = nil
		if slow {
			bot.pause = func() error {
				<-pace.C
				return nil
			}
		}
		if err := bot.renew(); err != nil {
			t.Fatal(err)
		}
		p.identical(t, 10*time.Second)
		if nginx == nil {
			continue
		}
		if err := nginx.Reload(t.Context()); err != nil {
			t.Errorf("reload: %v", err)
		}
		want, err := os.ReadFile(bot.archive("cert", bot.n))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, 50*time.Millisecond, func() (bool, string) {
			got, err := served(t.Context(), nginx, bot.name, bot.ca)
			return err == nil && got == string(want), fmt.Sprintf("the standby does not serve the new certificate: %v", err)
		})
	}
	// A renewal that breaks off half-way leaves the replica with the old set.
	before := p.path("before")
	copyTree(t, p.replica, before)
	steps, errKilled := 0, errors.New("certbot was killed")
	bot.pause = func() error {
		if steps++; steps == 12 { // the key is the new one, the certificate has no link
			return errKilled
		}
		return nil
	}
	if err := bot.renew(); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, 100*time.Millisecond, func() (bool, string) {
		r := p.syncagent(t, "status")
		return strings.Contains(r.stdout, "is not replicated while it is incomplete"), r.stdout + r.stderr
	})
	differ, err := treecmp.Compare(filepath.Join(before, "live"), filepath.Join(p.replica, "live"), ours)
	if err != nil || len(differ) > 0 {
		t.Errorf("an unfinished renewal was replicated: %q, %v", differ, err)
	}

	reader.mu.Lock()
	defer reader.mu.Unlock()
	t.Logf("%d looks at the replica's pair, mixed for %v at the longest", reader.pairs, reader.mixed)
	if reader.mixed > 100*time.Millisecond {
		t.Errorf("certificate and key did not belong together for %v", reader.mixed)
	}
	if len(reader.open) > 0 {
		t.Errorf("the private key was open to others: %q", reader.open)
	}
	if reader.previous {
		t.Error("certbot's temporary links were replicated")
	}
	p.noLitter(t)
}

// served is the certificate that a server presents, in PEM.
func served(ctx context.Context, n *netlab.Nginx, name string, ca *sites.CA) (string, error) {
	conn, err := n.Host.Dial(ctx, "tcp", n.Listen[0])
	if err != nil {
		return "", err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: ca.Pool()})
	if err := client.HandshakeContext(ctx); err != nil {
		return "", err
	}
	leaf := client.ConnectionState().PeerCertificates[0]
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})), nil
}

// certbotIn makes a folder with the site's certificate.
func certbotIn(t *testing.T, root string) *certbot {
	t.Helper()
	ca, err := sites.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	bot := &certbot{root: root, name: site, ca: ca}
	if err := bot.first(); err != nil {
		t.Fatal(err)
	}
	return bot
}
