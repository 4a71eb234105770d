package watchdog_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/test/ovhworld"
)

const (
	bastion = "home.example.net"
	atHome1 = "A 81.2.69.142 60"
	atHome2 = "A 81.2.69.160 60"
)

// dynWorld is a world whose watchdog keeps a name at home, at which these records stand. It looks often, and is hard to
// convince that prod is down, for that is another matter.
func dynWorld(t *testing.T, records ...ovhworld.Record) *world {
	w := newWorld(t)
	w.set("interval", `"200ms"`)
	w.set("timeout", `"200ms"`)
	w.set("failures", "1000")
	w.more = "[dyndns]\nname = \"" + bastion + "\"\n"
	w.ovh.Edit(zone, func(all []ovhworld.Record) []ovhworld.Record { return append(all, records...) })
	return w
}

func atBastion(kind, target string, ttl int64) ovhworld.Record {
	return ovhworld.Record{SubDomain: "home", Type: kind, Target: target, TTL: ttl}
}

// leads waits until the name leads there, and the watchdog knows.
func (w *world) leads(want string) {
	w.Helper()
	w.until(bastion+" at "+want, func(st status) bool {
		return st.DynDNS != nil && st.DynDNS.State == "in_sync" && w.servedAt("home") == want
	})
}

func (w *world) dynIn(state string) status {
	w.Helper()
	return w.until(bastion+" "+state, func(st status) bool { return st.DynDNS != nil && st.DynDNS.State == state })
}

// TestDynDNS: the name is made, follows home whoever serves the site, and nothing else of the zone is touched.
func TestDynDNS(t *testing.T) {
	t.Parallel()
	w := dynWorld(t, atBastion("TXT", `"the house"`, 0))
	w.ovh.Change(func(o *ovhworld.Options) { o.PublishDelay = time.Second })
	stop := w.start()
	w.until("in sync", func(st status) bool {
		if st.DynDNS == nil || st.DynDNS.State != "in_sync" {
			return false
		}
		if got := w.servedAt("home"); !strings.Contains(got, atHome1) {
			t.Errorf("in sync before the name servers serve it: %s", got)
		}
		return true
	})
	w.leads(atHome1 + `, TXT "the house" 3600`)
	began := time.Now()
	w.moveHome(home2)
	w.leads(atHome2 + `, TXT "the house" 3600`)
	if took := time.Since(began); took > 20*time.Second { // four paces of 1.2 s, and OVH
		t.Errorf("followed after %s", took)
	}
	w.zoneIs(before)
	w.mustCommand("failover", name, "--force")
	w.moveHome(home1)
	w.leads(atHome1 + `, TXT "the house" 3600`)
	w.eventually("the site at home, too", func() bool { return w.served() == switched })
	w.failback()
	w.zoneIs(before)
	// Home moves while nobody looks: the old address is remembered to have been home's.
	stop()
	w.moveHome(home2)
	w.start()
	w.leads(atHome2 + `, TXT "the house" 3600`)
	if n := w.phone.count("dyndns"); n > 0 {
		t.Errorf("told %v", w.phone.messages())
	}
	for _, want := range []string{bastion, "leads home: A 81.2.69.160 ttl 60"} {
		if out := w.mustCommand("status"); !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
}

// TestDynDNSForeign: what nobody of us wrote is reported and left alone, until the owner says otherwise.
func TestDynDNSForeign(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		records []ovhworld.Record
		forced  string // "" = not even then
	}{
		{"an old address", []ovhworld.Record{atBastion("A", stray, 3600)}, atHome1},
		{"a DynHost of another client", []ovhworld.Record{{SubDomain: "home", Type: "A", Target: stray, TTL: 60, DynHost: true}}, atHome1},
		{"ours and another", []ovhworld.Record{atBastion("A", home1, 60), atBastion("A", stray, 60)}, atHome1},
		{"an alias", []ovhworld.Record{atBastion("CNAME", "box.example.org.", 0)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := dynWorld(t, c.records...)
			held := w.servedAt("home")
			w.start()
			w.dynIn("foreign")
			m := w.told("dyndns")
			if target := c.records[len(c.records)-1].Target; !strings.Contains(m.Text, strings.TrimSuffix(target, ".")) || !strings.Contains(m.Text, "dyndns --force") {
				t.Errorf("the message:\n%s", m.Text)
			}
			if code, _, errs := w.command("dyndns"); code != 1 || !strings.Contains(errs, "refused") {
				t.Errorf("exit code %d: %s", code, errs)
			}
			w.rounds(4)
			if got := w.servedAt("home"); got != held || len(w.ovh.Effects()) > 0 {
				t.Fatalf("it was touched: %s, %q", got, w.ovh.Effects())
			}
			if c.forced == "" {
				if code, out, errs := w.command("dyndns", "--force"); code != 1 || len(w.ovh.Effects()) > 0 {
					t.Errorf("an alias, by force: exit code %d: %s%s", code, out, errs)
				}
				return
			}
			out := w.mustCommand("dyndns", "--force")
			if got := w.servedAt("home"); got != c.forced || !strings.Contains(out, stray) {
				t.Errorf("by force: %s; it says\n%s", got, out)
			}
			w.zoneIs(before)
		})
	}
}

// TestDynDNSLeavesTheOtherFamily: what the name does not follow is the owner's.
func TestDynDNSLeavesTheOtherFamily(t *testing.T) {
	t.Parallel()
	w := dynWorld(t, atBastion("AAAA", "2a01:cb00::22", 300), atBastion("A", home1, 0))
	w.start()
	w.leads(atHome1 + ", AAAA 2a01:cb00::22 300")
	w.moveHome(home2)
	w.leads(atHome2 + ", AAAA 2a01:cb00::22 300")
}

// TestDynDNSKnowsWhatItFound: home's address stood there already, and was never written by us; it is ours all the same
// when home has moved while nobody looked.
func TestDynDNSKnowsWhatItFound(t *testing.T) {
	t.Parallel()
	w := dynWorld(t, atBastion("A", home1, 60))
	stop := w.start()
	w.leads(atHome1)
	stop()
	if got := w.ovh.Effects(); len(got) > 0 {
		t.Errorf("there was nothing to do, and done: %q", got)
	}
	w.moveHome(home2)
	w.start()
	w.leads(atHome2)
}

// TestDynDNSAsDynHost: OVH files what has a TTL of 60 in its other collection. That is the same record.
func TestDynDNSAsDynHost(t *testing.T) {
	t.Parallel()
	w := dynWorld(t)
	w.ovh.Change(func(o *ovhworld.Options) { o.DynHostAt60 = true })
	stop := w.start()
	w.leads(atHome1)
	w.moveHome(home2)
	w.leads(atHome2)
	stop()
	effects := len(w.ovh.Effects())
	w.start()
	w.leads(atHome2)
	w.mustCommand("dyndns")
	if got := w.ovh.Effects(); len(got) != effects {
		t.Errorf("written again: %q", got[effects:])
	}
}

// TestDynDNSKeepsWhatItHas while home's address is not known, or not agreed on.
func TestDynDNSKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	w := dynWorld(t)
	w.echoes[1].Silence(true)
	w.start()
	w.dynIn("waiting")
	w.rounds(4)
	if got := w.ovh.Effects(); len(got) > 0 {
		t.Fatalf("written without an address: %q", got)
	}
	w.echoes[1].Silence(false)
	w.leads(atHome1)
	w.echoes[1].Echo("myip.example", netip.MustParseAddr(home2))
	w.dynIn("waiting")
	w.rounds(8)
	if got := w.servedAt("home"); got != atHome1 {
		t.Errorf("without agreement it leads to %s", got)
	}
}

// TestDynDNSHangs: OVH never answers about that name, and prod dies: the site is switched as if nothing were.
func TestDynDNSHangs(t *testing.T) {
	t.Parallel()
	w := dynWorld(t)
	w.set("interval", `"600ms"`)
	w.set("timeout", `"600ms"`)
	w.set("failures", "5")
	w.ovh.Fail(ovhworld.Fault{Method: "POST", Path: "/domain/zone/example.net/record", Times: -1, Hang: time.Minute})
	w.start()
	w.eventually("the call that hangs", func() bool { return played(w.ovh) })
	w.ready()
	began := time.Now()
	w.prod.Stop()
	w.in("failed_over", "standby")
	if took := time.Since(began); took > 9*time.Second { // OVH is given 10 s to answer
		t.Errorf("it waited for %s", took)
	}
	w.zoneIs(switched)
}

// TestDynDNSKilled: the daemon dies at a call, done or not; the next one finishes it, with one record in the end.
func TestDynDNSKilled(t *testing.T) {
	for _, effect := range []ovhworld.Effect{ovhworld.Nothing, ovhworld.Happens} {
		for _, c := range []ovhworld.Fault{
			{Method: "POST", Path: "/domain/zone/example.net/record"},
			{Method: "POST", Path: "/domain/zone/example.net/refresh"},
			{Method: "PUT", Path: "/domain/zone/example.net/record/*"},
		} {
			t.Run(c.Method+" "+filepath.Base(c.Path)+map[ovhworld.Effect]string{ovhworld.Nothing: ", not done", ovhworld.Happens: ", done"}[effect], func(t *testing.T) {
				t.Parallel()
				w := dynWorld(t)
				kill := w.process()
				if c.Method == "PUT" {
					w.leads(atHome1)
				}
				fault := c
				fault.Effect, fault.Hang = effect, 30*time.Second
				mend := w.ovh.Fail(fault)
				want := atHome1
				if c.Method == "PUT" {
					w.moveHome(home2)
					want = atHome2
				}
				w.eventually("the call", func() bool { return played(w.ovh) })
				kill()
				mend()
				w.start()
				w.leads(want)
				w.zoneIs(before)
				held := slices.DeleteFunc(w.ovh.Records(zone), func(r ovhworld.Record) bool { return r.SubDomain != "home" })
				if len(held) != 1 {
					t.Errorf("the zone holds %v", held)
				}
			})
		}
	}
}

// TestDynDNSOutage: OVH is down when home moves, and is asked until it is up.
func TestDynDNSOutage(t *testing.T) {
	t.Parallel()
	w := dynWorld(t)
	w.start()
	w.leads(atHome1)
	up := w.ovh.Down()
	w.moveHome(home2)
	st := w.dynIn("failing")
	if !strings.Contains(strings.Join(st.Problems, "\n"), bastion+" cannot be led home") {
		t.Errorf("problems: %q", st.Problems)
	}
	w.rounds(4)
	up()
	w.leads(atHome2)
}

// TestDynDNSCalm: a line whose address flaps is followed four times, and then more slowly.
func TestDynDNSCalm(t *testing.T) {
	t.Parallel()
	w := dynWorld(t)
	w.start()
	for _, addr := range []string{home1, home2, home1, home2} {
		w.moveHome(addr)
		w.eventually("followed", func() bool { return w.servedAt("home") == "A "+addr+" 60" })
	}
	w.moveHome(home1)
	w.until("held", func(st status) bool {
		return st.DynDNS.State == "updating" && strings.Contains(st.DynDNS.Why, "changes too often: after 4 changes, one in 5m")
	})
	if got := w.servedAt("home"); got != atHome2 {
		t.Errorf("it leads to %s", got)
	}
}

func TestDynDNSCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		records []ovhworld.Record
		code    int
		wants   []string
	}{
		{"not there", nil, 0, []string{"! home.example.net: it does not exist, and the watchdog will make it: A 81.2.69.142 ttl 60"}},
		{"at home", []ovhworld.Record{atBastion("A", home1, 60)}, 0, []string{"✓ home.example.net leads home: A 81.2.69.142 ttl 60"}},
		{"foreign", []ovhworld.Record{atBastion("A", stray, 60)}, 1, []string{"✗ home.example.net holds A 192.0.2.66 ttl 60, which no watchdog wrote", "watchdog dyndns --force"}},
		{"alias", []ovhworld.Record{atBastion("CNAME", "box.example.org.", 0)}, 1, []string{"✗ home.example.net is an alias (CNAME) of box.example.org"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := dynWorld(t, c.records...)
			w.set("prod", `["127.0.0.1"]`)
			w.set("interval", `"5s"`)
			w.set("timeout", `"5s"`)
			w.set("failures", "5")
			w.ovh.Edit(zone, func(all []ovhworld.Record) []ovhworld.Record {
				return slices.DeleteFunc(all, func(r ovhworld.Record) bool { return r.Target == prod6 })
			})
			w.check(c.code, c.wants...)
		})
	}
	w := newWorld(t)
	if code, _, errs := w.command("dyndns"); code != 2 || !strings.Contains(errs, "there is no [dyndns]") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
