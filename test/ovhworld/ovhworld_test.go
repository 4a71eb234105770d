package ovhworld_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ovh/go-ovh/ovh"
	"go.uber.org/goleak"

	"releve/test/ovhworld"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	app, secret, consumer = "app", "secret", "consumer"
	zonePath              = "/domain/zone/example.net"
)

func start(t *testing.T, opts ovhworld.Options) (*ovhworld.World, string) {
	t.Helper()
	w := ovhworld.New(opts)
	t.Cleanup(w.Close)
	w.AddApplication(app, secret)
	w.AddCredential(app, consumer, time.Time{}, ovhworld.AllRules()...)
	w.AddZone("example.net", 3600, []string{"ns1.example.net"},
		ovhworld.Record{SubDomain: "www", Type: "A", Target: "192.0.2.1", TTL: 60},
		ovhworld.Record{SubDomain: "www", Type: "AAAA", Target: "2001:db8::1", TTL: 3600},
		ovhworld.Record{SubDomain: "wxw", Type: "A", Target: "192.0.2.2"},
		ovhworld.Record{SubDomain: "", Type: "A", Target: "192.0.2.3"},
	)
	endpoint, err := w.Listen(t.Context(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	return w, endpoint
}

// request is one call with every part open to forgery.
type request struct {
	method, path, body        string
	app, secret, consumer     string
	stamp                     int64
	endpoint                  string
	withoutKeys, badSignature bool
}

func (q request) send(t *testing.T) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, q.endpoint+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if !q.withoutKeys {
		sum := sha1.Sum([]byte(strings.Join([]string{q.secret, q.consumer, q.method, q.endpoint + q.path, q.body, fmt.Sprint(q.stamp)}, "+")))
		req.Header.Set("X-Ovh-Application", q.app)
		req.Header.Set("X-Ovh-Consumer", q.consumer)
		req.Header.Set("X-Ovh-Timestamp", fmt.Sprint(q.stamp))
		req.Header.Set("X-Ovh-Signature", fmt.Sprintf("$1$%x", sum))
	}
	if q.badSignature {
		req.Header.Set("X-Ovh-Signature", "$1$0000")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

func signed(endpoint, method, path, body string) request {
	return request{method: method, path: path, body: body, app: app, secret: secret, consumer: consumer, stamp: time.Now().Unix(), endpoint: endpoint}
}

func TestAuthenticationIsStrict(t *testing.T) {
	w, endpoint := start(t, ovhworld.Options{})
	w.AddCredential(app, "narrow", time.Time{}, ovhworld.Rule{Method: "GET", Path: zonePath + "/record/*"}, ovhworld.Rule{Method: "GET", Path: zonePath})
	w.AddCredential(app, "old", time.Now().Add(-time.Minute), ovhworld.AllRules()...)
	tests := []struct {
		name   string
		forge  func(q *request)
		status int
		says   string
	}{
		{"right", func(*request) {}, 200, `"name":"example.net"`},
		{"no keys", func(q *request) { q.withoutKeys = true }, 403, "INVALID_KEY"},
		{"unknown application", func(q *request) { q.app = "other" }, 403, "INVALID_KEY"},
		{"wrong secret", func(q *request) { q.secret = "other" }, 400, "INVALID_SIGNATURE"},
		{"bad signature", func(q *request) { q.badSignature = true }, 400, "INVALID_SIGNATURE"},
		{"unknown key", func(q *request) { q.consumer = "other" }, 403, "NOT_CREDENTIAL"},
		{"late", func(q *request) { q.stamp -= 60 }, 400, "QUERY_TIME_OUT"},
		{"early", func(q *request) { q.stamp += 60 }, 400, "QUERY_TIME_OUT"},
		{"expired", func(q *request) { q.consumer = "old" }, 403, "INVALID_CREDENTIAL"},
		{"not granted", func(q *request) { q.consumer = "narrow"; q.path = zonePath + "/record?subDomain=" }, 403, "NOT_GRANTED_CALL"},
		{"not granted method", func(q *request) { q.consumer = "narrow"; q.method = "DELETE" }, 403, "NOT_GRANTED_CALL"},
		{"unknown zone", func(q *request) { q.path = "/domain/zone/example.org" }, 404, "This service does not exist"},
		{"empty zone", func(q *request) { q.path = "/domain/zone/" }, 404, "invalid (or empty) URL"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			q := signed(endpoint, "GET", zonePath, "")
			tc.forge(&q)
			status, body, header := q.send(t)
			if status != tc.status || !strings.Contains(body, tc.says) || header.Get("X-Ovh-Queryid") == "" {
				t.Errorf("%d %s %v", status, body, header)
			}
		})
	}
}

func client(t *testing.T, endpoint string) *ovh.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c := &ovh.Client{AppKey: app, AppSecret: secret, ConsumerKey: consumer, Client: &http.Client{Transport: tr}, Timeout: 10 * time.Second}
	if err := c.SetEndpoint(endpoint); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFiltersAreLoose(t *testing.T) {
	_, endpoint := start(t, ovhworld.Options{})
	c := client(t, endpoint)
	for query, want := range map[string]int{
		"":                         4,
		"?subDomain=":              1,
		"?subDomain=www":           2,
		"?subDomain=WWW":           2,
		"?subDomain=w_w":           3,
		"?subDomain=%25":           4,
		"?fieldType=A":             3,
		"?fieldType=A%25":          4,
		"?fieldType=A&subDomain=w": 0,
	} {
		var ids []int64
		if err := c.Get(zonePath+"/record"+query, &ids); err != nil || len(ids) != want {
			t.Errorf("%s: %v %v, want %d", query, ids, err, want)
		}
		for _, id := range ids {
			if id < 1<<32 {
				t.Errorf("id %d fits 32 bits", id)
			}
		}
	}
}

func TestRecordRules(t *testing.T) {
	w, endpoint := start(t, ovhworld.Options{})
	id := w.Records("example.net")[0].ID
	item := fmt.Sprintf("%s/record/%d", zonePath, id)
	for _, tc := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"PUT", item, `{"fieldType":"A","target":"192.0.2.7"}`, 400, "not described"},
		{"PUT", item, `{"target":"2001:db8::7"}`, 400, "not valid for type ip"},
		{"PUT", item, `{"ttl":59}`, 400, "[ttl]"},
		{"PUT", item, `{"ttl":"60"}`, 400, "INVALID_SIGNATURE"},
		{"PUT", item, `{"target":"192.0.2.7"}`, 200, "null"},
		{"PUT", item, `{"ttl":3600}`, 200, "null"},
		{"GET", item, ``, 200, `"subDomain":"www","target":"192.0.2.7","ttl":0`},
		{"POST", zonePath + "/record", `{"subDomain":"www","target":"192.0.2.7"}`, 400, "Missing"},
		{"POST", zonePath + "/record", `{"fieldType":"CNAME","subDomain":"www","target":"x"}`, 409, "CNAME"},
		{"POST", zonePath + "/record", `{"fieldType":"A","subDomain":"www","target":"192.0.2.7"}`, 200, `"target":"192.0.2.7"`},
		{"POST", zonePath + "/refresh", ``, 204, ""},
		{"DELETE", item, ``, 200, "null"},
		{"DELETE", item, ``, 404, "does not exist"},
		{"GET", zonePath + "/soa", ``, 200, `"ttl":3600`},
		{"GET", zonePath + "/export", ``, 200, `192.0.2.3`},
		{"GET", zonePath + "/status", ``, 200, `"isDeployed":true`},
		{"GET", zonePath + "/nonsense", ``, 404, "URL"},
	} {
		status, body, _ := signed(endpoint, tc.method, tc.path, tc.body).send(t)
		if status != tc.status || !strings.Contains(body, tc.says) {
			t.Errorf("%s %s %s: %d %s", tc.method, tc.path, tc.body, status, body)
		}
	}
}

func TestOnlyARefreshPublishes(t *testing.T) {
	w, endpoint := start(t, ovhworld.Options{PublishDelay: 50 * time.Millisecond})
	served := func() string { return fmt.Sprint(w.Zones()) }
	before := served()
	signed(endpoint, "POST", zonePath+"/record", `{"fieldType":"A","subDomain":"new","target":"192.0.2.9"}`).send(t)
	if served() != before {
		t.Fatal("visible without a refresh")
	}
	signed(endpoint, "POST", zonePath+"/refresh", "").send(t)
	if served() != before {
		t.Fatal("visible at once")
	}
	eventually(t, func() bool { return strings.Contains(served(), "192.0.2.9") })
}

func TestFaults(t *testing.T) {
	w, endpoint := start(t, ovhworld.Options{NewErrors: true})
	add := signed(endpoint, "POST", zonePath+"/record", `{"fieldType":"A","subDomain":"n","target":"192.0.2.9"}`)
	count := func() int { return len(w.Records("example.net")) }
	for _, tc := range []struct {
		name   string
		fault  ovhworld.Fault
		status int
		says   string
		added  int
	}{
		{"answer", ovhworld.Fault{Status: 503}, 503, `"class"`, 0},
		{"page", ovhworld.Fault{Status: 502, Body: "<html>Bad Gateway</html>"}, 502, "<html>", 0},
		{"cut before", ovhworld.Fault{Cut: true}, 0, "EOF", 0},
		{"cut after", ovhworld.Fault{Cut: true, Effect: ovhworld.Happens}, 0, "EOF", 1},
		{"hang", ovhworld.Fault{Hang: 10 * time.Millisecond, Effect: ovhworld.Happens}, 0, "EOF", 1},
	} {
		before := count()
		tc.fault.Method, tc.fault.Path = "POST", "*/record"
		w.Fail(tc.fault)
		status, body, _ := add.send(t)
		if status != tc.status || !strings.Contains(body, tc.says) || count() != before+tc.added {
			t.Errorf("%s: %d %s, %d added", tc.name, status, body, count()-before)
		}
	}
	before := count()
	w.Fail(ovhworld.Fault{Method: "POST", Status: 504, Effect: ovhworld.Late, Delay: 30 * time.Millisecond, First: 2})
	add.send(t)
	if status, _, _ := add.send(t); status != 504 || count() != before+1 {
		t.Errorf("late: %d, %d added", status, count()-before)
	}
	eventually(t, func() bool { return count() == before+2 })
}

func TestCredentialIsAskedForAndValidated(t *testing.T) {
	_, endpoint := start(t, ovhworld.Options{})
	c := client(t, endpoint)
	ask := c.NewCkRequest()
	ask.AddRule("GET", zonePath)
	state, err := ask.Do()
	if err != nil {
		t.Fatal(err)
	}
	q := signed(endpoint, "GET", zonePath, "")
	q.consumer = state.ConsumerKey
	if status, body, _ := q.send(t); status != 403 || !strings.Contains(body, "INVALID_CREDENTIAL") {
		t.Errorf("before: %d %s", status, body)
	}
	resp, err := http.Get(state.ValidationURL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if status, body, _ := q.send(t); status != 200 {
		t.Errorf("after: %d %s", status, body)
	}
	q.path = "/auth/currentCredential"
	_, body, _ := q.send(t)
	var cred struct {
		Status     string
		Expiration *string
		Rules      []ovhworld.Rule
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&cred); err != nil || cred.Status != "validated" || len(cred.Rules) != 1 {
		t.Errorf("%s %v", body, err)
	}
}

func TestDynHostMovesAway(t *testing.T) {
	w, endpoint := start(t, ovhworld.Options{DynHostAt60: true})
	var records, dyn []int64
	c := client(t, endpoint)
	for path, ids := range map[string]*[]int64{"/record?subDomain=www": &records, "/dynHost/record?subDomain=www": &dyn} {
		if err := c.Get(zonePath+path, ids); err != nil {
			t.Fatal(err)
		}
	}
	if len(records) != 1 || len(dyn) != 1 {
		t.Fatalf("records %v, dynHost %v", records, dyn)
	}
	if err := c.Put(fmt.Sprintf("%s/dynHost/record/%d", zonePath, dyn[0]), map[string]string{"ip": "192.0.2.8"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := w.Records("example.net")[0]; got.Target != "192.0.2.8" || !got.DynHost {
		t.Error(got)
	}
}

// eventually waits for cond, which depends on the clock of the world alone.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("did not happen")
		}
	}
}
