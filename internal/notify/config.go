package notify

import (
	"maps"
	"net"
	"net/mail"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"releve/internal/strictconf"
)

// Config is one [[notify]] table: one channel to a human. Which keys have a meaning depends on Type.
type Config struct {
	Type   string   `toml:"type"`   // one of [Types]
	Name   string   `toml:"name"`   // in messages and metrics; the type where empty
	Events []string `toml:"events"` // only these; empty = all

	MinSeverity string              `toml:"min_severity"` // info (also when empty), warning, critical
	Remind      strictconf.Duration `toml:"remind"`       // between reminders of what lasts; 0 = none
	Subject     string              `toml:"subject"`      // a template, see [Channels]; empty = as the program words it
	Text        string              `toml:"text"`         // likewise

	// A secret, because with discord, slack and many webhooks whoever knows the URL may write.
	URL      strictconf.Secret            `toml:"url"`
	Token    strictconf.Secret            `toml:"token"`
	Key      strictconf.Secret            `toml:"key"`
	User     string                       `toml:"user"`
	Password strictconf.Secret            `toml:"password"`
	Event    string                       `toml:"event"` // ifttt: the applet's name for all our events
	To       string                       `toml:"to"`
	From     string                       `toml:"from"`
	Server   string                       `toml:"server"`
	TLS      string                       `toml:"tls"` // auto (also when empty), starttls, tls, none
	Method   string                       `toml:"method"`
	Headers  map[string]strictconf.Secret `toml:"headers"`
	Command  []string                     `toml:"command"`
	Topic    string                       `toml:"topic"`
	Chat     string                       `toml:"chat"`
	Room     string                       `toml:"room"`
}

// kind is what one type of channel takes.
type kind struct {
	name     string
	required []string
	optional []string
	base     string // URL where none is given
}

func kinds() []kind {
	return []kind{
		{name: "smtp", required: []string{"to", "from", "server"}, optional: []string{"user", "password", "tls"}},
		{name: "ifttt", required: []string{"event", "key"}, optional: []string{"url"}, base: "https://maker.ifttt.com"},
		{name: "webhook", required: []string{"url"}, optional: []string{"method", "headers", "token"}},
		{name: "exec", required: []string{"command"}},
		{name: "ntfy", required: []string{"topic"}, optional: []string{"url", "token"}, base: "https://ntfy.sh"},
		{name: "gotify", required: []string{"url", "token"}},
		{name: "telegram", required: []string{"token", "chat"}, optional: []string{"url"}, base: "https://api.telegram.org"},
		{name: "discord", required: []string{"url"}},
		{name: "slack", required: []string{"url"}},
		{name: "matrix", required: []string{"url", "token", "room"}},
		{name: "pushover", required: []string{"token", "user"}, optional: []string{"url"}, base: "https://api.pushover.net"},
	}
}

// Types lists the types of channels.
func Types() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// ChannelName is the channel's name, or its type where it has none.
func (c Config) ChannelName() string {
	if c.Name != "" {
		return c.Name
	}
	return c.Type
}

// BaseURL is the URL given, or else the public address of the service; empty for types that need none. It may hold
// a secret.
func (c Config) BaseURL() string {
	if !c.URL.IsZero() {
		return c.URL.Reveal()
	}
	for _, k := range kinds() {
		if k.name == c.Type {
			return k.base
		}
	}
	return ""
}

// ValidateAll complains to doc about every rule that the channels break, which stand in its array "notify". The
// events are those that the program can send: one that is misspelt would never be told.
func ValidateAll(channels []Config, events []string, doc *strictconf.Doc) {
	names := strictconf.Names{}
	for i, c := range channels {
		table := strictconf.Index("notify", i)
		names.Unique(doc, table+".name", c.ChannelName())
		if c.Name != "" {
			doc.Name(table+".name", c.Name)
		}
		for j, e := range c.Events {
			if !slices.Contains(events, e) {
				doc.Complain(strictconf.Index(table+".events", j), "%q is no event of this program; they are %s", e, strings.Join(events, ", "))
			}
		}
		c.validateKeys(doc, table)
		c.validateTelling(doc, table, events)
		c.validateHTTP(doc, table)
		c.validateSMTP(doc, table)
		doc.Command(table+".command", c.Command)
	}
}

// Validate complains to doc about every rule that the table, which stands at key, breaks. None at all is fine.
func (c *DeadmanConfig) Validate(doc *strictconf.Doc, key string) {
	if c == nil {
		return
	}
	validateURL(doc, key+".url", c.URL)
	strictconf.AtLeast(doc, key+".interval", c.Interval, strictconf.Duration(10*time.Second))
}

// validateKeys wants the keys that the type needs, and no others: one without a meaning was meant for something.
func (c Config) validateKeys(doc *strictconf.Doc, table string) {
	i := slices.IndexFunc(kinds(), func(k kind) bool { return k.name == c.Type })
	switch {
	case c.Type == "":
		doc.Complain(table+".type", "is missing; one of %s", strings.Join(Types(), ", "))
		return
	case i < 0:
		doc.Complain(table+".type", "%q is not known; one of %s", c.Type, strings.Join(Types(), ", "))
		return
	}
	k := kinds()[i]
	takes := slices.Concat([]string{"type", "name", "events", "min_severity", "remind", "subject", "text"}, k.required, k.optional)
	for f, v := range reflect.ValueOf(c).Fields() {
		key := f.Tag.Get("toml")
		switch {
		case v.IsZero() && slices.Contains(k.required, key):
			doc.Complain(table+"."+key, "is missing; %s needs %s", k.name, strings.Join(k.required, ", "))
		case !v.IsZero() && !slices.Contains(takes, key):
			doc.Complain(table+"."+key, "means nothing to %s, which knows %s", k.name, strings.Join(takes[1:], ", "))
		}
	}
}

// validateTelling is about what every type has.
func (c Config) validateTelling(doc *strictconf.Doc, table string, events []string) {
	if _, known := ParseSeverity(c.MinSeverity); !known && c.MinSeverity != "" {
		doc.Complain(table+".min_severity", "%q is not one of info, warning, critical", c.MinSeverity)
	}
	if c.Remind != 0 {
		strictconf.AtLeast(doc, table+".remind", c.Remind, remindLeast)
	}
	if err := tryTemplate("subject", c.Subject, events); err != nil {
		doc.Complain(table+".subject", "is not a good template: %v", err)
	}
	if err := tryTemplate("text", c.Text, events); err != nil {
		doc.Complain(table+".text", "is not a good template: %v", err)
	}
}

// remindLeast keeps a unit that was forgotten ("6m" for "6h") from ringing all night.
const remindLeast = strictconf.Duration(10 * time.Minute)

// validateURL wants https beyond the network at home: the URL, the token and what the message tells of the machines
// would be there for everybody on the way to read.
func validateURL(doc *strictconf.Doc, key string, value strictconf.Secret) {
	u := doc.URL(key, value.Reveal())
	if u != nil && u.Scheme == "http" && !atHome(u.Hostname()) {
		doc.Complain(key, `must begin with https://; plain http is for this machine and the network at home: a private address, or a name without a dot or in .lan, .local, .home.arpa or .internal`)
	}
}

// atHome says whether a host is this machine or can only be one of its own network.
func atHome(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(host, ".") || slices.ContainsFunc([]string{".lan", ".local", ".home.arpa", ".internal", ".localhost"}, func(zone string) bool {
		return strings.HasSuffix(host, zone)
	})
}

func (c Config) validateHTTP(doc *strictconf.Doc, table string) {
	if !c.URL.IsZero() {
		validateURL(doc, table+".url", c.URL)
	}
	if c.Method != "" && !slices.Contains([]string{"GET", "POST", "PUT"}, c.Method) {
		doc.Complain(table+".method", "%q is not one of GET, POST, PUT", c.Method)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		switch value := c.Headers[name]; {
		case !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(name):
			doc.Complain(table+".headers", "%q is not the name of a header", name)
		case strings.ContainsAny(value.Reveal(), "\r\n\x00"):
			doc.Complain(table+".headers", "the value of %q must be on one line", name)
		}
	}
	if c.Topic != "" && !regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`).MatchString(c.Topic) {
		doc.Complain(table+".topic", `%q is not a topic; use letters, digits, "-" and "_", 64 at most`, c.Topic)
	}
	if c.Room != "" && !strings.HasPrefix(c.Room, "!") {
		doc.Complain(table+".room", `%q is not the ID of a room, which begins with "!"; an alias ("#…") will not do`, c.Room)
	}
	if c.Chat != "" && !regexp.MustCompile(`^(-?[0-9]+|@[A-Za-z][A-Za-z0-9_]+)$`).MatchString(c.Chat) {
		doc.Complain(table+".chat", `%q is not the ID of a chat, a number, or the "@name" of a channel`, c.Chat)
	}
	if c.Event != "" && !regexp.MustCompile(`^[A-Za-z0-9_]+$`).MatchString(c.Event) {
		doc.Complain(table+".event", `%q is not the name of an applet's event; use letters, digits and "_"`, c.Event)
	}
}

func (c Config) validateSMTP(doc *strictconf.Doc, table string) {
	if c.Type != "smtp" {
		return
	}
	if _, err := mail.ParseAddressList(c.To); c.To != "" && err != nil {
		doc.Complain(table+".to", "%q is not a list of mail addresses", c.To)
	}
	if _, err := mail.ParseAddress(c.From); c.From != "" && err != nil {
		doc.Complain(table+".from", "%q is not a mail address", c.From)
	}
	host := ""
	if c.Server != "" {
		host, _, _ = net.SplitHostPort(doc.Address(table+".server", c.Server, ""))
	}
	if c.TLS != "" && !slices.Contains([]string{"auto", "starttls", "tls", "none"}, c.TLS) {
		doc.Complain(table+".tls", `%q is not one of auto, starttls, tls, none`, c.TLS)
	}
	switch {
	case c.User != "" && c.Password.IsZero():
		doc.Complain(table+".password", "is missing; a user needs one")
	case c.User == "" && !c.Password.IsZero():
		doc.Complain(table+".user", "is missing; a password needs one")
	case c.TLS == "none" && !c.Password.IsZero() && !strictconf.IsLoopback(host):
		doc.Complain(table+".tls", `"none" would show the password to the network; "auto" does not`)
	}
}
