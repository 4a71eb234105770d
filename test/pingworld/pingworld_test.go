package pingworld_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"releve/test/pingworld"
)

// A fake that takes everything proves nothing.
func TestStrict(t *testing.T) {
	w, err := pingworld.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.See(pingworld.Reaches)
	good := `{"type":"http","target":"203.0.113.10","limit":5,"measurementOptions":{"protocol":"HTTPS","port":443,"request":{"host":"www.example.net","path":"/","method":"GET"}}}`
	post := func(body, kind string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL()+"/v1/measurements", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		req.Header.Set("User-Agent", "test")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if code, text := post(good, "application/json"); code != 202 || len(w.Complaints()) > 0 {
		t.Fatalf("%d %s %q", code, text, w.Complaints())
	}
	if code, _ := post(good, "text/plain"); code != 415 {
		t.Errorf("status %d", code)
	}
	for _, c := range [][2]string{
		{`"http"`, `"ping"`}, {`203.0.113.10`, `www.example.net`}, {`"limit":5`, `"limit":501`}, {`"limit":5`, `"colour":5`}, {`HTTPS`, `https`},
		{`443`, `0`}, {`www.example.net`, `www.example.net:443`}, {`"/"`, `"/?a=b"`}, {`"/"`, `"health"`}, {`GET`, `POST`},
	} {
		if code, _ := post(strings.Replace(good, c[0], c[1], 1), "application/json"); code != 400 {
			t.Errorf("%v: status %d", c, code)
		}
	}
	if n := len(w.Complaints()); n != 11 || len(w.Asked()) != 1 {
		t.Errorf("%d complaints, asked %v", n, w.Asked())
	}
	for range 249 {
		if code, _ := post(good, "application/json"); code != 202 {
			t.Fatalf("status %d", code)
		}
	}
	if code, _ := post(good, "application/json"); code != 429 {
		t.Errorf("the 251st: status %d", code)
	}
}
