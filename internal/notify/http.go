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
	"strconv"
	"time"
)

// request is what a service wants to be sent.
type request struct {
	method  string
	url     string
	headers map[string]string
	body    []byte
}

// httpSender makes the sender of a service that takes messages over HTTP.
func httpSender(c Config) (sendFunc, error) {
	build, err := builder(c)
	if err != nil {
		return nil, err
	}
	client := newClient()
	return func(ctx context.Context, m Message) error { return do(ctx, client, build(m)) }, nil
}

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{ // no proxy, no connection kept: alarms go out while everything else may be broken
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 15 * time.Second,
			DisableKeepAlives:     true,
		},
		// A redirect would carry the secret to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// refusal is an error after which trying again soon is of no use, and may be held against us.
type refusal struct {
	error
	wait time.Duration // before anything else is sent there, as the service asks; 0 = it is this message it does not want
}

func (r *refusal) Unwrap() error { return r.error }

// do sends a request. A URL may hold a secret, so errors never quote one.
func do(ctx context.Context, client *http.Client, r request) error {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	req.Header.Set("User-Agent", "releve")
	for key, value := range r.headers {
		req.Header.Set(key, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return fmt.Errorf("send to %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		return judge(resp, answer, fmt.Errorf("%s answered %s: %s", req.URL.Host, resp.Status, answer))
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	}
	return nil
}

// judge says what an answer that is no success means for the next attempt.
func judge(resp *http.Response, answer []byte, err error) error {
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		if wait := retryAfter(resp.Header.Get("Retry-After"), answer, time.Now()); wait > 0 {
			return &refusal{err, wait}
		}
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooEarly:
		return &refusal{err, 0}
	}
	return err
}

// retryAfter is how long the service wants to be left alone: by the header (RFC 9110, 10.2.3), or by what Telegram,
// Discord and older Matrix servers write into the answer. 0 = it does not say.
func retryAfter(header string, answer []byte, now time.Time) time.Duration {
	if seconds, err := strconv.ParseFloat(header, 64); err == nil {
		return asSeconds(seconds)
	}
	if at, err := http.ParseTime(header); err == nil {
		return at.Sub(now)
	}
	var said struct {
		Seconds      float64 `json:"retry_after"`
		Milliseconds float64 `json:"retry_after_ms"`
		Parameters   struct {
			Seconds float64 `json:"retry_after"`
		} `json:"parameters"`
	}
	if json.Unmarshal(answer, &said) != nil {
		return 0
	}
	return asSeconds(max(said.Seconds, said.Milliseconds/1000, said.Parameters.Seconds))
}

// asSeconds is a duration of so many seconds, or a day if there are more.
func asSeconds(n float64) time.Duration {
	const day = 24 * time.Hour
	if !(n < day.Seconds()) { // NaN too
		return day
	}
	return time.Duration(n * float64(time.Second))
}

func post(to string, body any) request {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)                 // some services count the bytes
	if err := e.Encode(body); err != nil { // maps of strings and numbers always can be
		text.Reset()
	}
	return request{method: http.MethodPost, url: to, headers: map[string]string{"Content-Type": "application/json"}, body: text.Bytes()}
}

func postForm(to string, values url.Values) request {
	return request{method: http.MethodPost, url: to, headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		body: []byte(values.Encode())}
}

func (r request) bearer(token string) request {
	if token != "" {
		r.headers["Authorization"] = "Bearer " + token
	}
	return r
}
