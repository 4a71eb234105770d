package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"releve/internal/strictconf"
)

// request is what a service wants to be sent.
type request struct {
	method  string
	url     string
	headers map[string]string
	body    []byte
}

// httpSender makes the sender of a service that takes messages over HTTP.
func httpSender(c Config) (func(context.Context, Message) error, error) {
	build, err := builder(c)
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Transport: &http.Transport{ // no proxy: alarms go out while everything else may be broken
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 15 * time.Second,
			DisableKeepAlives:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, m Message) error { return do(ctx, client, build(m)) }, nil
}

// do sends a request. A URL may hold a secret, so errors never quote one.
func do(ctx context.Context, client *http.Client, r request) error {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	for key, value := range r.headers {
		req.Header.Set(key, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return fmt.Errorf("send to %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s: %s", req.URL.Host, resp.Status, oneLine(answer))
	}
	return nil
}

func oneLine(text []byte) string { return strings.Join(strings.Fields(string(text)), " ") }

// builder returns how a message becomes a service's request.
func builder(c Config) (func(Message) request, error) {
	base := strings.TrimSuffix(c.BaseURL(), "/")
	token := c.Token.Reveal()
	full := func(m Message) string { return m.Subject + "\n\n" + m.Text }
	switch c.Type {
	case "ifttt": // https://ifttt.com/maker_webhooks: up to three values
		to := base + "/trigger/" + url.PathEscape(c.Event) + "/with/key/" + url.PathEscape(c.Key.Reveal())
		return func(m Message) request {
			return post(to, map[string]string{"value1": m.Subject, "value2": m.Text, "value3": m.Event})
		}, nil
	case "ntfy": // https://docs.ntfy.sh/publish/#publish-as-json
		return func(m Message) request {
			return post(base+"/", map[string]any{
				"topic": c.Topic, "title": m.Subject, "message": m.Text, "priority": 3 + int(m.Severity), "tags": []string{m.Event},
			}).bearer(token)
		}, nil
	case "gotify": // https://gotify.net/api-docs
		return func(m Message) request {
			r := post(base+"/message", map[string]any{"title": m.Subject, "message": m.Text, "priority": 2 + 3*int(m.Severity)})
			r.headers["X-Gotify-Key"] = token
			return r
		}, nil
	case "telegram": // https://core.telegram.org/bots/api#sendmessage
		return func(m Message) request {
			return post(base+"/bot"+token+"/sendMessage", map[string]any{"chat_id": c.Chat, "text": full(m)})
		}, nil
	case "discord": // https://discord.com/developers/docs/resources/webhook#execute-webhook: 2,000 characters
		return func(m Message) request {
			return post(base, map[string]any{"content": clip("**"+m.Subject+"**\n"+m.Text, 2000)})
		}, nil
	case "slack": // https://api.slack.com/messaging/webhooks
		return func(m Message) request { return post(base, map[string]any{"text": "*" + m.Subject + "*\n" + m.Text}) }, nil
	case "matrix": // client-server API, PUT …/send/m.room.message/{txnId}: the id makes it idempotent
		return func(m Message) request {
			r := post(base+"/_matrix/client/v3/rooms/"+url.PathEscape(c.Room)+"/send/m.room.message/"+url.PathEscape(m.Key),
				map[string]any{"msgtype": "m.text", "body": full(m)}).bearer(token)
			r.method = http.MethodPut
			return r
		}, nil
	case "pushover": // https://pushover.net/api
		return func(m Message) request {
			return post(base+"/1/messages.json", map[string]any{
				"token": token, "user": c.User, "title": m.Subject, "message": clip(m.Text, 1024), "priority": min(int(m.Severity), 1),
			})
		}, nil
	case "webhook":
		return func(m Message) request {
			r := post(base, map[string]any{
				"event": m.Event, "key": m.Key, "subject": m.Subject, "text": m.Text,
				"time": m.Time.Format(time.RFC3339), "severity": m.Severity.String(),
			}).bearer(token)
			for name, value := range c.Headers {
				r.headers[name] = value.Reveal()
			}
			if c.Method != "" {
				r.method = c.Method
			}
			return r
		}, nil
	}
	return nil, fmt.Errorf("there is no type %q", c.Type)
}

func post(to string, body any) request {
	text, err := json.Marshal(body)
	if err != nil {
		text = nil // maps of strings and numbers always marshal
	}
	return request{method: http.MethodPost, url: to, headers: map[string]string{"Content-Type": "application/json"}, body: text}
}

func (r request) bearer(token string) request {
	if token != "" {
		r.headers["Authorization"] = "Bearer " + token
	}
	return r
}

// clip cuts s to at most n runes.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// secrets lists everything in c that no error may contain.
func (c Config) secrets() []string {
	var all []string
	add := func(s strictconf.Secret) {
		if !s.IsZero() {
			all = append(all, s.Reveal(), url.PathEscape(s.Reveal()), url.QueryEscape(s.Reveal()))
		}
	}
	for _, s := range []strictconf.Secret{c.Token, c.Key, c.Password, c.URL} {
		add(s)
	}
	for _, s := range c.Headers {
		add(s)
	}
	return all
}
