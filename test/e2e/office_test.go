package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/test/dnsworld"
	"releve/test/netlab"
	"releve/test/ovhworld"
	"releve/test/sites"
)

// The internet's addresses, of networks as unrelated as in life.
const (
	apiAddress   = "193.70.10.10"
	ns1Address   = "193.70.10.53"
	ns2Address   = "213.251.128.53"
	makerAddress = "10.52.10.10" // plain http is for private addresses
	mailAddress  = "217.70.178.25"
	site         = "www.example.net"
)

var (
	echoAddresses = []string{"208.67.222.222", "216.239.32.10"} // tell who asks
	references    = []string{"1.1.1.1", "8.8.8.8", "9.9.9.9"}
)

// outside is what the internet of an office's laboratory has to have.
func outside() netlab.Options {
	return netlab.Options{NAT: true, Resolver: ns1Address,
		Addresses: slices.Concat([]string{apiAddress, ns1Address, ns2Address, makerAddress, mailAddress}, echoAddresses, references)}
}

// office is the fail-over half of the world: a site on prod and on the standby, by nginx, OVH's API with its two name
// servers, and the owner's telephone and mailbox. All but the watchdog itself runs when it is made.
type office struct {
	lab           *netlab.Lab
	dir           string
	ca            *sites.CA
	prod, standby *netlab.Nginx
	ovh           *ovhworld.World
	inbox         *inbox
	site          string            // more lines for the site's table
	config        string            // more tables
	key           string            // the consumer key
	before        []ovhworld.Record // what the zone held first, see records
	watchdog      *netlab.Process
}

// pages is what one of the two web servers has.
type pages struct{ root, certificate, key string }

// newOffice builds an office in a laboratory made with [outside].
func newOffice(t *testing.T, lab *netlab.Lab, ca *sites.CA, prod, standby pages) *office {
	t.Helper()
	need(t, "nginx", "dig", "curl", "nft")
	o := &office{lab: lab, dir: folder(t), ca: ca, inbox: newInbox(), key: "consumer"}
	write(t, o.path("ca.pem"), string(ca.PEM()), 0o644)
	for _, dir := range []string{"prod", "standby"} {
		if err := os.Mkdir(o.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o.prod = &netlab.Nginx{Host: lab.Prod, Listen: []string{netlab.ProdIPv4 + ":443", "[" + netlab.ProdIPv6 + "]:443"}, Dir: o.path("prod"), Name: site,
		Root: prod.root, Certificate: prod.certificate, Key: prod.key}
	o.standby = &netlab.Nginx{Host: lab.Backup, Listen: []string{netlab.BackupIPv4 + ":443", "127.0.0.1:443"}, Dir: o.path("standby"), Name: site,
		Root: standby.root, Certificate: standby.certificate, Key: standby.key}
	for _, n := range []*netlab.Nginx{o.prod, o.standby} {
		if err := n.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	o.serve(t)
	return o
}

// smallOffice is an office of its own whose two sites have one page each, by which they can be told apart.
func smallOffice(t *testing.T) *office {
	t.Helper()
	needLab(t)
	dir := folder(t)
	lab, err := netlab.New(context.Background(), strings.ToLower(strings.TrimPrefix(filepath.Base(dir), "Test")), outside())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	ca, err := sites.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue([]string{site}, time.Now().AddDate(0, 0, 80))
	if err != nil {
		t.Fatal(err)
	}
	leaf, chain, key, err := sites.PEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), string(leaf)+string(chain), 0o644)
	write(t, filepath.Join(dir, "key.pem"), string(key), 0o600)
	of := func(name string) pages {
		root := filepath.Join(dir, name)
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, "index.html"), "this is "+name+"\n", 0o644)
		return pages{root, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	}
	return newOffice(t, lab, ca, of("prod"), of("standby"))
}

func (o *office) path(name string) string { return filepath.Join(o.dir, name) }

// zone is what the zone holds while prod serves.
func zone() []ovhworld.Record {
	return []ovhworld.Record{
		{SubDomain: "www", Type: "A", Target: netlab.ProdIPv4, TTL: 90},
		{SubDomain: "www", Type: "AAAA", Target: netlab.ProdIPv6, TTL: 120},
		{SubDomain: "mail", Type: "A", Target: netlab.ProdIPv4, TTL: 3600},
		{SubDomain: "", Type: "MX", Target: "10 mail.example.net.", TTL: 3600},
	}
}

// serve starts the internet.
func (o *office) serve(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	cert, err := o.ca.Issue([]string{apiAddress}, time.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	o.ovh = ovhworld.New(ovhworld.Options{PublishDelay: 2 * time.Second})
	t.Cleanup(o.ovh.Close)
	o.ovh.AddApplication("application", "secret")
	o.ovh.AddCredential("application", "consumer", time.Time{}, ovhworld.AllRules()...)
	o.ovh.AddZone("example.net", 3600, []string{"dns104.ovh.test", "ns104.ovh.test"}, zone()...)
	o.before = o.records()
	hosts := dnsworld.Zone{Origin: "ovh.test", TTL: 3600, NameServers: []string{"dns104.ovh.test"}, Records: []dnsworld.Record{
		{Name: "dns104", Type: "A", TTL: 3600, Target: ns1Address}, {Name: "ns104", Type: "A", TTL: 3600, Target: ns2Address},
	}}
	names := dnsworld.New(func() []dnsworld.Zone { return append(o.ovh.Zones(), hosts) })
	t.Cleanup(names.Close)
	internet := o.lab.Internet
	err = internet.Do(func() error {
		if _, err := o.ovh.Listen(ctx, apiAddress+":443", &cert); err != nil {
			return err
		}
		for _, a := range []string{ns1Address, ns2Address} {
			if _, err := names.Listen(ctx, a+":53"); err != nil {
				return err
			}
		}
		for _, a := range echoAddresses {
			echo := dnsworld.New(nil)
			t.Cleanup(echo.Close)
			echo.Echo("myip.example", netip.Addr{})
			if _, err := echo.Listen(ctx, a+":53"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listen := func(address string, serve func(net.Listener)) {
		l, err := internet.Listen(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			serve(l)
		}()
		t.Cleanup(func() {
			l.Close()
			<-done
		})
	}
	for _, a := range references {
		listen(a+":443", acceptAll)
	}
	listen(makerAddress+":80", func(l net.Listener) { _ = http.Serve(l, o.inbox) }) //nolint:gosec // lives as long as a test
	listen(mailAddress+":25", o.inbox.smtp)
}

func acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

// start starts the watchdog and waits until it has looked at everything.
func (o *office) start(t *testing.T) {
	t.Helper()
	o.configure(t)
	w, err := o.lab.Backup.Start(context.Background(), o.path("watchdog.log"), binary(t, "watchdog"), "run", "--config", o.path("watchdog.toml"))
	if err != nil {
		t.Fatal(err)
	}
	o.watchdog = w
	t.Cleanup(func() {
		if err := w.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("watchdog:\n%s\nOVH:\n%v\nmessages: %q", tail(w.Output(), 60), o.ovh.Effects(), o.inbox.all())
		}
	})
	eventually(t, 60*time.Second, 200*time.Millisecond, func() (bool, string) {
		s, err := o.status(t)
		return err == nil && s.State == "ok" && s.Sites[0].Verdict == "up" && s.Sites[0].State == "normal", fmt.Sprintf("%+v, %v", s, err)
	})
}

// configure writes watchdog.toml: default settings but for where things are.
func (o *office) configure(t *testing.T) {
	t.Helper()
	write(t, o.path("ovh_secret"), "secret\n", 0o600)
	write(t, o.path("ovh_consumer"), o.key+"\n", 0o600)
	write(t, o.path("ifttt_key"), "ifttt-key\n", 0o600)
	write(t, o.path("watchdog.toml"), fmt.Sprintf(`state_dir = "%[1]s/state"

[[site]]
name = "%[2]s"
zone = "example.net"
%[14]s

[site.probe]
url     = "https://%[2]s/"
prod    = ["%[3]s", "%[4]s"]
ca_file = "%[1]s/ca.pem"

%[5]s

[ovh]
endpoint                = "https://%[6]s/1.0"
ca_file                 = "%[1]s/ca.pem"
application_key         = "application"
application_secret_file = "%[1]s/ovh_secret"
consumer_key_file       = "%[1]s/ovh_consumer"

[home]
sources = ["dns:myip.example@%[7]s/A", "dns:myip.example@%[8]s/A"]

[uplink]
references = ["%[9]s:443", "%[10]s:443", "%[11]s:443"]

[status]
socket = "%[1]s/watchdog.sock"
listen = ""

[[notify]]
type     = "ifttt"
event    = "prod_down"
key_file = "%[1]s/ifttt_key"
url      = "http://%[12]s"

[[notify]]
type   = "smtp"
to     = "me@example.net"
from   = "watchdog@example.net"
server = "%[13]s:25"
`, o.dir, site, netlab.ProdIPv4, netlab.ProdIPv6, o.config, apiAddress, echoAddresses[0], echoAddresses[1],
		references[0], references[1], references[2], makerAddress, mailAddress, o.site), 0o644)
}

// command runs one of the watchdog's commands.
func (o *office) command(t *testing.T, args ...string) result {
	t.Helper()
	return runProgram(t, o.lab.Backup, binary(t, "watchdog"), append(args, "--config", o.path("watchdog.toml"))...)
}

// watchdogStatus is what we read of `watchdog status --json`.
type watchdogStatus struct {
	State    string   `json:"state"`
	Problems []string `json:"problems"`
	Sites    []struct {
		State   string `json:"state"`
		Serving string `json:"serving"`
		Verdict string `json:"verdict"`
		Ready   []struct {
			Check string `json:"check"`
			OK    bool   `json:"ok"`
			Why   string `json:"why"`
		} `json:"ready"`
	} `json:"sites"`
	Home struct {
		IPv4 string `json:"ipv4"`
	} `json:"home"`
	Uplink  string `json:"uplink"`
	Pending int    `json:"pending_notifications"`
}

func (o *office) status(t *testing.T) (watchdogStatus, error) {
	t.Helper()
	r := o.command(t, "status", "--json")
	var s watchdogStatus
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || len(s.Sites) != 1 {
		return s, fmt.Errorf("exit code %d: %w: %s", r.code, err, r.stderr)
	}
	return s, nil
}

// wait waits for a status.
func (o *office) wait(t *testing.T, within time.Duration, what string, ok func(watchdogStatus) bool) time.Duration {
	t.Helper()
	return eventually(t, within, 200*time.Millisecond, func() (bool, string) {
		s, err := o.status(t)
		return err == nil && ok(s), fmt.Sprintf("not %s: %+v, %v", what, s, err)
	})
}

// dig asks both name servers for the site's addresses, as an owner would, and returns what each says:
// "A 5.39.80.7 60; AAAA 2001:db8::10 120".
func (o *office) dig(t *testing.T) []string {
	t.Helper()
	return o.digName(t, site)
}

func (o *office) digName(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, server := range []string{ns1Address, ns2Address} {
		var records []string
		for _, kind := range []string{"A", "AAAA"} {
			out, err := o.lab.Internet.Run(t.Context(), "dig", "+noall", "+answer", "+tries=1", "+time=2", "@"+server, name, kind)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out) {
				if f := strings.Fields(line); len(f) == 5 { // NAME TTL IN TYPE TARGET
					records = append(records, f[3]+" "+f[4]+" "+f[1])
				}
			}
		}
		all = append(all, strings.Join(records, "; "))
	}
	return all
}

const (
	digProd    = "A " + netlab.ProdIPv4 + " 90; AAAA " + netlab.ProdIPv6 + " 120"
	digStandby = "A " + netlab.HomeIPv4 + " 60"
)

// published waits until both name servers serve this.
func (o *office) published(t *testing.T, want string, within time.Duration) time.Duration {
	t.Helper()
	return eventually(t, within, 250*time.Millisecond, func() (bool, string) {
		got := o.dig(t)
		return got[0] == want && got[1] == want, fmt.Sprintf("dig says %q, want %q", got, want)
	})
}

// visit opens a page of the site as a browser somewhere does: its name is resolved, its certificate checked.
func (o *office) visit(t *testing.T, page string) string {
	t.Helper()
	out, err := o.lab.Internet.Run(t.Context(), "curl", "--silent", "--show-error", "--fail", "--max-time", "10",
		"--cacert", o.path("ca.pem"), "https://"+site+"/"+page)
	if err != nil {
		t.Errorf("visit: %v", err)
	}
	return out
}

// records are the zone's, without their ids.
func (o *office) records() []ovhworld.Record {
	records := o.ovh.Records("example.net")
	for i := range records {
		records[i].ID = 0
	}
	slices.SortFunc(records, func(a, b ovhworld.Record) int { return strings.Compare(a.String(), b.String()) })
	return records
}

// inbox is the owner's telephone, through IFTTT, and mailbox.
type inbox struct {
	mu       sync.Mutex
	messages []string // "ifttt: …", "mail: …", with the subject
}

func newInbox() *inbox { return &inbox{} }

func (b *inbox) add(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, text)
}

func (b *inbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.messages)
}

// with are the messages whose text holds all words.
func (b *inbox) with(words ...string) []string {
	return slices.DeleteFunc(b.all(), func(m string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(m, w) })
	})
}

// ServeHTTP is IFTTT's webhook.
func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/trigger/prod_down/with/key/ifttt-key" {
		http.Error(w, "You sent an invalid key.", http.StatusUnauthorized)
		return
	}
	var values struct{ Value1, Value2, Value3 string }
	if err := json.NewDecoder(r.Body).Decode(&values); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.add("ifttt: " + values.Value1 + " | " + values.Value2 + " | " + values.Value3)
	fmt.Fprint(w, "Congratulations! You've fired the prod_down event")
}

// smtp is a mail server (RFC 5321) without extensions, which takes everything.
func (b *inbox) smtp(l net.Listener) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_ = b.session(textproto.NewConn(c))
		})
	}
}

func (b *inbox) session(c *textproto.Conn) error {
	if err := c.PrintfLine("220 mail.example.net ESMTP"); err != nil {
		return err
	}
	for {
		line, err := c.ReadLine()
		if err != nil {
			return err
		}
		reply := "250 OK"
		switch verb, _, _ := strings.Cut(strings.ToUpper(line), " "); verb {
		case "DATA":
			if err := c.PrintfLine("354 go ahead"); err != nil {
				return err
			}
			head, err := c.ReadMIMEHeader()
			if err != nil {
				return err
			}
			body, err := c.ReadDotBytes()
			if err != nil {
				return err
			}
			b.add("mail: " + head.Get("Subject") + " | " + string(body))
		case "QUIT":
			return c.PrintfLine("221 bye")
		}
		if err := c.PrintfLine("%s", reply); err != nil {
			return err
		}
	}
}
