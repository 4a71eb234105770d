package watchdog_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/watchdog"
	"releve/test/ovhworld"
	"releve/test/sites"
)

// The key lacks the refresh: the switch is written and never published. The owner hears of it at once, and the switch
// is made as soon as the key is right.
func TestRefreshRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ovh.AddCredential("app", "consumer", time.Time{}, noRefresh()...)
	w.start()
	m := w.told("credential")
	if !strings.Contains(m.Text, "/refresh") || !strings.Contains(m.Text, "createToken") {
		t.Errorf("it does not say what is missing and where to get it:\n%s", m.Text)
	}
	w.prod.Stop()
	w.in("switching", "prod")
	w.ovh.AddCredential("app", "consumer", time.Time{}, ovhworld.AllRules()...)
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	w.told("failed_over")
}

func TestStandbyCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.standby.Certify([]string{name}, time.Now().Add(73*time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.start()
	if m := w.told("certificate"); !strings.Contains(m.Subject, "ends in 3 days") {
		t.Errorf("subject: %s", m.Subject)
	}
	if err := w.standby.Certify([]string{"www.example.org"}, time.Now().Add(90*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.until("the certificate seen", func(st status) bool {
		for _, c := range st.Sites[0].Ready {
			if c.Check == "certificate" && !c.OK {
				return true
			}
		}
		return false
	})
	w.prod.Stop()
	if m := w.told("cannot_switch"); !strings.Contains(m.Text, "certificate") {
		t.Errorf("it does not say why:\n%s", m.Text)
	}
	w.zoneIs(before)
}

// twoSites starts a daemon that also keeps mail.example.net, and returns the prod of that.
func (w *world) twoSites() (prod *sites.Site) {
	w.Helper()
	prod = must(sites.Start(sites.Config{Names: []string{"mail.example.net"}, CA: w.prod.CA()}))
	standby := must(sites.Start(sites.Config{Names: []string{"mail.example.net"}, CA: w.prod.CA()}))
	w.Cleanup(func() { prod.Close(); standby.Close() })
	path := w.configFile()
	w.write(filepath.Base(path), w.configText("https://"+net.JoinHostPort(name, portOf(w.prod)))+`
[[site]]
name = "mail.example.net"
zone = "example.net"
nameservers = ["`+w.nsAddr+`"]
[site.probe]
url = "https://mail.example.net:`+portOf(prod)+`/"
prod = ["127.0.0.1"]
interval = "600ms"
failures = 5
ca_file = "`+filepath.Join(w.dir, "ca.pem")+`"
[site.standby]
address = "`+standby.Addr()+`"
`)
	w.start()
	w.until("two sites that answer", func(st status) bool {
		return len(st.Sites) == 2 && st.Sites[0].Verdict == "up" && st.Sites[1].Verdict == "up" && len(st.Sites[1].Records) == 1
	})
	return prod
}

// TestTwoSites: one dies, the other is left alone.
func TestTwoSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.twoSites()
	w.prod.Stop()
	st := w.until("one switched", func(st status) bool { return st.Sites[0].State == "failed_over" })
	if st.Sites[1].Serving != "prod" {
		t.Errorf("the other site: %+v", st.Sites[1])
	}
	w.zoneIs(switched)
}

// TestHangingWriteKeepsNobodyWaiting: both die, and OVH never answers about the first.
func TestHangingWriteKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.twoSites()
	w.ovh.Fail(ovhworld.Fault{Method: "PUT", Times: 1, Hang: time.Minute})
	w.prod.Stop()
	w.eventually("the call that hangs", func() bool { return played(w.ovh) })
	began := time.Now()
	other.Stop()
	w.until("the other switched", func(st status) bool { return st.Sites[1].State == "failed_over" })
	if took := time.Since(began); took > 9*time.Second { // OVH is given 10 s to answer
		t.Errorf("it waited for %s", took)
	}
}

// TestFlapping: the fourth switch is the last of the day at most, and the hold finds the site where it works.
func TestFlapping(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("mode", `"auto"`)
	w.start()
	w.ready()
	for _, state := range []string{"failed_over", "normal", "failed_over", "held"} {
		if state == "failed_over" {
			w.prod.Stop()
		} else if err := w.prod.Resume(); err != nil {
			t.Fatal(err)
		}
		w.until(state, func(st status) bool { return st.Sites[0].State == state })
	}
	w.zoneIs(switched)
	w.told("held")
	w.mustCommand("failback", name)
	w.in("normal", "prod")
	w.zoneIs(before)
}

func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	out := w.mustCommand("status")
	for _, want := range []string{
		name, " for ", "prod serves", "prod 127.0.0.1", "standby: answer", "standby: certificate", "standby: home address",
		"A 127.0.0.1 ttl 90", "AAAA 2001:db8::10 ttl 0", "last switch", "none yet", "fail-over takes", "81.2.69.142", "own line",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if _, out, _ := w.command("check"); !strings.Contains(out, "✓ the watchdog is running") {
		t.Errorf("check beside the daemon says:\n%s", out)
	}
	// The contract of DESIGN §7.
	var got map[string]any
	if err := json.Unmarshal([]byte(w.mustCommand("status", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"version", "time", "state", "problems", "sites", "home", "uplink"} {
		if _, ok := got[key]; !ok {
			t.Errorf("no %q in %v", key, got)
		}
	}
	site := got["sites"].([]any)[0].(map[string]any)
	for _, key := range []string{"name", "state", "serving", "forced", "verdict", "since", "records", "ready", "last_switch"} {
		if _, ok := site[key]; !ok {
			t.Errorf("no %q in %v", key, site)
		}
	}
}

func TestWeb(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	addr := l.Addr().String()
	l.Close()
	w.set("listen", `"`+addr+`"`)
	w.start()
	w.ready()
	get := func(path string) string {
		req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return string(must(io.ReadAll(resp.Body)))
	}
	metrics := get("/metrics")
	for _, want := range []string{
		`watchdog_state{site="www.example.net",state="normal"} 1`, `watchdog_probe_success{site="www.example.net",target="127.0.0.1",family="ipv4"} 1`,
		`watchdog_uplink_up `, `watchdog_backup_ready{site="www.example.net",check="certificate"} 1`, `watchdog_public_ip_info{family="ipv4",ip="81.2.69.142"} 1`,
		`watchdog_outbox_pending 0`, `watchdog_messages_total{channel="webhook",result="failed"} 0`, `watchdog_dns_in_sync{site="www.example.net"} 1`, `watchdog_worst_case_seconds`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in:\n%s", want, metrics)
		}
	}
	if page := get("/"); !strings.Contains(page, name) || !strings.Contains(page, "A 127.0.0.1") {
		t.Errorf("the page:\n%s", page)
	}
	for _, text := range []string{metrics, get("/"), get("/status.json"), w.log.String()} {
		if strings.Contains(text, "consumer_key") || strings.Contains(text, `"secret"`) {
			t.Error("a secret is shown")
		}
	}
}

func TestNotifyTest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if out := w.mustCommand("notify-test"); !strings.Contains(out, "✓ webhook") {
		t.Errorf("it says:\n%s", out)
	}
	w.told("test")
}

func TestNotifyTestFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.phone.close()
	if code, out, errs := w.command("notify-test"); code != 1 || !strings.Contains(out, "✗ webhook") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, 0, "Give the name back to prod."},
		{[]string{"version"}, 0, "watchdog "},
		{[]string{}, 2, "expected one of"},
		{[]string{"fly"}, 2, "fly"},
		{[]string{"failover"}, 2, "<site>"},
		{[]string{"failover", "www.example.com"}, 2, "there is no site"},
		{[]string{"pause", name, "30"}, 2, "30"},
		{[]string{"pause", name, "0"}, 2, "longer than nothing"},
		{[]string{"status"}, 1, "not running"},
		{[]string{"prepare", name}, 1, "not running"},
		{[]string{"prepare"}, 2, "<site>"},
		{[]string{"failover", "--force", name}, 1, "not running"},
	} {
		code, out, errs := w.command(c.args...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%v: exit code %d\n%s%s", c.args, code, out, errs)
		}
	}
	var errs strings.Builder
	env := watchdog.Env{Args: []string{"check", "--config", w.write("bad.toml", "colour = 1\n")}, Stdout: io.Discard, Stderr: &errs}
	if code := watchdog.Run(t.Context(), env); code != 2 || !strings.Contains(errs.String(), "colour") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

func portOf(s *sites.Site) string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return port
}
