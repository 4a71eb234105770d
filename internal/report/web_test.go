package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/internal/report"
)

func web(t *testing.T) *report.Server {
	t.Helper()
	s := &report.Server{
		Listen: "127.0.0.1:0",
		Hosts:  []string{"Backup.lan"},
		Page:   night,
		Status: func() any { return map[string]string{"state": "failing"} },
		Metrics: func(w io.Writer) {
			var m report.Metrics
			m.Bool("watchdog_uplink_up", "Whether the uplink is there.", true)
			_, _ = m.WriteTo(w)
		},
		Control: map[string]report.Command{"failover": nil},
	}
	run(t, s)
	return s
}

func TestWebIsReadOnly(t *testing.T) {
	s := web(t)
	for _, c := range []struct {
		method, path string
		code         int
		kind         string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/status.json", 200, "application/json; charset=utf-8"},
		{"GET", "/metrics", 200, report.ContentType},
		{"GET", "/healthz", 503, "text/plain; charset=utf-8"},
		{"POST", "/", 405, ""}, {"PUT", "/metrics", 405, ""}, {"DELETE", "/status.json", 405, ""}, {"POST", "/healthz", 405, ""},
		{"POST", "/control/failover", 404, ""}, {"GET", "/control/failover", 404, ""}, {"GET", "/x", 404, ""},
	} {
		response, _ := get(t, s, c.method, c.path, "")
		if response.StatusCode != c.code || c.kind != "" && response.Header.Get("Content-Type") != c.kind {
			t.Errorf("%s %s: %d %s", c.method, c.path, response.StatusCode, response.Header.Get("Content-Type"))
		}
		for key, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"} {
			if got := response.Header.Get(key); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %s is %q", c.method, c.path, key, got)
			}
		}
	}
}

func TestDNSRebinding(t *testing.T) {
	s := web(t)
	for host, code := range map[string]int{
		"127.0.0.1:9812": 200, "[::1]:9812": 200, "[::1]": 200, "192.168.1.5": 200, "localhost": 200, "LOCALHOST.:80": 200, "a.localhost:1": 200,
		"backup.lan:9812": 200, "evil.example": 421, "evil.example:9812": 421, "127.0.0.1.evil.example": 421, "xlocalhost": 421, "127.0.0.1x": 421,
	} {
		for _, path := range []string{"/", "/status.json", "/metrics"} {
			if response, text := get(t, s, "GET", path, host); response.StatusCode != code {
				t.Errorf("Host %s: %d %s", host, response.StatusCode, text)
			}
		}
	}
	named := &report.Server{Listen: "localhost:0", Page: night}
	run(t, named)
	if response, _ := get(t, named, "GET", "/", "localhost"); response.StatusCode != 200 {
		t.Error(response.StatusCode)
	}
}

func TestPage(t *testing.T) {
	p := night()
	p.Headline = `<script>alert(1)</script>`
	p.Problems[0] = `a & "b" <img src=x onerror=y>`
	p.Sections[0].Rows[1] = p.Sections[0].Rows[1][:2] // a short row
	s := &report.Server{Listen: "127.0.0.1:0", Page: func() report.Page { return p }}
	run(t, s)
	response, text := get(t, s, "GET", "/", "")
	for _, want := range []string{
		"<title>Failing · watchdog on backup.example.net</title>", `<body class="failing">`, "2 things need attention", "term 7",
		"&lt;script&gt;alert(1)&lt;/script&gt;", "a &amp; &#34;b&#34; &lt;img", `data-label="Records"`, "All messages have been delivered.",
		`<th scope="row" class="">`, "22 November 2026, 03:26:53 UTC", "Version v1.0.0", `content="5"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, never := range []string{"<script", "<img", "http://", "ZgotmplZ", "href=\"//"} {
		if strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), never) && never != "http://" {
			t.Errorf("the page has %s", never)
		}
	}
	if got := strings.Count(text, `<td data-label`); got != 2*4+3*2 {
		t.Errorf("%d cells: a short row was not filled up", got)
	}
	_, rest, _ := strings.Cut(text, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(response.Header.Get("Content-Security-Policy"), "'sha256-"+hash+"'") {
		t.Error("the policy forbids the page's own style")
	}
}

func TestPageOfNothing(t *testing.T) {
	s := &report.Server{Listen: "127.0.0.1:0", Page: func() report.Page { return report.Page{State: report.OK, Time: time.Unix(0, 0)} }}
	run(t, s)
	response, text := get(t, s, "GET", "/", "")
	if response.StatusCode != 200 || strings.Contains(text, "attention") {
		t.Error(response.StatusCode, text)
	}
	if response, text := get(t, s, "GET", "/healthz", ""); response.StatusCode != 200 || text != "ok\n" {
		t.Error(response.StatusCode, text)
	}
	empty := &report.Server{Listen: "127.0.0.1:0"}
	run(t, empty)
	for path, code := range map[string]int{"/": 404, "/metrics": 200, "/status.json": 200, "/healthz": 200} {
		if response, _ := get(t, empty, "GET", path, ""); response.StatusCode != code {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
}

// TestPanicIsHeardOf: net/http recovers; the owner's log must know.
func TestPanicIsHeardOf(t *testing.T) {
	var mu sync.Mutex
	var heard bytes.Buffer
	s := &report.Server{Listen: "127.0.0.1:0", Status: func() any { panic("nil map") }, ErrorLog: log.New(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return heard.Write(p)
	}), "", 0)}
	stop := run(t, s)
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.WebAddr().String()+"/status.json", nil)
	must(t, err)
	if response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request); err == nil {
		t.Error(response.Status)
		_ = response.Body.Close()
	}
	stop()
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(heard.String(), "nil map") {
		t.Errorf("heard %q", heard.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestMetrics(t *testing.T) {
	var m report.Metrics
	m.Gauge("releve_pending", "Files \\ still\nto go.", 12, "folder", `we"b\roo`+"t\n\xff")
	m.Counter("releve_sent_bytes_total", "Bytes sent.", 1e21)
	m.Gauge("releve_pending", "ignored", 0.5, "folder", "é", "backup", "home")
	m.Bool("releve_connected", "Whether.", true)
	m.Bool("releve_ready", "Whether.", false)
	m.Gauge("releve_lag_seconds", "Age.", math.Inf(1))
	m.Gauge("releve_nothing", "None.", math.NaN())
	var b strings.Builder
	n, err := m.WriteTo(&b)
	want := `# HELP releve_pending Files \\ still\nto go.
# TYPE releve_pending gauge
releve_pending{folder="we\"b\\root\n` + "\uFFFD" + `"} 12
releve_pending{folder="é",backup="home"} 0.5
# HELP releve_sent_bytes_total Bytes sent.
# TYPE releve_sent_bytes_total counter
releve_sent_bytes_total 1e+21
# HELP releve_connected Whether.
# TYPE releve_connected gauge
releve_connected 1
# HELP releve_ready Whether.
# TYPE releve_ready gauge
releve_ready 0
# HELP releve_lag_seconds Age.
# TYPE releve_lag_seconds gauge
releve_lag_seconds +Inf
# HELP releve_nothing None.
# TYPE releve_nothing gauge
releve_nothing NaN
`
	if b.String() != want || n != int64(len(want)) || err != nil {
		t.Errorf("%d, %v:\n%s", n, err, b.String())
	}
}
