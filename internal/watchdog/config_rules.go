package watchdog

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"releve/internal/notify"
	"releve/internal/probe"
	"releve/internal/publicip"
	"releve/internal/strictconf"
)

// build turns the file into values, and complains to doc about each rule that it breaks. What it gives is of use
// only if nobody complained.
func (f *configFile) build(doc *strictconf.Doc) *Config {
	doc.Path("state_dir", f.StateDir)
	doc.Path("status.socket", f.Status.Socket)
	doc.Listen("status.listen", f.Status.Listen)
	notify.ValidateAll(f.Notify, Events(), doc)
	f.Deadman.Validate(doc, "deadman")
	cfg := &Config{
		StateDir: f.StateDir, OVH: f.OVH.build(doc), Home: f.Home.build(doc), Uplink: f.Uplink.build(doc), Replica: f.Replica.build(doc),
		Status: Status(f.Status), Notify: f.Notify, Deadman: f.Deadman,
	}
	if len(f.Sites) == 0 {
		doc.Complain("site", "is missing; write a [[site]] that says which name to keep up")
	}
	names := strictconf.Names{}
	for i, t := range f.Sites {
		key := strictconf.Index("site", i)
		names.Unique(doc, key+".name", t.Name)
		cfg.Sites = append(cfg.Sites, t.build(doc, key))
	}
	cfg.DynDNS = f.dynDNS(doc)
	f.checkTogether(doc)
	return cfg
}

// checkTogether looks at values that are good each by itself but not together.
func (f *configFile) checkTogether(doc *strictconf.Doc) {
	needed := len(f.Replica.Folders) > 0
	for i, t := range f.Sites {
		needed = needed || len(t.Folders) > 0
		for j, p := range t.Probe.Prod {
			prod := strictconf.Index(strictconf.Index("site", i)+".probe.prod", j)
			if sameAddress(p, f.Home.IPv4) || sameAddress(p, f.Home.IPv6) {
				doc.Complain(prod, "%s is also the home address; prod and the standby cannot share one", p)
			}
		}
	}
	if needed && f.Replica.Control == "" {
		doc.Complain("replica.control", "is missing; it is where the agent leaves word about the folders named here")
	}
}

func sameAddress(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x.Unmap() == y.Unmap()
}

func (t ovhTable) build(doc *strictconf.Doc) OVH {
	t.checkEndpoint(doc)
	doc.OptionalPath("ovh.ca_file", t.CAFile)
	for _, s := range []struct {
		key    string
		secret strictconf.Secret
		hint   string
	}{
		{"application_key", t.ApplicationKey, "docs/install.md says where to make one"},
		{"application_secret", t.ApplicationSecret, "it was shown with the application key"},
		{"consumer_key", t.ConsumerKey, "it was shown with the application key"},
	} {
		if s.secret.IsZero() {
			doc.Complain("ovh."+s.key, "is missing; give it, or the file that holds it as %s_file (%s)", s.key, s.hint)
		}
	}
	return OVH(t)
}

func (t ovhTable) checkEndpoint(doc *strictconf.Doc) {
	const key = "ovh.endpoint"
	known := []string{"ovh-eu", "ovh-ca", "ovh-us", "kimsufi-eu", "kimsufi-ca", "soyoustart-eu", "soyoustart-ca"}
	if slices.Contains(known, t.Endpoint) {
		return
	}
	if !strings.Contains(t.Endpoint, "/") {
		doc.Complain(key, "%q is not known; one of %s, or a URL", t.Endpoint, strings.Join(known, ", "))
		return
	}
	u := doc.URL(key, t.Endpoint)
	switch {
	case u == nil:
	case !strings.HasSuffix(u.Path, "/1.0") || u.RawQuery != "":
		doc.Complain(key, "must end in /1.0, the version of the API")
	case u.Scheme == "http" && !strictconf.IsLoopback(u.Hostname()):
		doc.Complain(key, "must begin with https://; plain http is for a loopback address only")
	}
}

func (t homeTable) build(doc *strictconf.Doc) Home {
	if t.IPv4 == "off" && t.IPv6 == "off" {
		doc.Complain("home", "ipv4 and ipv6 are both off; the standby must have an address")
	}
	sources := t.sources(doc)
	h := Home{
		IPv4: homeAddress(doc, "home.ipv4", t.IPv4, publicip.IPv4, sources),
		IPv6: homeAddress(doc, "home.ipv6", t.IPv6, publicip.IPv6, sources),
	}
	t.host(doc, &h.IPv6)
	return h
}

// host says which address of the IPv6 network that is found is the standby's.
func (t homeTable) host(doc *strictconf.Doc, h *HomeAddress) {
	const key = "home.ipv6_host"
	if t.IPv6Host == "" {
		return
	}
	if t.IPv6 != "auto" {
		doc.Complain(key, `says which address of the network that is found is the standby's; that needs ipv6 = "auto"`)
	}
	addr, err := netip.ParseAddr(t.IPv6Host)
	switch lower := netip.MustParsePrefix("::/64"); {
	case err == nil && (!lower.Contains(addr) || addr.Zone() != "" || addr.IsUnspecified()):
		doc.Complain(key, "%q is not the last 64 bits of an IPv6 address, such as %q", t.IPv6Host, "::10")
	case err == nil:
		h.Suffix = addr
	case !regexp.MustCompile(`^[^/\s]{1,15}$`).MatchString(t.IPv6Host):
		doc.Complain(key, "%q is neither the last 64 bits of an IPv6 address (%q) nor the name of a network interface (%q)", t.IPv6Host, "::10", "eth0")
	default:
		h.Interface = t.IPv6Host
	}
}

// sources are those that the file names, none if it names none.
func (t homeTable) sources(doc *strictconf.Doc) []publicip.Source {
	var sources []publicip.Source
	operators := map[string]bool{}
	for i, text := range t.Sources {
		source, err := publicip.ParseSource(text)
		if err != nil {
			doc.Complain(strictconf.Index("home.sources", i), "%v", err)
			continue
		}
		operators[source.Operator()] = true
		sources = append(sources, source)
	}
	auto := t.IPv4 == "auto" || t.IPv6 == "auto"
	if auto && len(operators) == 1 && len(sources) == len(t.Sources) {
		doc.Complain("home.sources", "are of one operator; name another one too, for two must agree on an address")
	}
	return sources
}

func homeAddress(doc *strictconf.Doc, key, value string, family publicip.Family, sources []publicip.Source) HomeAddress {
	switch value {
	case "auto":
		if len(sources) > 0 {
			return HomeAddress{Sources: sources}
		}
		for _, text := range publicip.DefaultSources(family) {
			source, err := publicip.ParseSource(text)
			if err != nil {
				doc.Complain(key, "%v", err) // a test would have found it
			}
			sources = append(sources, source)
		}
		return HomeAddress{Sources: sources}
	case "off":
		return HomeAddress{}
	}
	addr, err := netip.ParseAddr(value)
	if err != nil || addr.Is4() != (family == publicip.IPv4) || !servable(addr) {
		doc.Complain(key, `%q is not an %s address that can be published; or write "auto" or "off"`, value, family)
		return HomeAddress{}
	}
	return HomeAddress{Fixed: addr}
}

// servable says whether a record could hold this address. Private ones may be right: in a laboratory.
func servable(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6() && a.Zone() == "" && !a.IsLinkLocalUnicast()
}

func (t uplinkTable) build(doc *strictconf.Doc) []probe.Reference {
	texts := t.References
	if len(texts) == 0 {
		texts = probe.DefaultReferences()
	}
	var refs []probe.Reference
	for i, text := range texts {
		ref, err := probe.ParseReference(text)
		if err != nil {
			doc.Complain(strictconf.Index("uplink.references", i), "%v", err)
			continue
		}
		refs = append(refs, ref)
	}
	return refs
}

func (t replicaTable) build(doc *strictconf.Doc) Replica {
	r := Replica{Control: t.Control}
	doc.OptionalPath("replica.control", t.Control)
	paths := []strictconf.KeyedPath{{Key: "replica.control", Path: t.Control}}
	names := strictconf.Names{}
	for i, f := range t.Folders {
		key := strictconf.Index("replica.folder", i)
		names.Add(doc, key+".name", f.Name)
		doc.Path(key+".path", f.Path)
		doc.Command(key+".hook", f.Hook)
		paths = append(paths, strictconf.KeyedPath{Key: key + ".path", Path: f.Path})
		r.Folders = append(r.Folders, ReplicaFolder(f))
	}
	doc.Apart(paths, "these folders must lie side by side")
	return r
}
