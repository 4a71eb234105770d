package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
	"releve/test/ovhworld"
)

// promised is the time from prod's death to a published zone, with default settings.
const promised = 45 * time.Second

// TestFailbackByHand: prod's nginx stops, and the name goes to the standby within the promised time; prod comes back,
// and nothing happens until the owner says so; then the zone is exactly what it was.
func TestFailbackByHand(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.start(t)
	if got := o.visit(t, ""); got != "this is prod\n" {
		t.Errorf("before: %q", got)
	}
	o.failsOver(t)
	if got := o.visit(t, ""); got != "this is standby\n" {
		t.Errorf("switched: %q", got)
	}
	o.told(t, 1, "prod is down, the standby serves")
	if all := o.inbox.all(); len(all) != 2 {
		t.Errorf("more than one message each: %q", all)
	}

	effects := len(o.ovh.Effects())
	o.revive(t)
	o.told(t, 1, "prod answers again") // a dozen times in a row
	// Prod is known to be well: now or never.
	o.quiet(t, 10*time.Second, effects, digStandby)

	if r := o.command(t, "failback", site); r.code != 0 {
		t.Errorf("failback: %+v", r)
	}
	o.published(t, digProd, time.Second) // the command waits for it
	o.asBefore(t)
	if got := o.visit(t, ""); got != "this is prod\n" {
		t.Errorf("after: %q", got)
	}
	o.told(t, 1, "prod serves again")
	if all := o.inbox.all(); len(all) != 6 {
		t.Errorf("messages: %q", all)
	}
	o.wait(t, 10*time.Second, "back to normal", func(s watchdogStatus) bool { return s.Sites[0].State == "normal" && s.State == "ok" })
}

// TestFailbackByItself: with "auto" the name goes back when prod is well and the standby has served for as long as asked.
func TestFailbackByItself(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.config = "[site.failback]\nmode = \"auto\"\nstay = \"20s\""
	o.start(t)
	o.failsOver(t)
	switched := time.Now()
	o.revive(t)
	took := o.published(t, digProd, 90*time.Second)
	o.asBefore(t)
	if stayed := time.Since(switched); stayed < 20*time.Second {
		t.Errorf("the standby served for %v only", stayed)
	}
	t.Logf("back on prod by itself %v after it came back", took.Round(100*time.Millisecond))
	o.told(t, 1, "prod is down, the standby serves")
	o.told(t, 1, "prod serves again")
}

// TestProdUnplugged: prod falls silent, on both addresses, instead of refusing; that takes longer to tell, but not longer
// than promised.
func TestProdUnplugged(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.start(t)
	if _, err := o.lab.Internet.Run(t.Context(), "nft", "add table ip cut; add chain ip cut through { type filter hook forward priority filter; }; "+
		"add rule ip cut through ip daddr "+netlab.ProdIPv4+" drop"); err != nil {
		t.Fatal(err)
	}
	took := o.published(t, digStandby, promised)
	t.Logf("published at the name servers %v after prod was unplugged", took.Round(100*time.Millisecond))
	if got := o.visit(t, ""); got != "this is standby\n" {
		t.Errorf("switched: %q", got)
	}
	o.told(t, 1, "prod is down, the standby serves")
}

// TestUplinkCut: the home's own line dies; prod looks dead from there, and nothing is switched, then or afterwards.
func TestUplinkCut(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.start(t)
	effects := len(o.ovh.Effects())
	o.lab.WAN.Cut()
	o.wait(t, 30*time.Second, "aware that its line is down", func(s watchdogStatus) bool { return s.Uplink == "down" })
	// For longer than a fail-over takes.
	o.quiet(t, promised+5*time.Second, effects, digProd)
	s, err := o.status(t)
	if err != nil || s.Sites[0].Verdict == "down" || s.Sites[0].State == "switching" {
		t.Errorf("the line is cut, and the verdict on prod is %+v, %v", s, err)
	}
	o.lab.WAN.Mend()
	o.wait(t, 90*time.Second, "well again", func(s watchdogStatus) bool {
		return s.Uplink == "up" && s.Sites[0].Verdict == "up" && s.Sites[0].State == "normal"
	})
	o.quiet(t, 5*time.Second, effects, digProd)
	if down := o.inbox.with("prod is down"); len(down) > 0 {
		t.Errorf("a false alarm: %q", down)
	}
}

// TestStandbyDead: prod dies when the standby is dead: the name is not moved, the owner is alarmed, and when the standby
// is well again while prod is still dead, it takes over by itself.
func TestStandbyDead(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.start(t)
	effects := len(o.ovh.Effects())
	if err := o.standby.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := o.prod.Kill(); err != nil {
		t.Fatal(err)
	}
	o.told(t, 1, "prod is down AND the standby cannot take over")
	o.quiet(t, 10*time.Second, effects, digProd)
	if err := o.standby.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	took := o.published(t, digStandby, promised)
	t.Logf("switched %v after the standby was well again", took.Round(100*time.Millisecond))
	o.told(t, 1, "prod is down, the standby serves")
}

// TestWatchdogCheck: a world that is in order gets an exit code of 0; a key without the right to refresh gets one clear
// line and 1.
func TestWatchdogCheck(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.configure(t)
	r := o.command(t, "check")
	if r.code != 0 || strings.Contains(r.stdout, "✗") {
		t.Errorf("all is in order: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	var rules []ovhworld.Rule
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		for _, path := range []string{"", "/record", "/record/*", "/dynHost/record", "/dynHost/record/*", "/status", "/soa"} {
			rules = append(rules, ovhworld.Rule{Method: method, Path: "/domain/zone/example.net" + path})
		}
	}
	rules = append(rules, ovhworld.Rule{Method: "GET", Path: "/auth/currentCredential"})
	o.ovh.AddCredential("application", "no-refresh", time.Time{}, rules...)
	o.key = "no-refresh"
	o.configure(t)
	effects := len(o.ovh.Effects())
	r = o.command(t, "check")
	if r.code != 1 || strings.Count(r.stdout, "✗") != 1 {
		t.Errorf("no right to refresh: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	line := lineWith(r.stdout, "✗", "lacks rights", "POST /domain/zone/example.net/refresh")
	if line == "" {
		t.Errorf("no line says what is missing:\n%s", r.stdout)
	}
	t.Log(line)
	if strings.Contains(r.stdout+r.stderr, "no-refresh") || strings.Contains(r.stdout+r.stderr, "secret\n") {
		t.Error("check prints a secret")
	}
	if n := len(o.ovh.Effects()); n != effects {
		t.Errorf("check had effects: %q", o.ovh.Effects()[effects:])
	}
}

// TestNotifyTest: a test message comes through every channel; one that is refused is named, with exit code 1.
func TestNotifyTest(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.configure(t)
	if r := o.command(t, "notify-test"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if all := o.inbox.all(); len(all) != 2 || len(o.inbox.with("ifttt: ")) != 1 || len(o.inbox.with("mail: ")) != 1 {
		t.Errorf("messages: %q", all)
	}
	write(t, o.path("ifttt_key"), "another-key\n", 0o600)
	r := o.command(t, "notify-test")
	if r.code != 1 || !strings.Contains(r.stdout+r.stderr, "ifttt") || strings.Contains(r.stdout+r.stderr, "another-key") {
		t.Errorf("a wrong key: %+v", r)
	}
	if n := len(o.inbox.with("mail: ")); n != 2 {
		t.Errorf("%d mails, want 2: one channel's trouble is not the other's", n)
	}
}

// failsOver kills prod's web server and wants the name at the standby within the promised time.
func (o *office) failsOver(t *testing.T) {
	t.Helper()
	if got := o.dig(t); got[0] != digProd {
		t.Fatalf("before: dig says %q", got)
	}
	if err := o.prod.Kill(); err != nil {
		t.Fatal(err)
	}
	took := o.published(t, digStandby, promised)
	t.Logf("published at the name servers %v after prod's death", took.Round(100*time.Millisecond))
	o.wait(t, 10*time.Second, "failed over", func(s watchdogStatus) bool {
		return s.Sites[0].State == "failed_over" && s.Sites[0].Serving == "standby"
	})
}

// revive starts prod's web server again.
func (o *office) revive(t *testing.T) {
	t.Helper()
	if err := o.prod.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	o.wait(t, 30*time.Second, "aware that prod is up", func(s watchdogStatus) bool { return s.Sites[0].Verdict == "up" })
}

// told waits until each channel has brought a message with this subject, and wants it there so many times.
func (o *office) told(t *testing.T, times int, subject string) {
	t.Helper()
	eventually(t, 90*time.Second, 200*time.Millisecond, func() (bool, string) {
		return len(o.inbox.with("ifttt: ", subject)) >= times && len(o.inbox.with("mail: ", subject)) >= times,
			fmt.Sprintf("not told of %q: %q", subject, o.inbox.all())
	})
	for _, channel := range []string{"ifttt: ", "mail: "} {
		if got := o.inbox.with(channel, subject); len(got) != times {
			t.Errorf("%d messages with %q by %s, want %d", len(got), subject, channel, times)
		}
	}
}

// quiet wants the zone to stay as it is for a while.
func (o *office) quiet(t *testing.T, d time.Duration, effects int, dig string) {
	t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if got := o.ovh.Effects(); len(got) != effects {
			t.Fatalf("the zone was touched: %q", got[effects:])
		}
		if got := o.dig(t); got[0] != dig || got[1] != dig {
			t.Fatalf("dig says %q, want %q", got, dig)
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		}
	}
}

// asBefore wants exactly the zone's first records, TTLs and all.
func (o *office) asBefore(t *testing.T) {
	t.Helper()
	eventually(t, 10*time.Second, 200*time.Millisecond, func() (bool, string) {
		got := o.records()
		return slices.Equal(got, o.before), fmt.Sprintf("the zone holds %v, want %v", got, o.before)
	})
}

// TestAgentWatchesTheStandby: the agent looks at the standby's site through the internet, and mails when it has been down
// for long enough, and again when it is back.
func TestAgentWatchesTheStandby(t *testing.T) {
	t.Parallel()
	needLab(t)
	p := newPair(t, outside())
	bot := certbotIn(t, p.path("letsencrypt"))
	write(t, filepath.Join(p.source, "index.html"), "welcome\n", 0o644)
	served := pages{p.replica, bot.live("fullchain"), bot.live("privkey")}
	o := newOffice(t, p.lab, bot.ca, served, served)
	config := strings.Replace(p.configuration(), "[status]", fmt.Sprintf(`[backup.probe]
url      = "https://%s/"
address  = "%s:443"
interval = "1s"
failures = 3
ca_file  = "%s"

[status]`, site, netlab.HomeName, o.path("ca.pem")), 1)
	config, _, _ = strings.Cut(config, "[[notify]]")
	write(t, p.path("syncagent.toml"), config+fmt.Sprintf(`[[notify]]
type   = "smtp"
to     = "me@example.net"
from   = "syncagent@example.net"
server = "%s:25"
`, mailAddress), 0o644)
	p.start(t)
	p.inSync(t, 30*time.Second)
	if r := p.syncagent(t, "check"); r.code != 0 || strings.Contains(r.stdout, "✗") {
		t.Errorf("check: %+v", r)
	}
	mailed := func(n int) {
		t.Helper()
		eventually(t, 30*time.Second, 100*time.Millisecond, func() (bool, string) {
			return len(o.inbox.all()) >= n, fmt.Sprintf("%d messages of %d: %q", len(o.inbox.all()), n, o.inbox.all())
		})
		if all := o.inbox.all(); len(all) != n {
			t.Errorf("%d messages, want %d: %q", len(all), n, all)
		} else {
			subject, _, _ := strings.Cut(all[n-1], " | ")
			t.Log(subject)
		}
	}
	if err := o.standby.Kill(); err != nil {
		t.Fatal(err)
	}
	mailed(1)
	if err := o.standby.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	mailed(2)
}

// TestWholeStory: both daemons at once. The agent brings site and certificate to the standby, whose nginx serves them
// from the replica; prod dies; the page that was written on prod a moment before is there, under the site's own name.
func TestWholeStory(t *testing.T) {
	t.Parallel()
	needLab(t)
	need(t, "nginx", "dig", "curl", "nft")
	p := newPair(t, outside())
	bot := certbotIn(t, p.path("letsencrypt"))
	target := filepath.Join(filepath.Dir(p.replica), "letsencrypt")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(target, suite.backup.UID, suite.backup.GID); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.source, "index.html"), "welcome\n", 0o644)
	write(t, p.path("syncagent.toml"), p.configuration("[[folder]]", `name = "letsencrypt"`, `kind = "letsencrypt"`,
		`source = "`+bot.root+`"`, `target = "/replica/letsencrypt"`), 0o644)
	p.start(t)
	p.inSync(t, 30*time.Second)

	live := "live/" + site
	of := func(www, letsencrypt string) pages {
		return pages{www, filepath.Join(letsencrypt, live, "fullchain.pem"), filepath.Join(letsencrypt, live, "privkey.pem")}
	}
	o := newOffice(t, p.lab, bot.ca, of(p.source, bot.root), of(p.replica, target))
	o.start(t)
	write(t, filepath.Join(p.source, "news.html"), "written at the last moment\n", 0o644)
	p.identical(t, 5*time.Second)
	o.failsOver(t)
	if got := o.visit(t, "news.html"); got != "written at the last moment\n" {
		t.Errorf("the standby shows %q", got)
	}
	o.told(t, 1, "prod is down, the standby serves")
}
