package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"releve/internal/strictconf"
)

const (
	maxAnswer  = 16 << 10 // what is read of a service's answer, or a command's output
	maxExcerpt = 300      // and what an error quotes of it
	minPart    = 6        // a piece of a secret URL that is shorter tells nothing
)

// secrets lists every text that gives away what the channel must keep to itself, in all spellings
// in which a service may send it back.
func (c Config) secrets() []string {
	var plain []string
	for _, s := range []strictconf.Secret{c.Token, c.Key, c.Password} {
		plain = append(plain, s.Reveal())
	}
	for _, s := range c.Headers {
		plain = append(plain, s.Reveal(), strings.TrimPrefix(s.Reveal(), "Bearer "), strings.TrimPrefix(s.Reveal(), "Basic "))
	}
	if c.Type == "pushover" {
		plain = append(plain, c.User) // whoever knows a user's key may write to that user
	}
	if c.User != "" && !c.Password.IsZero() {
		plain = append(plain, "\x00"+c.User+"\x00"+c.Password.Reveal()) // RFC 4616, as a server may quote it
	}
	plain = append(plain, urlSecrets(c.URL.Reveal())...)
	var all []string
	for _, s := range plain {
		if s == "" {
			continue
		}
		quoted, _ := json.Marshal(s) // a string always can
		all = append(all, s, url.PathEscape(s), url.QueryEscape(s), strings.Trim(string(quoted), `"`),
			base64.StdEncoding.EncodeToString([]byte(s)), base64.URLEncoding.EncodeToString([]byte(s)))
	}
	// The longest first: a secret that contains another one must not be left in halves.
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(all)
}

// urlSecrets lists what is secret of a URL: all but its scheme and host.
func urlSecrets(text string) []string {
	u, err := url.Parse(text)
	if text == "" || err != nil {
		return []string{text}
	}
	parts := []string{text, u.RequestURI()}
	if u.User != nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.String(), u.User.Username(), password)
	}
	short := strings.Split(u.Path, "/")
	for _, values := range u.Query() {
		short = append(short, values...)
	}
	for _, p := range short {
		if len(p) >= minPart {
			parts = append(parts, p)
		}
	}
	return slices.DeleteFunc(parts, func(p string) bool { return p == "/" })
}

// redacted keeps the secrets of a channel out of its errors, whoever worded them, and strange characters too.
func redacted(send sendFunc, secrets []string) sendFunc {
	return func(ctx context.Context, m Message) error {
		err := send(ctx, m)
		said := withoutSecrets(err, secrets)
		if r, ok := errors.AsType[*refusal](err); ok {
			return &refusal{said, r.wait}
		}
		return said
	}
}

// withoutSecrets is err in words alone. The cause is left behind on purpose: it holds what is taken out.
func withoutSecrets(err error, secrets []string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "(redacted)")
	}
	return errors.New(clip(oneLine(text), maxExcerpt))
}

// lines makes text fit for a message: without control characters but those that end a line.
func lines(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\r':
			return -1
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// oneLine makes text fit for a log: on one line, without control characters.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	return strings.Join(strings.Fields(text), " ")
}

// clip cuts s to at most n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// clipTo cuts s to a size of at most most, each character being as large as size says.
func clipTo(s string, most int, size func(rune) int) string {
	total, fits := 0, 0 // fits: how much of s leaves room for the sign that it was cut
	for i, r := range s {
		if total+size('…') <= most {
			fits = i
		}
		if total += size(r); total > most {
			return s[:fits] + "…"
		}
	}
	return s
}
