package ovhdns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// maxAnswer bounds what is read of one answer; the longest honest one is the
// list of a large zone's ids.
const maxAnswer = 1 << 20

// transport is what stands between go-ovh and the network. go-ovh reads bodies
// without limit, asks for the time without our context and forgets parts of
// the answers to failed calls; all three are made good here, the one place
// that every request passes. It carries one call at a time.
type transport struct {
	base *http.Transport

	// ctx bounds the call under way. It is a field, against the custom,
	// because go-ovh asks for the time with a context of its own.
	ctx  context.Context
	last exchange
}

// exchange is what is known of the last request.
type exchange struct {
	sent    bool // a connection stood: the server may have seen the request
	status  int  // 0 when no answer came
	body    []byte
	queryID string
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.last = exchange{}
	sent := make(chan struct{}, 1)
	ctx := httptrace.WithClientTrace(t.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		select {
		case sent <- struct{}{}:
		default:
		}
	}})
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	t.last.sent = len(sent) > 0
	if err != nil {
		return nil, cause(t.ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", cause(t.ctx, err))
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("answer longer than %d bytes", maxAnswer)
	}
	t.last.status = resp.StatusCode
	t.last.body = body
	t.last.queryID = resp.Header.Get("X-Ovh-QueryID")
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// cause prefers the reason for which ctx ended to "context deadline exceeded".
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil && !errors.Is(err, why) {
		return why
	}
	return err
}

// newBase returns the real network: both address families, no proxy (the
// environment of a daemon is nobody's decision), HTTP/1.1 only (a dead HTTP/2
// connection would swallow calls until the kernel gives up on it).
func newBase(cfg Config) *http.Transport {
	dial := cfg.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: cfg.Timeout}).DialContext
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        cfg.tls(),
		TLSHandshakeTimeout:    cfg.Timeout,
		Protocols:              &protocols,
		DisableCompression:     true, // so that the limit counts what is allocated
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           1,
		IdleConnTimeout:        5 * time.Second, // shorter than any server's
	}
}
