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
	client := &http.Client{
		Transport: &http.Transport{ // no proxy, no connection kept: alarms go out while everything else may be broken
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 15 * time.Second,
			DisableKeepAlives:     true,
		},
		// A redirect would carry the secret to wherever it points.
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
		return fmt.Errorf("%s answered %s: %s", req.URL.Host, resp.Status, answer)
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	}
	return nil
}

func post(to string, body any) request {
	text, err := json.Marshal(body)
	if err != nil {
		text = nil // maps of strings and numbers always marshal
	}
	return request{method: http.MethodPost, url: to, headers: map[string]string{"Content-Type": "application/json"}, body: text}
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
