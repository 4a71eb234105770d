package strictconf_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"releve/internal/strictconf"
)

// rule runs one rule on a value and gives its sentence, or nothing.
func rule(check func(d *strictconf.Doc)) string {
	var f file
	d := strictconf.Parse("x", nil, &f)
	check(d)
	if err := d.Err(); err != nil {
		return strings.TrimPrefix(err.Error(), "x:1: k: ")
	}
	return ""
}

func TestName(t *testing.T) {
	const bad = ` is not a good name; use lower-case letters, digits, ".", "-" and "_", 64 at most, beginning with a letter or digit`
	long := strings.Repeat("a", 65)
	for value, want := range map[string]string{
		"webroot": "", "www.example.net": "", "a-b_c.9": "", "9": "",
		"": "is missing; give it a name", "..": `".."` + bad, ".releve": `".releve"` + bad, "a/b": `"a/b"` + bad, "A": `"A"` + bad, "a b": `"a b"` + bad, "a\n": `"a\n"` + bad,
		long: `"` + long + `"` + bad, "é": `"é"` + bad,
	} {
		if got := rule(func(d *strictconf.Doc) { d.Name("k", value) }); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
}

func TestPath(t *testing.T) {
	for value, want := range map[string]string{
		"/": "", "/var/www": "", "/a b/ü": "",
		"":           "is missing; give an absolute path",
		"var":        `"var" is not an absolute path; begin it with "/"`,
		"~/x":        `"~/x" is not an absolute path; begin it with "/"`,
		"/var/":      `"/var/" is not a clean path; write "/var"`,
		"/a/../b":    `"/a/../b" is not a clean path; write "/b"`,
		"//a":        `"//a" is not a clean path; write "/a"`,
		"/a ":        `"/a " begins or ends with a space`,
		"/a\x00/etc": "holds a zero byte",
	} {
		if got := rule(func(d *strictconf.Doc) { d.Path("k", value) }); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
}

func TestApart(t *testing.T) {
	for pair, want := range map[[2]string]string{
		{"/a", "/b"}: "", {"/a", "/ab"}: "", {"/ab", "/a"}: "", {"", "/a"}: "", {"/a", ""}: "", {"", ""}: "",
		{"/a", "/a"}:   "is the same path as j; no",
		{"/a", "/a/b"}: "lies inside j; no",
		{"/a/b", "/a"}: "contains j; no",
		{"/a/b", "/"}:  "contains j; no",
		{"/", "/a"}:    "lies inside j; no",
	} {
		got := rule(func(d *strictconf.Doc) {
			d.Apart([]strictconf.KeyedPath{{Key: "j", Path: pair[0]}, {Key: "k", Path: pair[1]}}, "no")
		})
		if got != want {
			t.Errorf("%q: %s", pair, got)
		}
	}
}

func TestWithin(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"/a", "/a"}: true, {"/a/b", "/a"}: true, {"/a", "/"}: true, {"/ab", "/a"}: false, {"/a", "/a/b"}: false, {"", "/a"}: false, {"/a", ""}: false,
	} {
		if got := strictconf.Within(pair[0], pair[1]); got != want {
			t.Errorf("%q: %v", pair, got)
		}
	}
}

func TestAddress(t *testing.T) {
	const noPort, badPort, brackets, noHost = "it has no port", "the port must be a number from 1 to 65535",
		"an IPv6 address stands in [brackets] before its port", "the host is neither a name nor an IP address"
	for _, tc := range []struct{ value, port, want, reason string }{
		{"backup.lan", "22", "backup.lan:22", ""},
		{"backup.lan:2222", "22", "backup.lan:2222", ""},
		{"backup.lan:2222", "", "backup.lan:2222", ""},
		{"192.0.2.1", "22", "192.0.2.1:22", ""},
		{"2001:db8::1", "22", "[2001:db8::1]:22", ""},
		{"[2001:db8::1]", "22", "[2001:db8::1]:22", ""},
		{"[2001:db8::1]:22", "", "[2001:db8::1]:22", ""},
		{"localhost", "", "", noPort},
		{"2001:db8::1", "", "", brackets},
		{"2001:db8::1:x", "22", "", brackets},
		{"host:", "22", "", badPort},
		{"host:0", "22", "", badPort},
		{"host:65536", "22", "", badPort},
		{"host:ssh", "22", "", badPort},
		{":22", "22", "", noHost},
		{"a b", "22", "", noHost},
		{"-a", "22", "", noHost},
		{"me@host", "22", "", noHost},
		{"300.1.1.1", "22", "", noHost},
		{"host/path", "22", "", noHost},
	} {
		var address string
		got := rule(func(d *strictconf.Doc) { address = d.Address("k", tc.value, tc.port) })
		form := "HOST or HOST:PORT"
		if tc.port == "" {
			form = "HOST:PORT"
		}
		want := ""
		if tc.reason != "" {
			want = fmt.Sprintf("%q is not %s: %s", tc.value, form, tc.reason)
		}
		if address != tc.want || got != want {
			t.Errorf("%q: %q, %s", tc.value, address, got)
		}
	}
	if got := rule(func(d *strictconf.Doc) { d.Address("k", "", "") }); got != "is missing; write HOST:PORT" {
		t.Error(got)
	}
}

func TestListen(t *testing.T) {
	for value, reason := range map[string]string{
		"": "", "127.0.0.1:9811": "", "localhost:1": "", "[::1]:80": "", ":9811": "", "0.0.0.0:9811": "", "127.0.0.1:0": "", ":0": "",
		"9811":          "it has no port",
		"127.0.0.1":     "it has no port",
		"127.0.0.1:":    "the port must be a number from 1 to 65535",
		"::1:9811":      "an IPv6 address stands in [brackets] before its port",
		"127.0.0.1:00":  "the port must be a number from 1 to 65535",
		"256.0.0.1:911": "the host is neither a name nor an IP address",
	} {
		want := ""
		if reason != "" {
			want = fmt.Sprintf(`%q is not HOST:PORT: %s; write "" to switch it off`, value, reason)
		}
		if got := rule(func(d *strictconf.Doc) { d.Listen("k", value) }); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
}

func TestURL(t *testing.T) {
	for value, want := range map[string]string{
		"https://www.example.net/": "", "http://127.0.0.1:8080": "", "https://[2001:db8::1]/x?y=z": "", "HTTPS://Example.net": "",
		"":                        `is missing; write for example "https://www.example.net/"`,
		"://":                     `is not a URL; write for example "https://www.example.net/"`,
		"https://a b/":            `is not a URL; write for example "https://www.example.net/"`,
		"www.example.net":         "must begin with https:// or http://",
		"ftp://www.example.net":   "must begin with https:// or http://",
		"https://":                `must name a host, as in "https://www.example.net/"`,
		"https://:443/":           `must name a host, as in "https://www.example.net/"`,
		"https://300.0.0.1/":      `must name a host, as in "https://www.example.net/"`,
		"https://me:secret@h/":    "must not hold a user or password",
		"https://h/#top":          `must not hold a "#" part`,
		"https://h:0/":            "must have a port from 1 to 65535, or none",
		"https://h:70000/":        "must have a port from 1 to 65535, or none",
		"https://h:token%zz/":     `is not a URL; write for example "https://www.example.net/"`,
		"https://h/\x7f":          `is not a URL; write for example "https://www.example.net/"`,
		"mailto:me@example.net":   "must begin with https:// or http://",
		"https:www.example.net/x": `must name a host, as in "https://www.example.net/"`,
	} {
		if got := rule(func(d *strictconf.Doc) {
			if u := d.URL("k", value); (u == nil) != (want != "") {
				t.Errorf("%q: gives %v", value, u)
			}
		}); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
}

func TestURLPort(t *testing.T) {
	for text, want := range map[string]string{"https://h/": "443", "http://h/": "80", "http://h:8080/": "8080"} {
		u, err := strictconf.ParseURL(text)
		if err != nil || strictconf.URLPort(u) != want {
			t.Errorf("%s: %s, %v", text, strictconf.URLPort(u), err)
		}
	}
	if got := strictconf.URLPort(nil); got != "443" {
		t.Error(got)
	}
}

func TestLimits(t *testing.T) {
	const s = strictconf.Duration(time.Second)
	for _, tc := range []struct {
		want  string
		check func(d *strictconf.Doc)
	}{
		{"", func(d *strictconf.Doc) { strictconf.AtLeast(d, "k", 0, 0) }},
		{"-1 is too little; 0 is the least", func(d *strictconf.Doc) { strictconf.AtLeast(d, "k", -1, 0) }},
		{"-1d is too little; 0 is the least", func(d *strictconf.Doc) { strictconf.AtLeast(d, "k", -24*3600*s, 0) }},
		{"", func(d *strictconf.Doc) { strictconf.AtMost(d, "k", 100, 100) }},
		{"101 is too much; 100 is the most", func(d *strictconf.Doc) { strictconf.AtMost(d, "k", 101, 100) }},
		{"", func(d *strictconf.Doc) { d.Timeout("k", s, s, s) }},
		{"1s is too little; 2s is the least", func(d *strictconf.Doc) { d.Timeout("k", s, s, 2*s) }},
		{"2s is longer than the interval, 1s; each attempt must end before the next begins", func(d *strictconf.Doc) { d.Timeout("k", 2*s, s, s) }},
		{"", func(d *strictconf.Doc) { d.Command("k", nil) }},
		{"", func(d *strictconf.Doc) { d.Command("k", []string{"/bin/true"}) }},
		{`"true" must be an absolute path: the command is run without a shell; write ["/bin/sh", "-c", "…"] to have one`,
			func(d *strictconf.Doc) { d.Command("k", []string{"true", "/x"}) }},
		{"", func(d *strictconf.Doc) {
			n := strictconf.Names{}
			n.Add(d, "j", "a")
			n.Add(d, "k", "b")
			n.Unique(d, "k", "")
		}},
		{`"a" is also j; give each a name of its own`, func(d *strictconf.Doc) { n := strictconf.Names{}; n.Add(d, "j", "a"); n.Add(d, "k", "a") }},
	} {
		if got := rule(tc.check); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}
