package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"releve/test/dnsworld"
	"releve/test/ovhworld"
	"releve/test/sites"
	"releve/test/sshworld"
)

const (
	siteName = "www.example.net"
	zoneName = "example.net"

	prodIPv4 = "127.0.0.10" // where production really listens
	prodIPv6 = "::1"

	// Addresses on the internet, for the watchdog believes no others to be a home's. Nothing is ever sent there.
	home1 = "81.2.69.142"
	home2 = "81.2.69.160"

	echoName = "myip.example"

	publishDelay = 2 * time.Second // between OVH's acceptance of a refresh and its name servers
)

// world is everything around the two daemons.
type world struct {
	dir string

	webroot     string // production's folders
	letsencrypt string
	replica     string // what the backup's SFTP server shows as /replica

	ca       *sites.CA
	ssh      *sshworld.World
	prod     []*sites.Site // one for each of its addresses
	standby  *sites.Site
	port     string // production's, and thus that of the URL
	ovh      *ovhworld.World
	endpoint string
	ns       *dnsworld.Server
	nsAddr   string
	home     netip.Addr
	echoes   []string           // as home.sources
	refs     []string           // as uplink.references
	line     []*dnsworld.Server // what is at the other end of the home's line: echoes and references
	whoami   []*dnsworld.Server // the echoes alone
	inbox    *inbox

	closers []func()
}

// newWorld builds the world in a folder. It ends by close.
func newWorld(ctx context.Context, dir string) (w *world, err error) {
	w = &world{dir: dir, webroot: filepath.Join(dir, "prod", "www"), letsencrypt: filepath.Join(dir, "prod", "letsencrypt")}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.ca, err = sites.NewCA(); err != nil {
		return nil, err
	}
	// The servers outlive ctx, so that the daemons end in an orderly world.
	ctx = context.WithoutCancel(ctx)
	for _, build := range []func(context.Context) error{w.buildContent, w.buildSSH, w.buildSites, w.buildZone, w.buildInternet, w.buildInbox} {
		if err := build(ctx); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) close() {
	for _, f := range slices.Backward(w.closers) {
		f()
	}
	w.closers = nil
}

func (w *world) atEnd(f func()) { w.closers = append(w.closers, f) }

// path is a path in the world's folder.
func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) buildContent(context.Context) error {
	if err := writeWebroot(w.webroot); err != nil {
		return err
	}
	return issue(w.ca, w.letsencrypt, 1, func() {})
}

func (w *world) buildSSH(ctx context.Context) error {
	var err error
	if w.ssh, err = sshworld.Start(ctx, w.path("ssh"), sshworld.Options{Root: w.path("backup")}); err != nil {
		return err
	}
	w.atEnd(func() { _ = w.ssh.Close() })
	w.replica = filepath.Join(w.ssh.Root, "replica")
	for _, dir := range []string{"webroot", "letsencrypt", ".releve"} {
		if err := os.MkdirAll(filepath.Join(w.replica, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) buildSites(context.Context) error {
	site := func(address, webroot, letsencrypt string) (*sites.Site, error) {
		s, err := sites.Start(sites.Config{
			Address: address, Names: []string{siteName}, CA: w.ca,
			Handler: http.FileServer(http.Dir(webroot)), GetCertificate: (&keyring{dir: letsencrypt}).certificate,
		})
		if err == nil {
			w.atEnd(func() { _ = s.Close() })
		}
		return s, err
	}
	four, err := site(net.JoinHostPort(prodIPv4, "0"), w.webroot, w.letsencrypt)
	if err != nil {
		return err
	}
	w.prod = []*sites.Site{four}
	if _, w.port, err = net.SplitHostPort(four.Addr()); err != nil {
		return err
	}
	// Not every machine has IPv6, nor has every machine this port free there.
	if six, err := site(net.JoinHostPort(prodIPv6, w.port), w.webroot, w.letsencrypt); err == nil {
		w.prod = append(w.prod, six)
	}
	w.standby, err = site("127.0.0.1:0", filepath.Join(w.replica, "webroot"), filepath.Join(w.replica, "letsencrypt"))
	return err
}

// prodAddrs are production's addresses, as its records say.
func (w *world) prodAddrs() []string { return []string{prodIPv4, prodIPv6}[:len(w.prod)] }

// The access to OVH's API.
const (
	applicationKey    = "demo-application"
	applicationSecret = "demo-application-secret"
	consumerKey       = "demo-consumer"
)

func (w *world) buildZone(ctx context.Context) error {
	w.ovh = ovhworld.New(ovhworld.Options{PublishDelay: publishDelay})
	w.atEnd(w.ovh.Close)
	w.ovh.AddApplication(applicationKey, applicationSecret)
	w.ovh.AddCredential(applicationKey, consumerKey, time.Time{}, ovhworld.AllRules()...)
	var err error
	if w.endpoint, err = w.ovh.Listen(ctx, "127.0.0.1:0", nil); err != nil {
		return err
	}
	w.ns = dnsworld.New(w.ovh.Zones)
	w.atEnd(w.ns.Close)
	if w.nsAddr, err = w.ns.Listen(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	records := []ovhworld.Record{
		{SubDomain: "www", Type: "A", Target: prodIPv4, TTL: 60},
		{SubDomain: "", Type: "MX", Target: "10 mail.example.net."},
		{SubDomain: "mail", Type: "A", Target: prodIPv4},
	}
	if len(w.prod) > 1 {
		records = append(records, ovhworld.Record{SubDomain: "www", Type: "AAAA", Target: prodIPv6, TTL: 120})
	}
	w.ovh.AddZone(zoneName, 3600, []string{w.nsAddr}, records...)
	return nil
}

// buildInternet makes what the watchdog asks about its own line: two services that tell its address, and three
// references that know the root's name servers.
func (w *world) buildInternet(ctx context.Context) error {
	root := dnsworld.Zone{Origin: ".", TTL: 518400, NameServers: []string{"a.root-servers.net.", "b.root-servers.net."}}
	listen := func(zones func() []dnsworld.Zone, host string) (*dnsworld.Server, string, error) {
		s := dnsworld.New(zones)
		w.atEnd(s.Close)
		w.line = append(w.line, s)
		address, err := s.Listen(ctx, host+":0")
		return s, address, err
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} { // two operators
		s, address, err := listen(nil, host)
		if err != nil {
			return err
		}
		w.whoami = append(w.whoami, s)
		w.echoes = append(w.echoes, fmt.Sprintf("dns:%s@%s/A", echoName, address))
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		_, address, err := listen(func() []dnsworld.Zone { return []dnsworld.Zone{root} }, host)
		if err != nil {
			return err
		}
		w.refs = append(w.refs, "dns:"+address)
	}
	w.moveHome(home1)
	return nil
}

func (w *world) buildInbox(ctx context.Context) error {
	var err error
	w.inbox, err = newInbox(ctx)
	if err == nil {
		w.atEnd(w.inbox.close)
	}
	return err
}

// moveHome gives the house another address: whoever is asked says so, and the router answers under it alone.
func (w *world) moveHome(address string) {
	w.home = netip.MustParseAddr(address)
	for _, s := range w.whoami {
		s.Echo(echoName, w.home)
	}
}

// cutLine cuts the house off, or joins it again. Production is made to hang with it: in this world that is what a
// probe meets whose packets get nowhere.
func (w *world) cutLine(cut bool) {
	for _, s := range w.line {
		s.Silence(cut)
	}
	fault := sites.Healthy
	if cut {
		fault = sites.Hang
	}
	for _, s := range w.prod {
		s.SetFault(fault)
	}
}

func (w *world) killProd() {
	for _, s := range w.prod {
		s.Stop()
	}
}

func (w *world) reviveProd() error {
	var errs []error
	for _, s := range w.prod {
		errs = append(errs, s.Resume())
	}
	return errors.Join(errs...)
}

// records are those of the site, as the API knows them: "A 127.0.0.10 60, …".
func (w *world) records() string {
	var out []string
	for _, r := range w.ovh.Records(zoneName) {
		if r.SubDomain == "www" {
			out = append(out, fmt.Sprintf("%s %s ttl %d", r.Type, r.Target, r.TTL))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// keyring serves the certificate that a letsencrypt folder holds, and like a web server keeps to the last good pair
// while the folder holds none.
type keyring struct {
	dir  string
	last atomic.Pointer[tls.Certificate]
}

func (k *keyring) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := loadPair(k.dir)
	if err == nil {
		k.last.Store(&pair)
		return &pair, nil
	}
	if last := k.last.Load(); last != nil {
		return last, nil
	}
	return nil, err
}

// loadPair reads the certificate and the key that stand in live/ at this moment, which may not belong together.
func loadPair(dir string) (tls.Certificate, error) {
	live := filepath.Join(dir, "live", siteName)
	return tls.LoadX509KeyPair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
}
