package ovhdns_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	appKey, appSecret, consumerKey = "app-key-7d1", "app-secret-9c2", "consumer-key-4e3"
	zone, site                     = "example.net", "www.example.net"
)

// The owner's records, the standby's, and neighbours that loose filters also
// match and that nothing may touch.
var (
	prod       = ovhdns.Set{{Type: "A", Target: "192.0.2.1", TTL: 60}, {Type: "AAAA", Target: "2001:db8::1", TTL: 60}}
	home       = ovhdns.Set{{Type: "A", Target: "198.51.100.7", TTL: 60}}
	prodRows   = rows("www", prod)
	neighbours = []ovhworld.Record{
		{SubDomain: "", Type: "A", Target: "192.0.2.200"},
		{SubDomain: "", Type: "TXT", Target: `"v=spf1 -all"`},
		{SubDomain: "wwwx", Type: "A", Target: "192.0.2.201", TTL: 60},
		{SubDomain: "w-w", Type: "AAAA", Target: "2001:db8::201", TTL: 60},
		{SubDomain: "alias", Type: "CNAME", Target: "www"},
	}
)

func rows(sub string, s ovhdns.Set) []ovhworld.Record {
	var out []ovhworld.Record
	for _, r := range s {
		out = append(out, ovhworld.Record{SubDomain: sub, Type: r.Type, Target: r.Target, TTL: r.TTL, DynHost: r.DynHost})
	}
	return out
}

// newWorld is an OVH whose one zone holds the neighbours and records.
func newWorld(t *testing.T, opts ovhworld.Options, records ...ovhworld.Record) *ovhworld.World {
	t.Helper()
	w := ovhworld.New(opts)
	t.Cleanup(w.Close)
	w.AddApplication(appKey, appSecret)
	w.AddCredential(appKey, consumerKey, time.Time{}, ovhworld.AllRules()...)
	w.AddZone(zone, 3600, []string{"ns1.example.net", "ns2.example.net"}, slices.Concat(neighbours, records)...)
	return w
}

func listen(t *testing.T, w *ovhworld.World) string {
	t.Helper()
	endpoint, err := w.Listen(t.Context(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// config is what a daemon has, but hurried.
func config(endpoint string) ovhdns.Config {
	return ovhdns.Config{
		Endpoint: endpoint, ApplicationKey: appKey, ApplicationSecret: appSecret, ConsumerKey: consumerKey,
		Timeout: 5 * time.Second, Settle: 20 * time.Millisecond, Pause: time.Millisecond, Rate: 1e6,
	}
}

// inMemory is a daemon's configuration as it is, its defaults included, for a
// world in the same bubble of time.
func inMemory(w *ovhworld.World) ovhdns.Config {
	return ovhdns.Config{
		Endpoint: ovhworld.Endpoint, DialContext: w.DialContext,
		ApplicationKey: appKey, ApplicationSecret: appSecret, ConsumerKey: consumerKey,
	}
}

func newClient(t *testing.T, cfg ovhdns.Config) *ovhdns.Client {
	t.Helper()
	c, err := ovhdns.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve puts a handler of the test's own in place of the world's server.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/1.0"
}

// at returns the address records of sub that the zone holds, or that it serves.
func at(w *ovhworld.World, sub string) (held, served ovhdns.Set) {
	for _, r := range w.Records(zone) {
		if r.SubDomain == sub && (r.Type == "A" || r.Type == "AAAA") {
			held = append(held, ovhdns.Record{Type: r.Type, Target: r.Target, TTL: r.TTL})
		}
	}
	for _, r := range w.Zones()[0].Records {
		if r.Name == sub && (r.Type == "A" || r.Type == "AAAA") {
			served = append(served, ovhdns.Record{Type: r.Type, Target: r.Target, TTL: int64(r.TTL)})
		}
	}
	return held, served
}

// settledAt fails the test unless sub holds and serves exactly want, each
// record once, and the neighbours are as they were.
func settledAt(t *testing.T, w *ovhworld.World, sub string, want ovhdns.Set) {
	t.Helper()
	held, served := at(w, sub)
	if !held.Equal(want) || len(held) != len(want) {
		t.Errorf("the zone holds %s, want %s", held, want)
	}
	if !served.SameTargets(want) || len(served) != len(want) {
		t.Errorf("the name servers serve %s, want %s", served, want)
	}
	for _, n := range neighbours {
		if n.SubDomain == sub && n.Type != "TXT" {
			continue
		}
		if !slices.ContainsFunc(w.Records(zone), func(r ovhworld.Record) bool { r.ID, r.DynHost = 0, false; return r == n }) {
			t.Errorf("neighbour %s is gone: %v", n, w.Records(zone))
		}
	}
}

// writes is what calls did to records, in the world's words.
func writes(w *ovhworld.World) []string {
	return slices.DeleteFunc(w.Effects(), func(e string) bool { return strings.HasPrefix(e, "refresh") })
}

// refreshedLast fails the test unless the last effect is a refresh.
func refreshedLast(t *testing.T, w *ovhworld.World) {
	t.Helper()
	if all := w.Effects(); len(all) > 0 && !strings.HasPrefix(all[len(all)-1], "refresh") {
		t.Errorf("the last effect is not a refresh: %q", all)
	}
}

func replace(t *testing.T, c *ovhdns.Client, name string, want ovhdns.Set) ovhdns.Outcome {
	t.Helper()
	out, err := c.Replace(context.Background(), zone, name, want, nil)
	if err != nil {
		t.Fatalf("%v\noutcome %+v", err, out)
	}
	return out
}
