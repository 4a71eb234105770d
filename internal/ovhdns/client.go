package ovhdns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ovh/go-ovh/ovh"
	"golang.org/x/time/rate"
)

// burst is how many calls may follow each other at once.
const burst = 20

// Config says how to reach the API, and as whom. Zero durations and rates take
// the defaults given with them.
type Config struct {
	// Endpoint is a name ("ovh-eu", "ovh-ca", "ovh-us", …) or a URL with its
	// version ("https://eu.api.ovh.com/1.0"). Plain http only to a loopback
	// address.
	Endpoint          string
	ApplicationKey    string `json:"-"`
	ApplicationSecret string `json:"-"`
	ConsumerKey       string `json:"-"`

	Roots   *x509.CertPool // instead of the system's, if set
	Timeout time.Duration  // of one call; 10 s
	// DialContext makes the connections, if set, instead of a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error) `json:"-"`

	// Settle is how long after a write without a reply the records must be
	// seen unchanged before they are believed; 10 s.
	Settle time.Duration
	// Pause comes before a call is made again; 1 s.
	Pause time.Duration
	// Rate is the calls per second, after a burst of twenty, which is more
	// than one replacement makes; 4.
	Rate float64

	// Observe, if set, is told of every call made: its method, and "ok", the
	// Kind of its error, or "unconfirmed" for a write of unknown effect.
	Observe func(method, result string) `json:"-"`
}

// Format prints the endpoint, and nothing of the keys, whatever the verb.
func (c Config) Format(w fmt.State, _ rune) {
	fmt.Fprintf(w, "ovhdns.Config{Endpoint: %s, keys: (redacted)}", c.Endpoint)
}

// LogValue is Format for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

func (c Config) tls() *tls.Config {
	return &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}
}

// Client makes calls, one at a time, and is safe for concurrent use. Two
// replacements of the same name at the same time are the caller's mistake.
type Client struct {
	*client
}

type client struct {
	cfg      *Config // a pointer, which fmt does not follow inside a struct
	endpoint string
	limiter  *rate.Limiter

	turn chan struct{} // holds the right to make a call; guards the following three
	tr   *transport
	api  *ovh.Client // nil until OVH's clock is known
	born time.Time   // when it was asked

	mu     sync.Mutex
	debts  map[string]*debt // by zone
	doubts map[string]doubt // by name
}

// debt counts a zone's writes, and those that an accepted refresh covers.
type debt struct{ written, refreshed uint64 }

// New checks cfg and returns a Client. It makes no call.
func New(cfg Config) (*Client, error) {
	if cfg.ApplicationKey == "" || cfg.ApplicationSecret == "" || cfg.ConsumerKey == "" {
		return nil, errors.New("application key, application secret and consumer key are all needed")
	}
	return newClient(cfg)
}

func newClient(cfg Config) (*Client, error) {
	endpoint, err := ResolveEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg.Timeout = orDefault(cfg.Timeout, 10*time.Second)
	cfg.Settle = orDefault(cfg.Settle, 10*time.Second)
	cfg.Pause = orDefault(cfg.Pause, time.Second)
	cfg.Rate = orDefault(cfg.Rate, 4)
	return &Client{&client{
		cfg:      &cfg,
		endpoint: endpoint,
		limiter:  rate.NewLimiter(rate.Limit(cfg.Rate), burst),
		turn:     make(chan struct{}, 1),
		tr:       &transport{base: newBase(cfg)},
		debts:    map[string]*debt{},
		doubts:   map[string]doubt{},
	}}, nil
}

func orDefault[T time.Duration | float64](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// Format prints the endpoint, whatever the verb.
func (c Client) Format(w fmt.State, _ rune) {
	fmt.Fprintf(w, "ovhdns.Client{Endpoint: %s, keys: (redacted)}", c.endpoint)
}

// ResolveEndpoint returns the URL that stands for a name or a URL given as
// endpoint, or says what is wrong with it.
func ResolveEndpoint(endpoint string) (string, error) {
	if known, ok := ovh.Endpoints[endpoint]; ok {
		return known, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || !strings.Contains(endpoint, "/") {
		return "", fmt.Errorf("endpoint %q: neither a name (ovh-eu, ovh-ca, ovh-us, …) nor a URL", endpoint)
	}
	switch {
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Path, "/"):
		return "", fmt.Errorf("endpoint %q: want https://HOST/1.0, without a trailing slash", u.Redacted())
	case u.Scheme == "https":
	case u.Scheme == "http" && loopback(u.Hostname()):
	default:
		return "", fmt.Errorf("endpoint %q: https only (plain http is for a loopback address)", endpoint)
	}
	return endpoint, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

var errTimeout = errors.New("no answer in time")

// call makes one signed call and decodes the answer into result, if not nil.
// Errors are *APIError. A call refused because of the clock is made once more
// with the clock asked anew: it had no effect.
func (c *client) call(ctx context.Context, method, path string, body, result any) error {
	op := method + " " + strings.SplitN(path, "?", 2)[0]
	if err := c.limiter.Wait(ctx); err != nil {
		return &APIError{Op: op, Err: cause(ctx, err)}
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return &APIError{Op: op, Err: context.Cause(ctx)}
	}
	err := c.once(ctx, method, op, path, body, result)
	if e, ok := errors.AsType[*APIError](err); ok && clockTrouble(e.Code, e.Class, e.Message) {
		c.api = nil
		err = c.once(ctx, method, op, path, body, result)
	}
	return err
}

// once makes the call, asking for OVH's time first where it is not known or
// where our own clock has stepped since.
func (c *client) once(ctx context.Context, method, op, path string, body, result any) error {
	if c.api != nil && clockStepped(c.born, time.Now()) {
		c.api = nil
	}
	if c.api == nil {
		if err := c.warm(ctx); err != nil {
			return err
		}
	}
	if result == nil {
		// A success that is not JSON was not said by OVH.
		result = new(json.RawMessage)
	}
	return c.bounded(ctx, op, func() error {
		return c.api.CallAPIWithContext(c.tr.ctx, method, path, body, result, true)
	})
}

// warm makes a new go-ovh client and has it ask for the time, which it would
// otherwise do beyond our control.
func (c *client) warm(ctx context.Context) error {
	api, err := c.library()
	if err != nil {
		return err
	}
	err = c.bounded(ctx, "GET /auth/time", func() error {
		_, err := api.TimeDelta()
		return err
	})
	if err != nil {
		return err
	}
	c.api, c.born = api, time.Now()
	return nil
}

// library makes a go-ovh client by its fields, because its constructors read
// configuration files and the environment of whoever started us. Its Timeout
// stays unset: the transport's context ends calls, and says why.
func (c *client) library() (*ovh.Client, error) {
	api := &ovh.Client{
		AppKey:      c.cfg.ApplicationKey,
		AppSecret:   c.cfg.ApplicationSecret,
		ConsumerKey: c.cfg.ConsumerKey,
		UserAgent:   "releve",
		Client: &http.Client{
			Transport:     c.tr,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if err := api.SetEndpoint(c.endpoint); err != nil {
		return nil, fmt.Errorf("set endpoint: %w", err)
	}
	return api, nil
}

// clockStepped reports whether the wall clock moved otherwise than the
// monotonic one between two readings.
func clockStepped(then, now time.Time) bool {
	step := now.Round(0).Sub(then.Round(0)) - now.Sub(then)
	return step.Abs() > 2*time.Second
}

// bounded runs do under the timeout of one call and gives its error our form.
func (c *client) bounded(ctx context.Context, op string, do func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	c.tr.ctx, c.tr.last = ctx, exchange{}
	err := do()
	if err != nil {
		err = c.describe(op, err)
	}
	if c.cfg.Observe != nil {
		method, _, _ := strings.Cut(op, " ")
		c.cfg.Observe(method, outcome(err))
	}
	return err
}

// outcome is what became of a call, in one word.
func outcome(err error) string {
	e, ok := errors.AsType[*APIError](err)
	switch {
	case err == nil:
		return "ok"
	case !ok:
		return Permanent.String()
	case e.Unknown:
		return "unconfirmed"
	}
	return e.Kind.String()
}

// describe makes an APIError of what go-ovh returned and the transport saw.
func (c *client) describe(op string, err error) error {
	last := c.tr.last
	e := &APIError{Op: op, Code: last.status, QueryID: c.redact(last.queryID)}
	write := !strings.HasPrefix(op, "GET ")
	if last.status == 0 || last.status/100 == 2 {
		// No answer, or a success that makes no sense.
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL: Op says it
		}
		e.Err = err
		e.Unknown = write && last.sent
		return e
	}
	var said struct{ Class, ErrorCode, Message string }
	isJSON := json.Unmarshal(last.body, &said) == nil
	if isJSON {
		e.Class, e.Message = c.redact(said.ErrorCode), c.redact(said.Message)
		if e.Class == "" {
			e.Class = c.redact(said.Class)
		}
	} else {
		e.Message = c.redact(firstLine(last.body))
	}
	e.Kind = classify(e.Code, e.Class, e.Message)
	// A JSON refusal with a 4xx code is the API's own word that nothing was
	// done; anything else may come from a gateway that gave up waiting.
	e.Unknown = write && (e.Code >= 500 || e.Code < 400 || e.Code == http.StatusRequestTimeout || !isJSON)
	if e.Unknown {
		e.Kind = Temporary
	}
	return e
}

// redact takes our keys out of text that came from outside. What is too short
// to be a key is left: it would only riddle the text.
func (c *client) redact(s string) string {
	for _, secret := range []string{c.cfg.ApplicationSecret, c.cfg.ConsumerKey, c.cfg.ApplicationKey} {
		if len(secret) >= 8 {
			s = strings.ReplaceAll(s, secret, "(redacted)")
		}
	}
	return s
}

// firstLine is enough of a body that is not JSON, such as a gateway's page.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	line = strings.ToValidUTF8(line, "?")
	if len(line) > 120 {
		line = strings.ToValidUTF8(line[:120], "") + "…"
	}
	return line
}

// get makes a reading call, twice if the first try failed for a while.
func (c *client) get(ctx context.Context, path string, result any) error {
	err := c.call(ctx, http.MethodGet, path, nil, result)
	if e, ok := errors.AsType[*APIError](err); ok && e.Kind == Temporary && ctx.Err() == nil {
		if werr := sleep(ctx, c.cfg.Pause); werr != nil {
			return err
		}
		err = c.call(ctx, http.MethodGet, path, nil, result)
	}
	return err
}

// sleep waits for d or for the end of ctx, whose cause it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends idle connections. The Client may go on being used.
func (c *Client) Close() { c.tr.base.CloseIdleConnections() }
