package watchdog_test

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/test/ovhworld"
)

// TestPublishDelay: OVH accepts at once and its name servers follow later. The owner hears of the switch when it is
// true, and how long it took is known from then on.
func TestPublishDelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const delay = 3 * time.Second
	w.ovh.Change(func(o *ovhworld.Options) { o.PublishDelay = delay })
	w.start()
	w.ready()
	w.prod.Stop()
	st := w.in("switching", "standby")
	if l := st.Sites[0].LastSwitch; l == nil || l.Published != nil {
		t.Errorf("last switch: %+v", l)
	}
	if n := w.phone.count("failed_over"); n > 0 {
		t.Errorf("told before it was true")
	}
	st = w.in("failed_over", "standby")
	if l := st.Sites[0].LastSwitch; l.Published == nil || l.Published.Sub(*l.Accepted) < delay/2 {
		t.Errorf("last switch: %+v", l)
	}
	w.zoneIs(switched)
	w.told("failed_over")
}

// The story of 13 October 2021: prod, the API and the name servers are gone together, and come back together. Nothing
// was to be done, and nothing is.
func TestOctober2021(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	up := w.ovh.Down()
	w.ns.Silence(true)
	w.prod.Stop()
	w.in("switching", "prod")
	w.rounds(5)
	if err := w.prod.Resume(); err != nil {
		t.Fatal(err)
	}
	w.in("normal", "prod")
	up()
	w.ns.Silence(false)
	w.rounds(5)
	w.in("normal", "prod")
	w.zoneIs(before)
	for _, c := range w.ovh.Calls() {
		if c.Method != "GET" {
			t.Errorf("written: %v", c)
		}
	}
}

// The same, but prod stays dead: the switch is made when it can be.
func TestOctober2021WithoutAnEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	up := w.ovh.Down()
	w.ns.Silence(true)
	w.prod.Stop()
	w.in("switching", "prod")
	w.rounds(5)
	up()
	w.in("switching", "standby")
	w.ns.Silence(false)
	w.in("failed_over", "standby")
	w.zoneIs(switched)
	w.told("failed_over")
}

// TestKilledOnTheWayBack is TestKilledAtEachCall for a fail-back.
func TestKilledOnTheWayBack(t *testing.T) {
	for _, c := range []ovhworld.Fault{
		{Method: "PUT", Path: "/domain/zone/example.net/record/*"},
		{Method: "POST", Path: "/domain/zone/example.net/record"},
		{Method: "POST", Path: "/domain/zone/example.net/refresh"},
	} {
		t.Run(c.Method+" "+filepath.Base(c.Path), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			kill := w.process()
			w.ready()
			w.mustCommand("failover", name)
			w.zoneIs(switched)
			fault := c
			fault.Effect, fault.Hang = ovhworld.Happens, 30*time.Second
			mend := w.ovh.Fail(fault)
			var wg sync.WaitGroup
			wg.Go(func() { w.command("failback", name) })
			w.eventually("the call", func() bool { return played(w.ovh) })
			kill()
			mend()
			wg.Wait()
			w.start()
			w.in("normal", "prod")
			w.zoneIs(before)
			w.told("failed_back")
		})
	}
}

// TestStrangerMadeTheSwitch: a stranger put prod's records back already. Nothing is to be written, and the
// watchdog must not be lost.
func TestStrangerMadeTheSwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.ready()
	mine := w.ovh.Records(zone)
	w.mustCommand("failover", name)
	w.zoneIs(switched)
	w.ovh.Edit(zone, func([]ovhworld.Record) []ovhworld.Record { return mine })
	w.told("foreign_records")
	w.zoneIs(before)
	w.mustCommand("failback", name, "--force")
	w.in("normal", "prod")
	w.zoneIs(before)
}

// TestServiceManager: ready after the first look, and alive as long as the loops turn.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "notify")
	conn := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}))
	defer conn.Close()
	w.env = map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
	stop := w.start()
	var got []string
	buf := make([]byte, 4096)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, string(buf[:n]))
		return got[len(got)-1]
	}
	for next() != "READY=1" {
	}
	alive, status := 0, false
	for alive < 3 || !status {
		line := next()
		if line == "WATCHDOG=1" {
			alive++
		}
		status = status || strings.HasPrefix(line, "STATUS=")
	}
	stop()
	for next() != "STOPPING=1" {
	}
}
