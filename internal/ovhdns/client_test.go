package ovhdns_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"releve/internal/ovhdns"
	"releve/test/ovhworld"
)

// everyForm prints values in every way that a program might.
func everyForm(values ...any) []string {
	var texts []string
	for _, v := range values {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		asJSON, _ := json.Marshal(v)
		texts = append(texts, fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v), log.String(), string(asJSON))
	}
	return texts
}

func TestNewRefuses(t *testing.T) {
	good := config("ovh-eu")
	for name, spoil := range map[string]func(*ovhdns.Config){
		"no endpoint":      func(c *ovhdns.Config) { c.Endpoint = "" },
		"unknown name":     func(c *ovhdns.Config) { c.Endpoint = "ovh-mars" },
		"plain http":       func(c *ovhdns.Config) { c.Endpoint = "http://eu.api.ovh.com/1.0" },
		"trailing slash":   func(c *ovhdns.Config) { c.Endpoint = "https://eu.api.ovh.com/1.0/" },
		"user in the URL":  func(c *ovhdns.Config) { c.Endpoint = "https://u:p@eu.api.ovh.com/1.0" },
		"query":            func(c *ovhdns.Config) { c.Endpoint = "https://eu.api.ovh.com/1.0?x=1" },
		"no host":          func(c *ovhdns.Config) { c.Endpoint = "https:///1.0" },
		"other scheme":     func(c *ovhdns.Config) { c.Endpoint = "ftp://127.0.0.1/1.0" },
		"no key":           func(c *ovhdns.Config) { c.ApplicationKey = "" },
		"no secret":        func(c *ovhdns.Config) { c.ApplicationSecret = "" },
		"no consumer key":  func(c *ovhdns.Config) { c.ConsumerKey = "" },
		"loopback spoofed": func(c *ovhdns.Config) { c.Endpoint = "http://127.0.0.1.example.net/1.0" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := ovhdns.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, endpoint := range []string{"ovh-eu", "ovh-ca", "ovh-us", "https://eu.api.ovh.com/1.0", "http://127.0.0.1:1/1.0", "http://[::1]:1/1.0"} {
		cfg := good
		cfg.Endpoint = endpoint
		if _, err := ovhdns.New(cfg); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// TestSurroundingsAreIgnored: go-ovh's own constructors would stumble here.
func TestSurroundingsAreIgnored(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("ovh.conf", []byte("[default\nbroken"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OVH_CLIENT_ID", "stray")
	t.Setenv("OVH_APPLICATION_KEY", "stray")
	t.Setenv("OVH_CONSUMER_KEY", "stray")
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	replace(t, newClient(t, config(listen(t, w))), site, home)
	settledAt(t, w, "www", home)
}

func TestErrorsAreClassified(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(w *ovhworld.World, cfg *ovhdns.Config)
		kind  ovhdns.Kind
		says  string
	}{
		{"wrong secret", func(_ *ovhworld.World, cfg *ovhdns.Config) { cfg.ApplicationSecret = "x" }, ovhdns.BadCredential, "INVALID_SIGNATURE: Invalid signature"},
		{"wrong application", func(_ *ovhworld.World, cfg *ovhdns.Config) { cfg.ApplicationKey = "x" }, ovhdns.BadCredential, "INVALID_KEY"},
		{"wrong key", func(_ *ovhworld.World, cfg *ovhdns.Config) { cfg.ConsumerKey = "x" }, ovhdns.BadCredential, "NOT_CREDENTIAL"},
		{"expired key", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.AddCredential(appKey, consumerKey, time.Now().Add(-time.Hour), ovhworld.AllRules()...)
		}, ovhdns.BadCredential, "INVALID_CREDENTIAL"},
		{"new form", func(w *ovhworld.World, cfg *ovhdns.Config) {
			w.Change(func(o *ovhworld.Options) { o.NewErrors = true })
			cfg.ConsumerKey = "x"
		}, ovhdns.BadCredential, "This credential does not exist"},
		{"no rights", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.AddCredential(appKey, consumerKey, time.Time{}, ovhworld.Rule{Method: "GET", Path: "/me"})
		}, ovhdns.NoRights, "the key lacks GET /domain/zone/example.net/record"},
		{"no such zone", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.Fail(ovhworld.Fault{Status: 404, Times: -1})
		}, ovhdns.Permanent, "404"},
		{"expired service", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.Fail(ovhworld.Fault{Status: 460, Body: `{"message":"This service is expired"}`, Times: -1})
		}, ovhdns.Permanent, "This service is expired"},
		{"code in the body", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.Fail(ovhworld.Fault{Status: 503, Body: `{"code":200,"message":"x","QueryID":"y"}`, Times: -1})
		}, ovhdns.Temporary, "503"},
		{"gateway", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.Fail(ovhworld.Fault{Status: 502, Body: "<html>\n" + strings.Repeat("x", 1000), Times: -1})
		}, ovhdns.Temporary, "OVH answered 502: <html>"},
		{"nobody there", func(_ *ovhworld.World, cfg *ovhdns.Config) { cfg.Endpoint = "http://127.0.0.1:1/1.0" }, ovhdns.Temporary, "refused"},
		{"out of time", func(w *ovhworld.World, _ *ovhdns.Config) {
			w.Fail(ovhworld.Fault{Status: 400, Body: `{"message":"Query out of time"}`, Times: -1})
		}, ovhdns.Temporary, "out of time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, ovhworld.Options{}, prodRows...)
			cfg := config(listen(t, w))
			tc.spoil(w, &cfg)
			_, err := newClient(t, cfg).Read(t.Context(), zone, site)
			e, ok := errors.AsType[*ovhdns.APIError](err)
			if !ok || e.Kind != tc.kind || e.Unknown || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v (%+v)", err, e)
			}
			if e.Code >= 400 && strings.Contains(tc.says, "_") && e.QueryID == "" {
				t.Errorf("no query id: %v", err)
			}
		})
	}
}

// TestClockStep: OVH's clock and ours drift apart after the first call.
func TestClockStep(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	c := newClient(t, config(listen(t, w)))
	if _, err := c.Read(t.Context(), zone, site); err != nil {
		t.Fatal(err)
	}
	w.Change(func(o *ovhworld.Options) { o.Skew = -8 * time.Minute })
	replace(t, c, site, home)
	asked := 0
	for _, call := range w.Calls() {
		if call.Path == "/auth/time" {
			asked++
		}
	}
	if asked != 2 {
		t.Errorf("asked for the time %d times", asked)
	}
}

// TestHiddenTimeCallIsBounded: the call that go-ovh makes by itself, under no
// context of ours, hangs.
func TestHiddenTimeCallIsBounded(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	endpoint := listen(t, w)
	stop := w.Fail(ovhworld.Fault{Path: "/auth/time", Hang: time.Hour, Times: -1})
	bounded := func(name string, cfg ovhdns.Config, timeout time.Duration, says string) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, errors.New("the caller's patience"))
		defer cancel()
		start := time.Now()
		out, err := newClient(t, cfg).Replace(ctx, zone, site, home, nil)
		if err == nil || !strings.Contains(err.Error(), "GET /auth/time: "+says) || errors.Is(err, ovhdns.ErrUnconfirmed) || out.Pending {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	cfg := config(endpoint)
	bounded("by the caller", cfg, 50*time.Millisecond, "the caller's patience")
	cfg.Timeout = 50 * time.Millisecond
	bounded("by the timeout", cfg, time.Minute, "no answer in time")
	stop()
	replace(t, newClient(t, cfg), site, home)
}

// TestTimeCallFails: before a signature there is no call, and no effect.
func TestTimeCallFails(t *testing.T) {
	for name, f := range faults() {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ovhworld.Options{}, prodRows...)
			c := newClient(t, inMemory(w))
			f.Path, f.Effect, f.Times = "/auth/time", ovhworld.Nothing, -1
			stop := w.Fail(f)
			out, err := c.Replace(t.Context(), zone, site, home, nil)
			if err == nil || out.Pending || len(w.Effects()) > 0 || errors.Is(err, ovhdns.ErrUnconfirmed) {
				t.Errorf("%s: %v %+v", name, err, out)
			}
			stop()
			replace(t, c, site, home)
			settledAt(t, w, "www", home)
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := newClient(t, config(serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/1.0/auth/time" {
			_, _ = rw.Write([]byte("1700000000"))
			return
		}
		chunk := bytes.Repeat([]byte("1,"), 1<<15)
		for range 1 << 10 { // 64 MiB, if let
			if _, err := rw.Write(chunk); err != nil {
				return
			}
		}
	})))
	_, err := c.Read(t.Context(), zone, site)
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

// TestRedirectsAreNotFollowed: signed calls go to OVH and nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := false
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere = true })
	c := newClient(t, config(serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/1.0/auth/time" {
			_, _ = rw.Write([]byte("1700000000"))
			return
		}
		http.Redirect(rw, r, other, http.StatusTemporaryRedirect)
	})))
	_, err := c.Read(t.Context(), zone, site)
	if err == nil || elsewhere {
		t.Error(err, elsewhere)
	}
}

// TestConcurrentUse is for the race detector: go-ovh by itself does not pass.
func TestConcurrentUse(t *testing.T) {
	records := prodRows
	for i := range 6 {
		records = append(records, rows(fmt.Sprintf("s%d", i), prod)...)
	}
	w := newWorld(t, ovhworld.Options{}, records...)
	c := newClient(t, config(listen(t, w)))
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if _, err := c.Replace(t.Context(), zone, fmt.Sprintf("s%d.example.net", i), home, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 6 {
		settledAt(t, w, fmt.Sprintf("s%d", i), home)
	}
}

func TestRateIsLimited(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	cfg := config(listen(t, w))
	cfg.Rate = 50
	c := newClient(t, cfg)
	start := time.Now()
	for range 5 { // six calls each
		if _, err := c.Read(t.Context(), zone, site); err != nil {
			t.Fatal(err)
		}
	}
	// Twenty at once, ten at 50 per second.
	if took := time.Since(start); took < 180*time.Millisecond {
		t.Errorf("30 calls in %v", took)
	}
}

func TestRights(t *testing.T) {
	rule := func(method, path string) ovhworld.Rule { return ovhworld.Rule{Method: method, Path: path} }
	z := "/domain/zone/example.net"
	minimal := []ovhworld.Rule{
		rule("GET", z), rule("GET", z+"/record"), rule("GET", z+"/record/*"), rule("POST", z+"/record"),
		rule("PUT", z+"/record/*"), rule("DELETE", z+"/record/*"), rule("POST", z+"/refresh"),
	}
	expiry := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		rules   []ovhworld.Rule
		expires time.Time
		missing string
	}{
		{"everything", ovhworld.AllRules(), time.Time{}, "[]"},
		{"the least", minimal, expiry, "[]"},
		{"no refresh", minimal[:6], time.Time{}, "[POST /domain/zone/example.net/refresh]"},
		{"another zone", []ovhworld.Rule{rule("GET", "/domain/zone/example.net*"), rule("POST", "/domain/zone/example.org/*"), rule("PUT", z+"/*"), rule("DELETE", z+"/*")},
			time.Time{}, "[POST /domain/zone/example.net/record POST /domain/zone/example.net/refresh]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, ovhworld.Options{}, prodRows...)
			w.AddCredential(appKey, consumerKey, tc.expires, tc.rules...)
			rights, err := newClient(t, config(listen(t, w))).Rights(t.Context(), "Example.net")
			if err != nil || !rights.Known || rights.Status != "validated" || !rights.Expires.Equal(tc.expires) {
				t.Errorf("%v %+v", err, rights)
			}
			if got := fmt.Sprint(rights.Missing()); got != tc.missing {
				t.Errorf("missing %s, want %s", got, tc.missing)
			}
			if len(w.Effects()) > 0 {
				t.Error("asking had effects")
			}
		})
	}
	t.Run("not known", func(t *testing.T) {
		w := newWorld(t, ovhworld.Options{CredentialNeedsRule: true}, prodRows...)
		w.AddCredential(appKey, consumerKey, time.Time{}, minimal...)
		rights, err := newClient(t, config(listen(t, w))).Rights(t.Context(), zone)
		if err != nil || rights.Known || len(rights.Missing()) > 0 || len(rights.Calls) == 0 {
			t.Errorf("%v %+v", err, rights)
		}
	})
	t.Run("the least is enough", func(t *testing.T) {
		w := newWorld(t, ovhworld.Options{}, prodRows...)
		w.AddCredential(appKey, consumerKey, time.Time{}, minimal...)
		c := newClient(t, config(listen(t, w)))
		replace(t, c, site, home)
		replace(t, c, site, ovhdns.Set{a("192.0.2.1", 0), aaaa("2001:db8::1", 60)})
		if _, err := c.NameServers(t.Context(), zone); err != nil {
			t.Error(err)
		}
	})
}

func TestCreateTokenURL(t *testing.T) {
	got, err := ovhdns.CreateTokenURL("ovh-eu", "Example.net.")
	want := "https://eu.api.ovh.com/createToken/?GET=/domain/zone/example.net&GET=/domain/zone/example.net/record&GET=/domain/zone/example.net/record/*&POST=/domain/zone/example.net/record&PUT="
	if err != nil || !strings.HasPrefix(got, want) || !strings.Contains(got, "&POST=/domain/zone/example.net/refresh&") {
		t.Error(got, err)
	}
	if _, err := ovhdns.CreateTokenURL("ovh-eu", "a&b"); err == nil {
		t.Error("a zone that is none")
	}
}

func TestHints(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, append(rows("www", prod),
		ovhworld.Record{SubDomain: "www", Type: "HTTPS", Target: `1 . alpn="h2" ipv4hint="192.0.2.1"`},
		ovhworld.Record{SubDomain: "www", Type: "SVCB", Target: `1 . alpn="h2"`},
		ovhworld.Record{Type: "MX", Target: "10 mail." + zone + "."}, ovhworld.Record{Type: "MX", Target: "20 WWW"},
		ovhworld.Record{SubDomain: "www", Type: "MX", Target: "5 " + site + "."},
	)...)
	warnings, err := newClient(t, config(listen(t, w))).Hints(t.Context(), zone, site)
	if err != nil || len(warnings) != 3 || !strings.Contains(warnings[0], "HTTPS record with address hints") ||
		!strings.HasPrefix(warnings[1], "mail for "+zone+" goes to "+site+" (MX 20 WWW)") || !strings.HasPrefix(warnings[2], "mail for "+site+" goes to "+site) {
		t.Error(warnings, err)
	}
}

// TestRequestKey asks for a key, confirms it as its owner, and switches with it.
func TestRequestKey(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	cfg := config(listen(t, w))
	cfg.ConsumerKey = ""
	key, err := ovhdns.RequestKey(t.Context(), cfg, zone)
	if err != nil || strings.Contains(everyForm(key)[0], key.ConsumerKey) {
		t.Fatal(err, key)
	}
	cfg.ConsumerKey = key.ConsumerKey
	c := newClient(t, cfg)
	_, err = c.Rights(t.Context(), zone)
	if e, ok := errors.AsType[*ovhdns.APIError](err); !ok || e.Kind != ovhdns.BadCredential {
		t.Errorf("before it was confirmed: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, key.ValidationURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	rights, err := c.Rights(t.Context(), zone)
	if err != nil || !rights.Known {
		t.Fatal(err, rights)
	}
	for _, call := range rights.Calls {
		if !call.Granted {
			t.Errorf("%s was not asked for", call)
		}
	}
	replace(t, c, site, home)
	settledAt(t, w, "www", home)

	cfg.ApplicationKey = "unknown"
	if _, err := ovhdns.RequestKey(t.Context(), cfg, zone); err == nil || !strings.Contains(err.Error(), "INVALID_KEY") {
		t.Error(err)
	}
}

// TestTLS: the certificate is checked, against our own roots if given.
func TestTLS(t *testing.T) {
	w := newWorld(t, ovhworld.Options{}, prodRows...)
	lender := httptest.NewTLSServer(nil) // of a certificate for 127.0.0.1
	lender.Close()
	endpoint, err := w.Listen(t.Context(), "127.0.0.1:0", &lender.TLS.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(endpoint)
	if _, err := newClient(t, cfg).Read(t.Context(), zone, site); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(lender.Certificate())
	replace(t, newClient(t, cfg), site, home)
	settledAt(t, w, "www", home)
}
