package watchdog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/ovhworld"
)

const prepared = "A 127.0.0.1 60, AAAA 2001:db8::10 60"

// TestPrepare lowers the TTLs, by itself and from then on: a fail-over is followed by a fail-back to the lower ones.
func TestPrepare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ovh.Change(func(o *ovhworld.Options) { o.PublishDelay = 2 * time.Second })
	w.start()
	w.ready()
	w.until("the TTL is too long", func(st status) bool {
		return strings.Contains(strings.Join(st.Problems, "\n"), "watchdog prepare www.example.net makes that 1m")
	})
	effects := len(w.ovh.Effects())
	out := w.mustCommand("prepare", "--dry-run", name)
	for _, want := range []string{
		"to be written: A 127.0.0.1 ttl 60, AAAA 2001:db8::10 ttl 60", "in place of: A 127.0.0.1 ttl 90, AAAA 2001:db8::10 ttl 0", "for up to 1h more",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("a dry run does not say %q:\n%s", want, out)
		}
	}
	if n := len(w.ovh.Effects()); n != effects || w.served() != before {
		t.Fatalf("a dry run had effects: %q", w.ovh.Effects())
	}
	out = w.mustCommand("prepare", name)
	if got := w.served(); got != prepared {
		t.Fatalf("the zone serves %s when the command is done, which says\n%s", got, out)
	}
	if !strings.Contains(out, "published after ") {
		t.Errorf("it says:\n%s", out)
	}
	if out = w.mustCommand("prepare", name); !strings.Contains(out, "nothing to do: A 127.0.0.1 ttl 60") {
		t.Errorf("the second time it says:\n%s", out)
	}
	// That publication was measured, and is in the budget before there was any switch.
	w.until("a better budget", func(st status) bool {
		return !strings.Contains(strings.Join(st.Problems, "\n"), "prepare") && strings.Contains(w.mustCommand("status"), "(as measured) + TTL 1m")
	})
	if st := w.in("normal", "prod"); st.Sites[0].LastSwitch != nil {
		t.Errorf("it counts as a switch: %+v", st.Sites[0].LastSwitch)
	}
	w.mustCommand("failover", name)
	if got := w.served(); got != switched {
		t.Fatalf("the zone serves %s", got)
	}
	if code, _, errs := w.command("prepare", name); code != 1 || !strings.Contains(errs, "refused: the standby serves") {
		t.Errorf("while the standby serves: exit code %d, %s", code, errs)
	}
	w.mustCommand("failback", name)
	if got := w.served(); got != prepared {
		t.Fatalf("back to %s", got)
	}
	// What stood there before each write, the newest first.
	var copies []struct {
		Before, Write []struct {
			Type, Target string
			TTL          int64
		}
	}
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(w.dir, "state", "records-"+name+".json"))), &copies); err != nil || len(copies) != 3 {
		t.Fatalf("copies: %v, %v", copies, err)
	}
	if first := copies[2]; len(first.Before) != 2 || first.Before[0].TTL != 90 || first.Before[1].TTL != 0 || first.Write[0].TTL != 60 {
		t.Errorf("the oldest copy: %+v", first)
	}
	if w.phone.count("failed_back") != 1 || w.phone.count("cannot_follow") != 0 {
		t.Errorf("told %v", w.phone.messages())
	}
}

func TestPrepareRefusesForeignRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	w.ovh.Edit(zone, func(r []ovhworld.Record) []ovhworld.Record {
		return append(r, ovhworld.Record{SubDomain: "www", Type: "A", Target: stray, TTL: 3600})
	})
	edited := w.served()
	code, _, errs := w.command("prepare", name)
	if code != 1 || !strings.Contains(errs, "192.0.2.66") || strings.Contains(errs, "--force") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if got := w.served(); got != edited || len(w.ovh.Effects()) > 0 {
		t.Errorf("the zone serves %s", got)
	}
}

// TestPrepareKilled: the daemon dies in the middle of it, and the next one finishes it unasked.
func TestPrepareKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kill := w.process()
	w.ready()
	mend := w.ovh.Fail(ovhworld.Fault{Method: "PUT", First: 2, Effect: ovhworld.Happens, Hang: 30 * time.Second})
	done := make(chan struct{})
	go func() { defer close(done); w.command("prepare", name) }()
	w.eventually("the call", func() bool { return played(w.ovh) })
	kill()
	mend()
	<-done
	w.start()
	w.eventually("the lower TTLs", func() bool { return w.served() == prepared })
	w.in("normal", "prod")
	if got := w.phone.messages(); len(got) > 0 {
		t.Errorf("told %v", got)
	}
}
