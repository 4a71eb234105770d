package probe_test

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"releve/internal/probe"
	"releve/test/sites"
)

func TestCertificate(t *testing.T) {
	t.Parallel()
	s := startSite(t, sites.Config{})
	ended := time.Now().Add(-48 * time.Hour)

	t.Run("expired", func(t *testing.T) {
		if err := s.Certify([]string{"www.example.net"}, ended); err != nil {
			t.Fatal(err)
		}
		r := probe.Check(t.Context(), target(t, s))
		want(t, r, probe.ReasonCertificate, "expired on "+ended.UTC().Format(time.DateOnly))
		if r.NotAfter.Unix() != ended.Unix() || r.Serial == "" || r.Status != 0 {
			t.Errorf("evidence: %+v", r)
		}
	})
	t.Run("not yet valid", func(t *testing.T) {
		cert, err := s.CA().IssueBetween([]string{"www.example.net"}, time.Now().Add(time.Hour), time.Now().Add(48*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		s.SetCertificate(cert)
		want(t, probe.Check(t.Context(), target(t, s)), probe.ReasonCertificate, "not valid before")
	})
	t.Run("another name", func(t *testing.T) {
		if err := s.Certify([]string{"other.example.net"}, time.Now().Add(48*time.Hour)); err != nil {
			t.Fatal(err)
		}
		want(t, probe.Check(t.Context(), target(t, s)), probe.ReasonCertificate, "other.example.net, not www.example.net")
	})
	t.Run("unknown authority", func(t *testing.T) {
		tg := target(t, s)
		tg.Roots = startSite(t, sites.Config{}).CA().Pool()
		if err := s.Certify([]string{"www.example.net"}, time.Now().Add(48*time.Hour)); err != nil {
			t.Fatal(err)
		}
		want(t, probe.Check(t.Context(), tg), probe.ReasonCertificate, "authority not trusted here")
		tg.Roots = nil
		want(t, probe.Check(t.Context(), tg), probe.ReasonCertificate, "authority not trusted here")
	})
	t.Run("extra roots", func(t *testing.T) {
		roots, err := probe.SystemRootsPlus(s.CA().PEM())
		if err != nil {
			t.Fatal(err)
		}
		tg := target(t, s)
		tg.Roots = roots
		want(t, probe.Check(t.Context(), tg), "", "")
		if _, err := probe.SystemRootsPlus([]byte("no certificate")); err == nil {
			t.Error("roots without a certificate were accepted")
		}
	})
	t.Run("no TLS there", func(t *testing.T) {
		plain := startSite(t, sites.Config{Plain: true})
		tg := target(t, s)
		tg.Address = plain.Addr()
		want(t, probe.Check(t.Context(), tg), probe.ReasonTLS, "TLS handshake with "+plain.Addr())
	})
}

func TestStatusAndBody(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", probe.BodyLimit-5)
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   []int
		match  string
		reason probe.Reason
		detail string
	}{
		{"200 by default", 200, "", nil, "", "", ""},
		{"503 by default", 503, "", nil, "", probe.ReasonStatus, "status 503 instead of 200"},
		{"204 is not 200", 204, "", nil, "", probe.ReasonStatus, "status 204 instead of 200"},
		{"one of several", 401, "", []int{200, 401}, "", "", ""},
		{"none of several", 200, "", []int{204, 401}, "", probe.ReasonStatus, "status 200 instead of 204 or 401"},
		{"body matches", 200, "all is well\n", nil, `(?m)well$`, "", ""},
		{"body does not", 200, "maintenance", nil, `well`, probe.ReasonBody, `status 200, but "well" matches nowhere in the 11 bytes of its body`},
		{"empty body", 200, "", nil, `.`, probe.ReasonBody, "0 bytes"},
		{"wrong status counts before the body", 500, "well", nil, `well`, probe.ReasonStatus, "500"},
		{"just within 64 KiB", 200, long + "relay" + "more", nil, `relay$`, "", ""},
		{"just beyond 64 KiB", 200, long + ".relay", nil, `relay`, probe.ReasonBody, "first 64 KiB of its body"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startSite(t, sites.Config{})
			s.Answer(c.status, c.body)
			tg := target(t, s)
			tg.Status = c.want
			if c.match != "" {
				tg.Body = regexp.MustCompile(c.match)
			}
			r := probe.Check(t.Context(), tg)
			want(t, r, c.reason, c.detail)
			if r.Status != c.status {
				t.Errorf("status = %d", r.Status)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "home") })
	for path, to := range map[string]string{
		"/old":     "/",
		"/twice":   "/old",
		"/same":    "https://www.example.net/",
		"/loop":    "/loop",
		"/away":    "https://elsewhere.example.org/?token=hunter2",
		"/clear":   "http://www.example.net/",
		"/port":    "https://www.example.net:8443/",
		"/nowhere": "://",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusMovedPermanently)
		})
	}
	s := startSite(t, sites.Config{Handler: mux})
	for _, c := range []struct {
		path   string
		follow bool
		reason probe.Reason
		detail string
	}{
		{"/old", false, probe.ReasonStatus, "status 301 instead of 200 (a redirect to https://www.example.net, not followed)"},
		{"/old", true, "", ""},
		{"/twice", true, "", ""},
		{"/same", true, "", ""},
		{"/loop", true, probe.ReasonStatus, "more than 5 redirects"},
		{"/away", true, probe.ReasonStatus, "(a redirect to https://elsewhere.example.org, not followed)"},
		{"/clear", true, probe.ReasonStatus, "(a redirect to http://www.example.net, not followed)"},
		{"/port", true, probe.ReasonStatus, "(a redirect to https://www.example.net:8443, not followed)"},
		{"/nowhere", true, probe.ReasonStatus, "status 301 instead of 200"},
	} {
		tg := target(t, s)
		tg.URL, tg.FollowRedirects = mustURL(t, "https://www.example.net"+c.path), c.follow
		before := s.Requests()
		r := probe.Check(t.Context(), tg)
		want(t, r, c.reason, c.detail)
		if strings.Contains(r.Detail, "hunter2") {
			t.Errorf("detail holds the redirect's query: %s", r.Detail)
		}
		if n := s.Requests() - before; n > 6 {
			t.Errorf("%s: %d requests", c.path, n)
		}
	}
	// Nor does an answer in clear stand in for one over TLS where the port is free to change.
	clear := startSite(t, sites.Config{Plain: true})
	_, port, _ := net.SplitHostPort(s.Addr())
	_, clearPort, _ := net.SplitHostPort(clear.Addr())
	mux.Handle("/down", http.RedirectHandler("http://www.example.net:"+clearPort+"/", http.StatusFound))
	up := startSite(t, sites.Config{Plain: true, Handler: http.RedirectHandler("https://www.example.net:"+port+"/", http.StatusFound)})
	_, upPort, _ := net.SplitHostPort(up.Addr())
	free := target(t, s)
	free.Address, free.FollowRedirects = "127.0.0.1", true
	free.URL = mustURL(t, "https://www.example.net:"+port+"/down")
	want(t, probe.Check(t.Context(), free), probe.ReasonStatus, "not followed")
	free.URL = mustURL(t, "http://www.example.net:"+upPort+"/")
	want(t, probe.Check(t.Context(), free), "", "status 200 from "+s.Addr())

	// A 3xx that is the right status is right, also where redirects are followed no further.
	tg := target(t, s)
	tg.URL, tg.Status = mustURL(t, "https://www.example.net/old"), []int{301}
	want(t, probe.Check(t.Context(), tg), "", "status 301")
}
