package publicip_test

import (
	"strings"
	"testing"

	"releve/internal/publicip"
)

func TestParseSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, operator, err string }{
		{"https://api.ipify.org/", "ipify.org", ""},
		{"https://checkip.amazonaws.com", "amazonaws.com", ""},
		{"http://echo.example.co.uk:8080/ip", "example.co.uk", ""},
		{"https://A.Example.NET./", "example.net", ""},
		{"https://192.0.2.1/", "192.0.2.1", ""},
		{"http://[2001:db8::1]:80/", "2001:db8::1", ""},
		{"http://localhost:8080/", "localhost", ""},
		{"dns:myip.opendns.com@208.67.222.222", "208.67.222.222", ""},
		{"dns:myip.opendns.com@resolver1.opendns.com", "opendns.com", ""},
		{"dns:myip.opendns.com@resolver2.opendns.com:5353/AAAA", "opendns.com", ""},
		{"dns:whoami.cloudflare@1.1.1.1/TXT/CH", "1.1.1.1", ""},
		{"dns:me@2001:db8::53/TXT", "2001:db8::53", ""},
		{"dns:me@[2001:db8::53]:5353/txt/ch", "2001:db8::53", ""},
		{"natpmp:", "router", ""},
		{"natpmp:192.168.1.1", "router", ""},
		{"natpmp:192.168.1.1:5351", "router", ""},
		{"upnp:", "router", ""},
		{"upnp:192.168.1.1:1900", "router", ""},
		{"fritzbox:", "router", ""},
		{"fritzbox:192.168.178.1", "router", ""},
		{"fritzbox:fritz.box:49000", "router", ""},

		{"", "", "want https://"},
		{"icanhazip.com", "", `source "icanhazip.com": want https://`},
		{"ftp://example.net/", "", "want https://"},
		{"https://", "", "not a URL with a host"},
		{"dns:", "", "want dns:NAME@SERVER"},
		{"dns:example.net", "", "want dns:NAME@SERVER"},
		{"dns:@192.0.2.1", "", "want dns:NAME@SERVER"},
		{"dns:example.net@", "", "want dns:NAME@SERVER"},
		{"dns:example..net@192.0.2.1", "", "want dns:NAME@SERVER"},
		{"dns:example.net@192.0.2.1/MX", "", `type "MX" is none of A, AAAA, TXT`},
		{"dns:example.net@192.0.2.1/TXT/HS", "", `class "HS" is neither IN nor CH`},
		{"dns:example.net@192.0.2.1:0", "", `"0" is not a port`},
		{"dns:example.net@192.0.2.1:x", "", `"x" is not a port`},
		{"dns:example.net@.", "", "not a host"},
		{"natpmp:router.lan", "", "the gateway must be an address"},
		{"upnp:a:b:c", "", "neither HOST nor HOST:PORT"},
	} {
		s, err := publicip.ParseSource(c.text)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.text, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.text, err)
		case s.Operator() != c.operator || s.String() != c.text:
			t.Errorf("%q: operator %q, text %q", c.text, s.Operator(), s)
		}
	}
}

// Losing any one operator must leave two that can agree, in each family.
func TestDefaultSources(t *testing.T) {
	t.Parallel()
	for _, f := range []publicip.Family{publicip.IPv4, publicip.IPv6} {
		operators := map[string]bool{}
		for _, text := range publicip.DefaultSources(f) {
			s, err := publicip.ParseSource(text)
			if err != nil {
				t.Error(err)
			}
			operators[s.Operator()] = true
		}
		if len(operators) < 5 {
			t.Errorf("%s: only %d operators: %v", f, len(operators), operators)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	for _, s := range append(publicip.DefaultSources(publicip.IPv4), "fritzbox:", "dns:a@[::1]:53/A/IN", "upnp:[", "dns:a@b/c/d/e") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := publicip.ParseSource(text)
		if err != nil {
			if !strings.Contains(err.Error(), "source") {
				t.Errorf("%q: error %q does not say what is wrong", text, err)
			}
			return
		}
		if s.Operator() == "" {
			t.Errorf("%q has no operator", text)
		}
	})
}
