package watchdog_test

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"releve/test/ovhworld"
)

// TestMetricsOfChanges: what was written, how OVH answered, how long publishing took, and that home moved.
func TestMetricsOfChanges(t *testing.T) {
	t.Parallel()
	w := dynWorld(t)
	w.ovh.Change(func(o *ovhworld.Options) { o.PublishDelay = time.Second })
	w.ovh.Fail(ovhworld.Fault{Method: "GET", Path: "/domain/zone/example.net/record", Status: 503})
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	addr := l.Addr().String()
	l.Close()
	w.set("listen", `"`+addr+`"`)
	w.start()
	w.leads(atHome1)
	w.moveHome(home2)
	w.leads(atHome2)
	get := func(path string) string {
		req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil))
		resp := must(http.DefaultClient.Do(req))
		defer resp.Body.Close()
		return string(must(io.ReadAll(resp.Body)))
	}
	if page := get("/"); !strings.Contains(page, "home.example.net") || !strings.Contains(page, "leads home: A 81.2.69.160") {
		t.Errorf("the page:\n%s", page)
	}
	text := get("/metrics")
	for _, want := range []string{
		`watchdog_dns_api_requests_total{method="POST",result="ok"} 3`, // added, and refreshed twice
		`watchdog_dns_api_requests_total{method="PUT",result="ok"} 1`,
		`watchdog_dns_api_requests_total{method="GET",result="temporary"} 1`,
		`watchdog_home_address_changes_total{family="ipv4"} 1`,
		`watchdog_home_address_changes_total{family="ipv6"} 0`,
		`watchdog_dyndns_in_sync{name="home.example.net"} 1`,
		`watchdog_dyndns_updates_total{name="home.example.net"} 2`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	// Between the delay and a few questions, a second apart, after it.
	if !regexp.MustCompile(`watchdog_dns_publish_seconds\{site="www.example.net"\} [1-9](\.\d+)?\n`).MatchString(text) {
		t.Errorf("the publication was not measured:\n%s", text)
	}
}
