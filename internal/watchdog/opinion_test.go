package watchdog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"releve/test/pingworld"
)

// outside gives the site an opinion from outside, whose points see nothing yet.
func (w *world) outside(mode string) *pingworld.World {
	w.Helper()
	p := must(pingworld.Start())
	w.Cleanup(func() {
		if c := p.Complaints(); len(c) > 0 {
			w.Errorf("the API complains: %q", c)
		}
		p.Close()
	})
	w.set("stay", fmt.Sprintf("\"0\"\n[site.opinion]\nmode = %q\nurl = %q\ntimeout = \"3s\"", mode, p.URL()))
	return p
}

func five(s pingworld.Sight) []pingworld.Sight { return slices.Repeat([]pingworld.Sight{s}, 5) }

// TestOthersReachProd: the way from home to prod is broken, and nothing else. No switch, and the owner is told why;
// others are asked again, and when they do not reach it either, the switch is made.
func TestOthersReachProd(t *testing.T) {
	for _, mode := range []string{"prefer", "require"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.outside(mode)
			p.See(five(pingworld.Reaches)...)
			w.start()
			w.ready()
			w.rounds(4)
			if asked := p.Asked(); len(asked) > 0 {
				t.Errorf("asked while all was well: %v", asked)
			}
			w.prod.Stop()
			m := w.told("cannot_switch")
			if !strings.Contains(m.Subject, "prod does not answer here, and the name was not moved") || !strings.Contains(m.Text, "others reach prod") || !strings.Contains(m.Text, "5 of 5 points reach it") {
				t.Errorf("told %q\n%s", m.Subject, m.Text)
			}
			w.rounds(4)
			w.zoneIs(before)
			st := w.until("a reason in the status", func(st status) bool { return strings.Contains(strings.Join(st.Problems, "\n"), "others reach prod") })
			if st.State != "failing" {
				t.Errorf("state %s", st.State)
			}
			if out := w.mustCommand("status"); !strings.Contains(out, "others see") || !strings.Contains(out, "5 of 5 points reach it") {
				t.Errorf("status says:\n%s", out)
			}
			p.See(five(pingworld.TimesOut)...)
			w.in("failed_over", "standby")
			w.zoneIs(switched)
			n := len(p.Asked())
			w.rounds(8)
			if asked := p.Asked(); len(asked) != n || asked[0].Host != name || asked[0].Target != prod4 {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

// TestOthersSayNothing: preferred, they are not waited for; required, nothing goes without them.
func TestOthersSayNothing(t *testing.T) {
	t.Run("prefer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.outside("prefer").Hang(true)
		w.start()
		w.ready()
		w.prod.Stop()
		w.in("failed_over", "standby")
		w.zoneIs(switched)
		if n := w.phone.count("cannot_switch"); n > 0 {
			t.Errorf("told that it cannot")
		}
	})
	t.Run("require", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.outside("require")
		p.Answer(500)
		w.start()
		w.ready()
		w.prod.Stop()
		if m := w.told("cannot_switch"); !strings.Contains(m.Text, "the opinion from outside that is required has not come: ask "+strings.TrimPrefix(p.URL(), "http://")+": status 500") {
			t.Errorf("it does not say why:\n%s", m.Text)
		}
		w.rounds(6)
		w.zoneIs(before)
		p.See(five(pingworld.Refused)...)
		p.Answer(0)
		w.in("failed_over", "standby")
		w.zoneIs(switched)
	})
}
