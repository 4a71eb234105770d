package strictconf

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// The rules that any program's configuration has. Each complains about key where value breaks it and gives what
// was understood.

// Name wants a name that can also be part of a file name: lower-case letters, digits, ".", "-" and "_", 64 at most.
func (d *Doc) Name(key, value string) {
	switch {
	case value == "":
		d.Complain(key, "is missing; give it a name")
	case !regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`).MatchString(value):
		d.Complain(key, `%q is not a good name; use lower-case letters, digits, ".", "-" and "_", 64 at most, beginning with a letter or digit`, value)
	}
}

// Names are the names taken so far.
type Names map[string]string // name → key

// Add wants a good name ([Doc.Name]) that is not taken yet.
func (n Names) Add(d *Doc, key, name string) {
	d.Name(key, name)
	n.Unique(d, key, name)
}

// Unique wants a name that is not taken yet; none at all is fine.
func (n Names) Unique(d *Doc, key, name string) {
	other, taken := n[name]
	switch {
	case name == "":
	case taken:
		d.Complain(key, "%q is also %s; give each a name of its own", name, other)
	default:
		n[name] = key
	}
}

// Path wants an absolute path without "..", "//" and the like.
func (d *Doc) Path(key, value string) {
	switch {
	case value == "":
		d.Complain(key, "is missing; give an absolute path")
	case strings.ContainsRune(value, 0):
		d.Complain(key, "holds a zero byte")
	case strings.TrimSpace(value) != value:
		d.Complain(key, "%q begins or ends with a space", value)
	case !path.IsAbs(value):
		d.Complain(key, `%q is not an absolute path; begin it with "/"`, value)
	case path.Clean(value) != value:
		d.Complain(key, "%q is not a clean path; write %q", value, path.Clean(value))
	}
}

// OptionalPath is [Doc.Path] for a key that may be left empty.
func (d *Doc) OptionalPath(key, value string) {
	if value != "" {
		d.Path(key, value)
	}
}

// KeyedPath is a path and the key that gives it.
type KeyedPath struct{ Key, Path string }

// Apart wants that no path equals another or lies inside it, and says why not in its last argument, a clause.
func (d *Doc) Apart(paths []KeyedPath, why string) {
	for i, b := range paths {
		for _, a := range paths[:i] {
			switch {
			case a.Path == "" || b.Path == "":
			case a.Path == b.Path:
				d.Complain(b.Key, "is the same path as %s; %s", a.Key, why)
			case inside(a.Path, b.Path):
				d.Complain(b.Key, "contains %s; %s", a.Key, why)
			case inside(b.Path, a.Path):
				d.Complain(b.Key, "lies inside %s; %s", a.Key, why)
			}
		}
	}
}

// Within says whether the clean path p is, or lies below, the clean path dir, by their text alone.
func Within(p, dir string) bool {
	return p != "" && dir != "" && (p == dir || inside(p, dir))
}

func inside(p, dir string) bool {
	return p != dir && strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// Address wants HOST:PORT, or HOST alone where port is not empty, and gives HOST:PORT.
func (d *Doc) Address(key, value, port string) string {
	want := "HOST:PORT"
	if port != "" {
		want = "HOST or HOST:PORT"
	}
	if value == "" {
		d.Complain(key, "is missing; write %s", want)
		return ""
	}
	host, p, err := splitAddress(value, port)
	if err != nil {
		d.Complain(key, "%q is not %s: %v", value, want, err)
		return ""
	}
	return net.JoinHostPort(host, p)
}

// Listen wants an address to listen on: HOST:PORT, :PORT, or nothing.
func (d *Doc) Listen(key, value string) {
	if value == "" {
		return
	}
	full := value
	if strings.HasPrefix(value, ":") { // all addresses
		full = "[::]" + value
	}
	full, any := strings.CutSuffix(full, ":0") // a free port of the system's choice
	if any {
		full += ":1"
	}
	if _, _, err := splitAddress(full, ""); err != nil {
		d.Complain(key, `%q is not HOST:PORT: %v; write "" to switch it off`, value, err)
	}
}

func splitAddress(value, port string) (string, string, error) {
	host := value
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")); err == nil && port != "" {
		host = addr.String()
	} else if strings.Contains(value, ":") || port == "" {
		var err error
		host, port, err = net.SplitHostPort(value)
		if err != nil {
			if !strings.Contains(value, ":") {
				return "", "", fmt.Errorf("it has no port")
			}
			return "", "", fmt.Errorf("an IPv6 address stands in [brackets] before its port")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("the port must be a number from 1 to 65535")
	}
	if !IsHost(host) {
		return "", "", fmt.Errorf("the host is neither a name nor an IP address")
	}
	return host, port, nil
}

// IsHost says whether s is an IP address or could be the name of a host.
func IsHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if regexp.MustCompile(`^[0-9.]+$`).MatchString(s) { // an IP address that is none
		return false
	}
	return len(s) <= 253 && regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$`).MatchString(s)
}

// IsLoopback says whether host is "localhost" or a loopback address.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// URL wants an http or https URL with a host, and neither a password nor a fragment in it. It gives nil where it
// complained.
func (d *Doc) URL(key, value string) *url.URL {
	if value == "" {
		d.Complain(key, "is missing; write for example %q", "https://www.example.net/")
		return nil
	}
	u, err := ParseURL(value)
	if err != nil {
		d.Complain(key, "%v", err)
		return nil
	}
	return u
}

// ParseURL reads a URL as [Doc.URL] wants it. Its error is a sentence, which does not quote the value: a URL may
// hold a token.
func ParseURL(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	switch {
	case err != nil:
		return nil, fmt.Errorf("is not a URL; write for example %q", "https://www.example.net/")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("must begin with https:// or http://")
	case !IsHost(u.Hostname()):
		return nil, fmt.Errorf("must name a host, as in %q", "https://www.example.net/")
	case u.User != nil:
		return nil, fmt.Errorf("must not hold a user or password")
	case u.Fragment != "":
		return nil, fmt.Errorf(`must not hold a "#" part`)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("must have a port from 1 to 65535, or none")
		}
	}
	return u, nil
}

// URLPort is the port of an http or https URL, or 443 for none at all.
func URLPort(u *url.URL) string {
	switch {
	case u == nil:
		return "443"
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	default:
		return "443"
	}
}

// Command wants the words of a command, the first an absolute path: there is no shell and no PATH to look it up in.
func (d *Doc) Command(key string, words []string) {
	if len(words) > 0 && !path.IsAbs(words[0]) {
		d.Complain(key, "%q must be an absolute path: the command is run without a shell; write [\"/bin/sh\", \"-c\", \"…\"] to have one", words[0])
	}
}

// Timeout wants a timeout that ends before the next attempt begins.
func (d *Doc) Timeout(key string, timeout, interval, least Duration) {
	switch {
	case timeout < least:
		AtLeast(d, key, timeout, least)
	case timeout > interval:
		d.Complain(key, "%v is longer than the interval, %v; each attempt must end before the next begins", timeout, interval)
	}
}

// AtLeast wants a number or duration that is not smaller than least.
func AtLeast[T int | int64 | Duration](d *Doc, key string, value, least T) {
	if value < least {
		d.Complain(key, "%v is too little; %v is the least", value, least)
	}
}

// AtMost wants a number or duration that is not larger than most.
func AtMost[T int | int64 | Duration](d *Doc, key string, value, most T) {
	if value > most {
		d.Complain(key, "%v is too much; %v is the most", value, most)
	}
}
