package watchdog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"releve/internal/watchdog"
	"releve/test/dnsworld"
	"releve/test/ovhworld"
	"releve/test/sites"
)

// TestMain lets the test binary be the program too, for what can only be tested by killing it.
func TestMain(m *testing.M) {
	if os.Getenv("RELEVE_TEST_WATCHDOG") == "1" {
		os.Exit(watchdog.Main(watchdog.Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}))
	}
	_ = flag.Set("test.parallel", "12") // the tests mostly wait
	goleak.VerifyTestMain(m)
}

const (
	name   = "www.example.net"
	zone   = "example.net"
	prod4  = "127.0.0.1"
	prod6  = "2001:db8::10" // never asked over: the references have no IPv6
	home1  = "81.2.69.142"
	home2  = "81.2.69.160"
	stray  = "192.0.2.66"
	before = "A 127.0.0.1 90, AAAA 2001:db8::10 3600"
)

// world is all that surrounds a watchdog: prod and its standby, OVH with its name server, the home's view of itself,
// the references, and the owner's telephone.
type world struct {
	*testing.T
	dir     string
	prod    *sites.Site
	standby *sites.Site
	ovh     *ovhworld.World
	ns      *dnsworld.Server
	echoes  []*dnsworld.Server
	phone   *phone
	config  map[string]string // replaces parts of the configuration
	more    string            // further tables of it
	env     map[string]string // of the daemon
	log     *syncBuffer

	endpoint, nsAddr string
	echoAddrs        []string
	refs             []net.Listener
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), config: map[string]string{}, log: &syncBuffer{}, phone: newPhone(t)}
	ca := must(sites.NewCA())
	w.prod = must(sites.Start(sites.Config{Names: []string{name}, CA: ca}))
	w.standby = must(sites.Start(sites.Config{Names: []string{name}, CA: ca}))
	w.write("ca.pem", string(ca.PEM()))
	w.ovh = ovhworld.New(ovhworld.Options{})
	w.ovh.AddApplication("app", "secret")
	w.ovh.AddCredential("app", "consumer", time.Time{}, ovhworld.AllRules()...)
	w.endpoint = must(w.ovh.Listen(t.Context(), "127.0.0.1:0", nil))
	w.ns = dnsworld.New(w.ovh.Zones)
	w.nsAddr = must(w.ns.Listen(t.Context(), "127.0.0.1:0"))
	w.ovh.AddZone(zone, 3600, []string{w.nsAddr},
		ovhworld.Record{SubDomain: "www", Type: "A", Target: prod4, TTL: 90},
		ovhworld.Record{SubDomain: "www", Type: "AAAA", Target: prod6},
		ovhworld.Record{SubDomain: "mail", Type: "A", Target: prod4},
	)
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		echo := dnsworld.New(nil)
		w.echoes = append(w.echoes, echo)
		w.echoAddrs = append(w.echoAddrs, must(echo.Listen(t.Context(), host+":0")))
	}
	w.moveHome(home1)
	for range 3 {
		w.refs = append(w.refs, must(net.Listen("tcp", "127.0.0.1:0")))
	}
	t.Cleanup(func() {
		w.prod.Close()
		w.standby.Close()
		w.ovh.Close()
		w.ns.Close()
		for _, e := range w.echoes {
			e.Close()
		}
		w.cutUplink()
		if t.Failed() {
			t.Logf("log of the watchdog:\n%s", w.log)
		}
	})
	return w
}

func (w *world) moveHome(addr string) {
	for _, e := range w.echoes {
		e.Echo("myip.example", netip.MustParseAddr(addr))
	}
}

func (w *world) cutUplink() {
	for _, l := range w.refs {
		l.Close()
	}
}

func (w *world) write(file, text string) string {
	w.Helper()
	path := filepath.Join(w.dir, file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// set replaces a line of the configuration that begins with key; without a value, it is left out.
func (w *world) set(key, value string) { w.config[key] = value }

// configFile writes the configuration. The rhythm is that of a laboratory.
func (w *world) configFile() string {
	path := filepath.Join(w.dir, "watchdog.toml")
	if _, err := os.Stat(path); err == nil {
		return path // it is being read
	}
	_, port, _ := net.SplitHostPort(w.prod.Addr())
	return w.write("watchdog.toml", w.configText("https://"+net.JoinHostPort(name, port)+"/"))
}

func (w *world) configText(u string) string {
	refs := make([]string, len(w.refs))
	for i, l := range w.refs {
		refs[i] = fmt.Sprintf("%q", l.Addr())
	}
	text := fmt.Sprintf(`
state_dir = %q
[[site]]
name = %q
zone = %q
nameservers = [%q]
max_switches_per_day = 4
[site.probe]
url = %q
prod = [%q, %q]
interval = "600ms"
timeout = "600ms"
failures = 5
successes = 3
ca_file = %q
[site.standby]
address = %q
[site.failback]
mode = "manual"
stay = "0"
[ovh]
endpoint = %q
application_key = "app"
application_secret = "secret"
consumer_key = "consumer"
[home]
ipv4 = "auto"
ipv6 = "off"
sources = ["dns:myip.example@%s/A", "dns:myip.example@%s/A"]
[uplink]
references = [%s]
[status]
socket = %q
listen = ""
[[notify]]
type = "webhook"
url = %q
`, filepath.Join(w.dir, "state"), name, zone, w.nsAddr, u, prod4, prod6, filepath.Join(w.dir, "ca.pem"), w.standby.Addr(),
		w.endpoint, w.echoAddrs[0], w.echoAddrs[1], strings.Join(refs, ", "), filepath.Join(w.dir, "sock"), w.phone.url)
	var out []string
	for line := range strings.Lines(text) {
		key, _, _ := strings.Cut(line, " =")
		if v, ok := w.config[key]; ok && v == "" {
			continue
		} else if ok {
			line = key + " = " + v + "\n"
		}
		out = append(out, line)
	}
	return strings.Join(out, "") + w.more
}

// start runs the daemon until stop is called, which returns its exit code.
func (w *world) start() (stop func() int) {
	w.Helper()
	config := w.configFile()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	env := watchdog.Env{Args: []string{"run", "--config", config}, Stdout: w.log, Stderr: w.log, Getenv: func(key string) string { return w.env[key] }}
	go func() { code <- watchdog.Run(ctx, env) }()
	stop = sync.OnceValue(func() int { cancel(); return <-code })
	w.Cleanup(func() { stop() })
	return stop
}

// command runs one command line and returns what it says.
func (w *world) command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args = append(args, "--config", w.configFile())
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	code = watchdog.Run(ctx, watchdog.Env{Args: args, Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }})
	return code, out.String(), errs.String()
}

// mustCommand is command where nothing may go wrong.
func (w *world) mustCommand(args ...string) string {
	w.Helper()
	code, out, errs := w.command(args...)
	if code != 0 {
		w.Fatalf("watchdog %v: exit code %d\n%s%s", args, code, out, errs)
	}
	return out
}

// status is the part of `status --json` that tests look at.
type status struct {
	State    string
	Problems []string
	Uplink   string
	Pending  int `json:"pending_notifications"`
	Home     struct {
		IPv4   string
		Agreed bool
	}
	DynDNS *struct {
		State, Why string
	}
	Sites []struct {
		Name, State, Serving, Forced, Verdict string
		Ready                                 []struct {
			Check string
			OK    bool
			Why   string
		}
		Records []struct {
			Type, Target string
			TTL          int64
		}
		Rounds     int
		Successes  int
		LastSwitch *struct {
			Term      int
			To        string
			Accepted  *time.Time
			Published *time.Time
		} `json:"last_switch"`
	}
}

// patience is how long a test waits for anything: for ever, to a machine that is not stuck.
const patience = 40 * time.Second

// until waits for ok to be true of the status.
func (w *world) until(what string, ok func(status) bool) status {
	w.Helper()
	var st status
	w.eventually(what, func() bool {
		st = status{}
		code, out, _ := w.command("status", "--json")
		return code == 0 && json.Unmarshal([]byte(out), &st) == nil && ok(st)
	})
	return st
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-deadline:
			_, out, errs := w.command("status")
			w.Fatalf("waited for: %s\n%s%s", what, out, errs)
		case <-tick.C:
		}
	}
}

// in waits for a state in which who serves and nothing is under way.
func (w *world) in(state, serving string) status {
	w.Helper()
	return w.until(state+", "+serving+" serves", func(st status) bool {
		return len(st.Sites) == 1 && st.Sites[0].State == state && st.Sites[0].Serving == serving && st.Sites[0].Verdict != "unknown"
	})
}

// ready waits until the daemon has seen everything once.
func (w *world) ready() {
	w.Helper()
	w.until("a first look at everything", func(st status) bool {
		s := st.Sites[0]
		return s.Verdict == "up" && len(s.Records) == 2 && len(s.Ready) == 3 && s.Ready[0].OK && s.Ready[2].OK
	})
}

// failback goes back to prod as soon as prod is seen to be up.
func (w *world) failback() (out string) {
	w.Helper()
	if err := w.prod.Resume(); err != nil {
		w.Fatal(err)
	}
	w.eventually("a fail-back", func() bool {
		var code int
		var errs string
		code, out, errs = w.command("failback", name)
		if code != 0 && !strings.Contains(errs, "refused: prod is down") {
			w.Fatalf("failback: exit code %d: %s", code, errs)
		}
		return code == 0
	})
	return out
}

// rounds waits until prod was asked n times more.
func (w *world) rounds(n int) {
	w.Helper()
	from := w.until("a count of rounds", func(status) bool { return true }).Sites[0].Rounds
	w.until(fmt.Sprintf("%d rounds", n), func(st status) bool { return st.Sites[0].Rounds >= from+n })
}

// zoneIs wants the zone, as the name server serves it, to be this.
func (w *world) zoneIs(want string) {
	w.Helper()
	if got := w.served(); got != want {
		w.Fatalf("the zone serves %s; want %s", got, want)
	}
	for _, r := range w.ovh.Records(zone) {
		if r.Target == prod6 && r.TTL != 0 {
			w.Fatalf("the API holds %v; its TTL was left to the zone", r)
		}
	}
}

func (w *world) served() string { return w.servedAt("www") }

// servedAt is what the name server serves for a label of the zone.
func (w *world) servedAt(label string) string {
	var out []string
	for _, z := range w.ovh.Zones() {
		for _, r := range z.Records {
			if r.Name == label {
				out = append(out, fmt.Sprintf("%s %s %d", r.Type, r.Target, r.TTL))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// phone keeps the messages that reach the owner.
type phone struct {
	url   string
	close func()
	mu    sync.Mutex
	got   []message
}

type message struct{ Event, Subject, Text string }

func newPhone(t *testing.T) *phone {
	p := &phone{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			t.Errorf("message %s: %v", text, err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, m)
	}))
	t.Cleanup(server.Close)
	p.url, p.close = server.URL, server.Close
	return p
}

func (p *phone) messages() []message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *phone) count(event string) (n int) {
	for _, m := range p.messages() {
		if m.Event == event {
			n++
		}
	}
	return n
}

// told waits for one message of an event, and wants no second one.
func (w *world) told(event string) message {
	w.Helper()
	w.eventually("a message "+event, func() bool { return w.phone.count(event) > 0 })
	if n := w.phone.count(event); n != 1 {
		w.Fatalf("%d messages %s: %v", n, event, w.phone.messages())
	}
	for _, m := range w.phone.messages() {
		if m.Event == event {
			return m
		}
	}
	panic("unreachable")
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
