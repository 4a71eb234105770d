package notify

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// builder returns how a message becomes a service's request, as the service documents it.
func builder(c Config) (func(Message) request, error) {
	to := c.BaseURL()
	base := strings.TrimSuffix(to, "/")
	token := c.Token.Reveal()
	switch c.Type {
	case "ifttt": // https://ifttt.com/maker_webhooks: up to three values
		to := base + "/trigger/" + url.PathEscape(c.Event) + "/with/key/" + url.PathEscape(c.Key.Reveal())
		return func(m Message) request {
			return post(to, map[string]string{"value1": m.Subject, "value2": m.Text, "value3": m.Event})
		}, nil
	case "ntfy": // https://docs.ntfy.sh/publish/#publish-as-json, priorities 1 to 5, 4096 bytes
		return func(m Message) request {
			return post(base+"/", map[string]any{
				"topic": c.Topic, "title": m.Subject, "message": clipTo(body(m), 4096, utf8.RuneLen), "priority": 3 + int(m.Severity), "tags": []string{m.Event},
			}).bearer(token)
		}, nil
	case "gotify": // https://gotify.net/api-docs, priorities 0 to 10
		return func(m Message) request {
			r := post(base+"/message", map[string]any{"title": m.Subject, "message": body(m), "priority": 2 + 3*int(m.Severity)})
			r.headers["X-Gotify-Key"] = token
			return r
		}, nil
	case "telegram": // https://core.telegram.org/bots/api#sendmessage: 4096 characters, counted as UTF-16 does
		return func(m Message) request {
			return post(base+"/bot"+token+"/sendMessage", map[string]any{"chat_id": c.Chat, "text": clipTo(whole(m), 4096, utf16.RuneLen)})
		}, nil
	case "discord": // https://discord.com/developers/docs/resources/webhook#execute-webhook: 2000 characters
		return func(m Message) request {
			return post(to, map[string]any{
				"content":          clipTo("**"+m.Subject+"**\n"+m.Text, 2000, utf16.RuneLen),
				"allowed_mentions": map[string]any{"parse": []string{}}, // a name in a message must not ring everybody
			})
		}, nil
	case "slack": // https://api.slack.com/messaging/webhooks, three characters escaped
		escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
		return func(m Message) request {
			return post(to, map[string]any{"text": escape.Replace("*" + m.Subject + "*\n" + m.Text)})
		}, nil
	case "matrix": // client-server API, PUT …/send/m.room.message/{txnId}: the id makes it idempotent; an event has 65,536 bytes
		return func(m Message) request {
			r := post(base+"/_matrix/client/v3/rooms/"+url.PathEscape(c.Room)+"/send/m.room.message/"+url.PathEscape(m.Key),
				map[string]any{"msgtype": "m.text", "body": clipTo(whole(m), 32_000, utf8.RuneLen)}).bearer(token)
			r.method = http.MethodPut
			return r
		}, nil
	case "pushover": // https://pushover.net/api: 250 and 1024 characters, priorities -2 to 2
		return func(m Message) request {
			return postForm(base+"/1/messages.json", url.Values{
				"token": {token}, "user": {c.User}, "title": {clip(m.Subject, 250)}, "message": {clip(body(m), 1024)},
				"priority": {strconv.Itoa(min(int(m.Severity), 1))}, "timestamp": {strconv.FormatInt(m.Time.Unix(), 10)},
			})
		}, nil
	case "webhook":
		return func(m Message) request {
			r := post(to, map[string]any{
				"event": m.Event, "key": m.Key, "about": m.About, "subject": m.Subject, "text": m.Text,
				"time": m.Time.Format(time.RFC3339), "severity": m.Severity.String(), "reminder": m.Reminder,
			}).bearer(token)
			r.method = cmp.Or(c.Method, http.MethodPost)
			if r.method == http.MethodGet {
				r.body = nil
				delete(r.headers, "Content-Type")
			}
			for name, value := range c.Headers {
				r.headers[name] = value.Reveal()
			}
			return r
		}, nil
	}
	return nil, fmt.Errorf("there is no type %q", c.Type)
}

// body is the text, or the subject where there is none: several services refuse an empty message.
func body(m Message) string { return cmp.Or(m.Text, m.Subject) }

// whole is subject and text in one.
func whole(m Message) string { return strings.TrimSpace(m.Subject + "\n\n" + m.Text) }
