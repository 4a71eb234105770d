package watchdog_test

import (
	"strings"
	"testing"
	"time"

	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

// check runs `watchdog check` and wants its exit code and, among what it says, these.
func (w *world) check(code int, wants ...string) string {
	w.Helper()
	got, out, errs := w.command("check")
	if got != code {
		w.Errorf("exit code %d, want %d\n%s%s", got, code, out, errs)
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			w.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	return out
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(w *world)
		code  int
		wants []string
	}{
		{"all is well", func(*world) {}, 0, []string{
			"✓ state directory", "! the watchdog is not running", "✓ you are told by webhook", "✓ home's IPv4 address is 81.2.69.142",
			"✓ own line: 3 of 3", "✓ OVH's API answers", "✓ the key at OVH has all rights for zone example.net, without an end",
			"prod answers at 127.0.0.1", "✓ www.example.net: standby at", "certificate valid for 89 days",
			"✓ www.example.net: the zone holds prod's records", "✓ www.example.net: every name server (1)", "✓ www.example.net: a fail-over takes up to",
		}},
		{"TTL too high", func(w *world) {
			w.ovh.Edit(zone, func(r []ovhworld.Record) []ovhworld.Record { r[0].TTL = 0; return r })
		}, 1, []string{
			"✗ www.example.net: A FAIL-OVER TAKES LONGER THAN 5m", "TTL 1h", "watchdog prepare www.example.net makes that 1m",
		}},
		{"TTL longer than it looks", func(w *world) {
			// A lower TTL was written, and the name servers do not know yet.
			w.ovh.Change(func(o *ovhworld.Options) { o.PublishDelay = time.Hour })
			w.lowerUnseen()
		}, 1, []string{"✗ www.example.net: resolvers may keep it for longer than OVH's API says, which is 1m", "still serves A 127.0.0.1 ttl 90"}},
		{"no refresh right", func(w *world) {
			w.ovh.AddCredential("app", "consumer", time.Time{}, noRefresh()...)
		}, 1, []string{"✗ the key at OVH lacks rights for zone example.net", "/domain/zone/example.net/refresh", "createToken"}},
		{"key ends soon", func(w *world) {
			w.ovh.AddCredential("app", "consumer", time.Now().Add(30*time.Hour), ovhworld.AllRules()...)
		}, 1, []string{"✗ the key at OVH ends in 29 h"}},
		{"wrong key", func(w *world) { w.set("consumer_key", `"nonsense"`) }, 1, []string{"✗ the key at OVH", "createToken"}},
		{"API down", func(w *world) { w.ovh.Down() }, 1, []string{"✗ OVH's API does not answer", "✓ www.example.net: standby at"}},
		{"clock off", func(w *world) {
			w.ovh.Change(func(o *ovhworld.Options) { o.Skew = 10*time.Minute + 30*time.Second })
		}, 1, []string{"✗ this machine's clock differs from OVH's by 10m"}},
		{"alias", func(w *world) {
			w.ovh.Edit(zone, func([]ovhworld.Record) []ovhworld.Record {
				return []ovhworld.Record{{SubDomain: "www", Type: "CNAME", Target: "web.example.org."}}
			})
		}, 1, []string{"✗ www.example.net is an alias (CNAME) of web.example.org"}},
		{"no records", func(w *world) {
			w.ovh.Edit(zone, func([]ovhworld.Record) []ovhworld.Record { return nil })
		}, 1, []string{"✗ www.example.net has no A or AAAA record"}},
		{"foreign records", func(w *world) {
			w.ovh.Edit(zone, func(r []ovhworld.Record) []ovhworld.Record {
				return append(r, ovhworld.Record{SubDomain: "www", Type: "A", Target: stray, TTL: 60})
			})
		}, 1, []string{"✗ www.example.net: the zone holds A 127.0.0.1 ttl 90, A 192.0.2.66 ttl 60"}},
		{"name server silent", func(w *world) { w.ns.Silence(true) }, 1, []string{"✗ www.example.net: not all name servers serve what OVH's API says"}},
		{"uplink gone", func(w *world) { w.cutUplink() }, 1, []string{"✗ own line: 0 of 3 references answered"}},
		{"home unknown", func(w *world) { w.echoes[0].Silence(true) }, 1, []string{"✗ home's IPv4 address:"}},
		{"standby dead", func(w *world) { w.standby.Stop() }, 1, []string{"✗ www.example.net: standby at", "refused the connection"}},
		{"standby's certificate over", func(w *world) {
			if err := w.standby.Certify([]string{name}, time.Now().Add(-time.Hour)); err != nil {
				w.Fatal(err)
			}
		}, 1, []string{"certificate: ", "it must hold prod's certificate"}},
		{"standby's certificate ends", func(w *world) {
			if err := w.standby.Certify([]string{name}, time.Now().Add(73*time.Hour)); err != nil {
				w.Fatal(err)
			}
		}, 1, []string{"✗ www.example.net: the standby's certificate ends in 3 days"}},
		{"prod dead", func(w *world) { w.prod.Stop() }, 1, []string{"✗ www.example.net: prod does not answer at 127.0.0.1 as it should"}},
		{"state directory", func(w *world) { w.set("state_dir", `"/proc/nowhere"`) }, 1, []string{"✗ state directory: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.set("prod", `["127.0.0.1"]`)
			w.set("interval", `"5s"`)
			w.set("timeout", `"5s"`)
			w.ovh.Edit(zone, onlyIPv4)
			c.spoil(w)
			w.check(c.code, c.wants...)
		})
	}
}

// lowerUnseen writes the site's record with a TTL of 60, which the name servers have not heard of.
func (w *world) lowerUnseen() {
	w.Helper()
	client := must(ovhdns.New(ovhdns.Config{Endpoint: w.endpoint, ApplicationKey: "app", ApplicationSecret: "secret", ConsumerKey: "consumer"}))
	defer client.Close()
	if _, err := client.Replace(w.Context(), zone, name, ovhdns.Set{{Type: "A", Target: prod4, TTL: 60}}, nil); err != nil {
		w.Fatal(err)
	}
}

// noRefresh is the mistake that most who write to OVH make once: what they write is never published.
func noRefresh() []ovhworld.Rule {
	return []ovhworld.Rule{
		{Method: "GET", Path: "/*"}, {Method: "PUT", Path: "/*"}, {Method: "DELETE", Path: "/*"},
		{Method: "POST", Path: "/domain/zone/example.net/record"},
	}
}

func onlyIPv4([]ovhworld.Record) []ovhworld.Record {
	return []ovhworld.Record{{SubDomain: "www", Type: "A", Target: prod4, TTL: 90}}
}
