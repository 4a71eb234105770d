package watchdog_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"releve/test/ovhworld"
)

const switched = "A 81.2.69.142 60"

func TestProdDiesAndFailsBackByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	m := w.told("failed_over")
	for _, want := range []string{"127.0.0.1", "A 81.2.69.142 ttl 60", "watchdog failback www.example.net"} {
		if !strings.Contains(m.Text, want) {
			t.Errorf("the message does not say %q:\n%s", want, m.Text)
		}
	}
	if err := w.prod.Resume(); err != nil {
		t.Fatal(err)
	}
	w.told("prod_back")
	w.rounds(8)
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	if out := w.failback(); !strings.Contains(out, "published after") {
		t.Errorf("failback says:\n%s", out)
	}
	w.zoneIs(before)
	w.in("normal", "prod")
	w.told("failed_back")
	w.told("failed_over")
	state := string(must(os.ReadFile(filepath.Join(w.dir, "state", "site-"+name+".json"))))
	if !strings.Contains(state, `"notices": null`) || !strings.Contains(state, `"intent": null`) {
		t.Errorf("something is left over in the state:\n%s", state)
	}
}

func TestAutomaticFailback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("mode", `"auto"`)
	w.start()
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	if err := w.prod.Resume(); err != nil {
		t.Fatal(err)
	}
	w.in("normal", "prod")
	w.zoneIs(before)
	w.told("failed_back")
}

func TestUplinkCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.cutUplink()
	w.prod.Stop()
	w.until("an unknown verdict", func(st status) bool { return st.Sites[0].Verdict == "unknown" })
	w.rounds(8)
	w.zoneIs(before)
	w.until("the uplink down", func(st status) bool { return st.Uplink == "down" && st.Sites[0].Serving == "prod" })
	if got := w.phone.messages(); len(got) > 0 {
		t.Fatalf("told %v", got)
	}
}

func TestStandbyDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.standby.Stop()
	w.until("the standby not ready", func(st status) bool { return !st.Sites[0].Ready[0].OK })
	w.prod.Stop()
	m := w.told("cannot_switch")
	if !strings.Contains(m.Text, "answer: ") {
		t.Errorf("the message does not say why:\n%s", m.Text)
	}
	w.rounds(8)
	w.zoneIs(before)
	w.in("failing", "prod")
	if err := w.standby.Resume(); err != nil {
		t.Fatal(err)
	}
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	w.told("failed_over")
}

func TestHomeAddressIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	w.moveHome(home2)
	w.eventually("the new address in the zone", func() bool { return w.served() == "A 81.2.69.160 60" })
	w.failback()
	w.zoneIs(before)
}

func TestForeignRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.ovh.Edit(zone, func(r []ovhworld.Record) []ovhworld.Record {
		return append(r, ovhworld.Record{SubDomain: "www", Type: "A", Target: stray, TTL: 60})
	})
	edited := w.served()
	w.prod.Stop()
	w.told("foreign_records")
	w.told("cannot_switch")
	w.rounds(8)
	w.zoneIs(edited)
	code, _, errs := w.command("failover", name)
	if code != 1 || !strings.Contains(errs, "A 192.0.2.66 ttl 60") || !strings.Contains(errs, "--force") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	out := w.mustCommand("failover", "--force", name)
	if !strings.Contains(out, "A 192.0.2.66 ttl 60") {
		t.Errorf("it does not say what is overwritten:\n%s", out)
	}
	w.zoneIs(switched)
}

func TestApiDownThenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	up := w.ovh.Down()
	w.prod.Stop()
	w.in("switching", "prod")
	w.rounds(6)
	w.zoneIs(before)
	up()
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	w.told("failed_over")
}

func TestFailbackRefusedWhileProdIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	code, _, errs := w.command("failback", name)
	if code != 1 || !strings.Contains(errs, "prod is down") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	w.zoneIs(switched)
	w.mustCommand("failback", name, "--force")
	w.zoneIs(before)
	w.rounds(8)
	w.zoneIs(before)
}

func TestFailoverRefusedTowardADeadStandby(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.standby.Stop()
	code, _, errs := w.command("failover", name)
	if code != 1 || !strings.Contains(errs, "refused: the standby is not ready: answer: ") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	w.zoneIs(before)
	w.mustCommand("failover", name, "--force")
	w.zoneIs(switched)
}

// Home's sources fall apart while the standby serves: the last address that was agreed on stays.
func TestHomeNotAgreed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.prod.Stop()
	w.in("failed_over", "standby")
	w.echoes[1].Echo("myip.example", netip.MustParseAddr(home2))
	w.until("no agreement", func(st status) bool { return !st.Home.Agreed && st.Home.IPv4 == home1 })
	w.rounds(3)
	w.zoneIs(switched)
}

func TestFailoverByHandHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("mode", `"auto"`)
	w.start()
	w.ready()
	w.mustCommand("failover", name)
	w.zoneIs(switched)
	w.rounds(8)
	st := w.in("failed_over", "standby")
	if st.Sites[0].Forced != "standby" {
		t.Errorf("forced: %q", st.Sites[0].Forced)
	}
	w.failback()
	w.zoneIs(before)
}

func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	code, _, errs := w.command("pause", name, "36d")
	if code != 1 || !strings.Contains(errs, "35 days is the longest pause") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if out := w.mustCommand("pause", name, "34d"); !strings.Contains(out, "until ") {
		t.Errorf("it says: %s", out)
	}
	w.mustCommand("pause", name, "1h")
	w.prod.Stop()
	w.rounds(8)
	w.zoneIs(before)
	w.mustCommand("resume", name)
	w.in("failed_over", "standby")
}
