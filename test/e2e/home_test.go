package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"releve/test/netlab"
)

// TestHomeMoves: with default settings, home's public address changes while the standby serves. The site follows, as the
// world's name servers see it, within a minute, and so does the name that [dyndns] keeps at home, whoever serves.
func TestHomeMoves(t *testing.T) {
	t.Parallel()
	o := smallOffice(t)
	o.config = "[dyndns]\nname = \"" + netlab.HomeName + "\""
	o.start(t)
	at := func(address string, within time.Duration) time.Duration {
		want := "A " + address + " 60"
		return eventually(t, within, 250*time.Millisecond, func() (bool, string) {
			got := o.digName(t, netlab.HomeName)
			return got[0] == want && got[1] == want, fmt.Sprintf("dig says %q of %s, want %q", got, netlab.HomeName, want)
		})
	}
	at(netlab.HomeIPv4, 30*time.Second)
	o.failsOver(t)

	const next = "5.39.80.99"
	if err := o.lab.MoveHome(t.Context(), netlab.HomeIPv4, next); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	o.published(t, "A "+next+" 60", 60*time.Second)
	t.Logf("the site followed home %v after it moved", time.Since(began).Round(100*time.Millisecond))
	at(next, 60*time.Second-time.Since(began))
	t.Logf("%s followed %v after it", netlab.HomeName, time.Since(began).Round(100*time.Millisecond))
	if got := o.visit(t, ""); got != "this is standby\n" {
		t.Errorf("at the new address: %q", got)
	}
}
