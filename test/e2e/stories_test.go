package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
	"releve/test/pingworld"
	"releve/test/sites"
)

// TestProbeIsNotLedHome: after a switch the name leads home, for the watchdog's own resolver too, and there the site
// answers as it should. Whoever took that for prod would fail back at once, to a prod that is dead.
func TestProbeIsNotLedHome(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.config = "[site.failback]\nmode = \"auto\"\nstay = \"0\""
	o.start(t)
	o.failsOver(t)
	if out, err := o.lab.Backup.Run(t.Context(), "curl", "--silent", "--show-error", "--max-time", "10", "--cacert", o.path("ca.pem"),
		"--resolve", site+":443:127.0.0.1", "https://"+site+"/"); err != nil || out != "this is standby\n" {
		t.Fatalf("the standby does not answer here: %q, %v", out, err)
	}
	// A dozen good answers, and it would be up again.
	o.quiet(t, 75*time.Second, len(o.ovh.Effects()), digStandby)
	if got := o.visit(t, ""); got != "this is standby\n" {
		t.Errorf("visitors see %q", got)
	}
	o.revive(t)
	o.published(t, digProd, 90*time.Second)
	o.asBefore(t)
}

// TestPathToProdIsBroken: home is online, prod is well, and the way between the two is broken. Others reach prod, and the
// name stays; when prod does die, the switch is made.
func TestPathToProdIsBroken(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	var others *pingworld.World
	if err := o.lab.Backup.Do(func() (err error) { // on loopback: plain http is for that
		others, err = pingworld.Start()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c := others.Complaints(); len(c) > 0 {
			t.Errorf("the API complains: %q", c)
		}
		others.Close()
	})
	others.See(slices.Repeat([]pingworld.Sight{pingworld.Reaches}, 5)...)
	o.config = fmt.Sprintf("[site.opinion]\nmode = \"prefer\"\nurl = %q", others.URL())
	o.start(t)
	effects := len(o.ovh.Effects())
	if asked := others.Asked(); len(asked) > 0 {
		t.Errorf("asked while all was well: %v", asked)
	}
	if _, err := o.lab.Internet.Run(t.Context(), "nft", "add table ip cut; add chain ip cut through { type filter hook forward priority filter; }; "+
		"add rule ip cut through ip saddr "+netlab.HomeIPv4+" ip daddr "+netlab.ProdIPv4+" drop"); err != nil {
		t.Fatal(err)
	}
	o.told(t, 1, "prod does not answer here, and the name was not moved")
	o.quiet(t, 20*time.Second, effects, digProd)
	if got := o.visit(t, ""); got != "this is prod\n" {
		t.Errorf("visitors see %q", got)
	}
	if asked := others.Asked(); len(asked) == 0 || asked[0].Target != netlab.ProdIPv4 || asked[0].Host != site {
		t.Errorf("asked %v", asked)
	}
	if err := o.prod.Kill(); err != nil {
		t.Fatal(err)
	}
	dead := pingworld.Refused
	others.See(slices.Repeat([]pingworld.Sight{dead}, 5)...)
	took := o.published(t, digStandby, 6*time.Minute) // others are asked again after half a minute, then a minute, …
	t.Logf("switched %v after prod died, too", took.Round(time.Second))
	if got := o.visit(t, ""); got != "this is standby\n" {
		t.Errorf("visitors see %q", got)
	}
}

// TestHalfRestoredProd: prod comes back from an old copy, and answers as it should. With "auto" the name stays where it
// is, nothing is pushed over the standby, and the status says why; when prod has its files back, it gets the name.
func TestHalfRestoredProd(t *testing.T) {
	t.Parallel()
	needLab(t)
	p := newPair(t, outside())
	page := filepath.Join(p.source, "index.html")
	write(t, page, "new\n", 0o644)
	p.start(t)
	p.inSync(t, 30*time.Second)
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
	write(t, p.path("cert.pem"), string(leaf)+string(chain), 0o644)
	write(t, p.path("key.pem"), string(key), 0o600)
	of := func(root string) pages { return pages{root, p.path("cert.pem"), p.path("key.pem")} }
	o := newOffice(t, p.lab, ca, of(p.source), of(p.replica))
	o.site = `folders = ["webroot"]`
	o.config = fmt.Sprintf("[site.failback]\nmode = \"auto\"\nstay = \"0\"\n[replica]\ncontrol = %q", p.control)
	o.start(t)

	p.killAgent(t)
	o.failsOver(t)
	before, err := os.Stat(p.source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(page, p.path("kept.html")); err != nil {
		t.Fatal(err)
	}
	write(t, page, "old\n", 0o644)
	o.revive(t)
	p.start(t)
	o.wait(t, 2*time.Minute, "waiting for prod's files", func(s watchdogStatus) bool {
		return strings.Contains(strings.Join(s.Problems, "\n"), "they differ from those that are served here")
	})
	o.quiet(t, 75*time.Second, len(o.ovh.Effects()), digStandby) // a dozen good answers meanwhile
	if got := o.visit(t, ""); got != "new\n" {
		t.Errorf("visitors see %q", got)
	}

	if err := os.Rename(p.path("kept.html"), page); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p.source, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	took := o.published(t, digProd, 3*time.Minute)
	t.Logf("back on prod %v after its files were right again", took.Round(time.Second))
	if got := o.visit(t, ""); got != "new\n" {
		t.Errorf("visitors see %q", got)
	}
}
