package ovhdns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ovh/go-ovh/ovh"
)

// Right is one call that a replacement makes, and whether the key may.
type Right struct {
	Method, Path string // the path as an access rule, "*" for a record's id
	Granted      bool
	// Optional says that things work without it, and Why what is then lost.
	Optional bool
	Why      string
}

func (r Right) String() string { return r.Method + " " + r.Path }

// Rights is what a key may do, and how long.
type Rights struct {
	// Known is false when the key may not even ask: then Calls says what is
	// needed, and nothing says what is granted.
	Known   bool
	Status  string    // "validated", "pendingValidation", "expired", …
	Expires time.Time // zero: never, or not known
	Calls   []Right
}

// Missing returns the calls that are needed and known not to be granted.
func (r Rights) Missing() []Right {
	var missing []Right
	for _, call := range r.Calls {
		if r.Known && !call.Granted && !call.Optional {
			missing = append(missing, call)
		}
	}
	return missing
}

// needs lists the calls this package makes.
func needs(zone string) []Right {
	z := "/domain/zone/" + zone
	return []Right{
		{Method: "GET", Path: z},
		{Method: "GET", Path: z + "/record"},
		{Method: "GET", Path: z + "/record/*"},
		{Method: "POST", Path: z + "/record"},
		{Method: "PUT", Path: z + "/record/*"},
		{Method: "DELETE", Path: z + "/record/*"},
		{Method: "POST", Path: z + "/refresh"},
		{Method: "GET", Path: z + "/soa", Optional: true, Why: "the zone's default TTL is taken to be 3600"},
		{Method: "GET", Path: z + "/dynHost/record", Optional: true, Why: "records that OVH treats as DynHost (TTL 60) are not seen"},
		{Method: "GET", Path: z + "/dynHost/record/*", Optional: true, Why: "records that OVH treats as DynHost (TTL 60) are not seen"},
		{Method: "PUT", Path: z + "/dynHost/record/*", Optional: true, Why: "records that OVH treats as DynHost (TTL 60) cannot be changed"},
		{Method: "DELETE", Path: z + "/dynHost/record/*", Optional: true, Why: "records that OVH treats as DynHost (TTL 60) cannot be removed"},
		{Method: "GET", Path: "/auth/currentCredential", Optional: true, Why: "the key's rights and expiry cannot be checked"},
	}
}

// Rights asks OVH which of the calls this package makes on zone the key may
// make, without making them.
func (c *Client) Rights(ctx context.Context, zone string) (Rights, error) {
	n, err := parseName(zone, zone)
	if err != nil {
		return Rights{}, err
	}
	rights := Rights{Calls: needs(n.zone)}
	var credential struct {
		Status     string     `json:"status"`
		Expiration *time.Time `json:"expiration"`
		Rules      []struct{ Method, Path string }
	}
	err = c.get(ctx, "/auth/currentCredential", &credential)
	if e, ok := errors.AsType[*APIError](err); ok && e.Kind == NoRights {
		return rights, nil
	}
	if err != nil {
		return Rights{}, fmt.Errorf("read rights: %w", err)
	}
	rights.Known, rights.Status = true, credential.Status
	if credential.Expiration != nil {
		rights.Expires = *credential.Expiration
	}
	for i, need := range rights.Calls {
		path := strings.ReplaceAll(need.Path, "*", "1")
		for _, rule := range credential.Rules {
			if strings.EqualFold(rule.Method, need.Method) && matchRule(rule.Path, path) {
				rights.Calls[i].Granted = true
			}
		}
	}
	return rights, nil
}

// matchRule reports whether an access rule's path covers a call's: "*" stands
// for anything, slashes included.
func matchRule(rule, path string) bool {
	head, rest, wild := strings.Cut(rule, "*")
	if !wild {
		return rule == path
	}
	path, ok := strings.CutPrefix(path, head)
	if !ok {
		return false
	}
	for i := 0; i <= len(path); i++ {
		if matchRule(rest, path[i:]) {
			return true
		}
	}
	return false
}

// CreateTokenURL is the page on which the owner of zone makes a key with no
// more rights than this package needs. endpoint is as in Config.
func CreateTokenURL(endpoint, zone string) (string, error) {
	base, err := ResolveEndpoint(endpoint)
	if err != nil {
		return "", err
	}
	n, err := parseName(zone, zone)
	if err != nil {
		return "", err
	}
	var query []string
	for _, need := range needs(n.zone) {
		query = append(query, need.Method+"="+need.Path)
	}
	return strings.TrimSuffix(base, "/1.0") + "/createToken/?" + strings.Join(query, "&"), nil
}

// KeyRequest is a consumer key that its owner has yet to validate.
type KeyRequest struct {
	ConsumerKey   string // of no use before the page was confirmed
	ValidationURL string // the page to confirm it on
}

// Format prints the page, and not the key.
func (k KeyRequest) Format(w fmt.State, _ rune) {
	fmt.Fprintf(w, "ovhdns.KeyRequest{ValidationURL: %s, ConsumerKey: (redacted)}", k.ValidationURL)
}

// RequestKey asks OVH for a consumer key with the rights that this package
// needs on zone and no others. Of cfg it needs no consumer key.
func RequestKey(ctx context.Context, cfg Config, zone string) (KeyRequest, error) {
	n, err := parseName(zone, zone)
	if err != nil {
		return KeyRequest{}, err
	}
	if cfg.ApplicationKey == "" || cfg.ApplicationSecret == "" {
		return KeyRequest{}, errors.New("application key and application secret are needed")
	}
	cfg.ConsumerKey = ""
	c, err := newClient(cfg)
	if err != nil {
		return KeyRequest{}, err
	}
	defer c.Close()
	api, err := c.library()
	if err != nil {
		return KeyRequest{}, err
	}
	var ask ovh.CkRequest
	for _, need := range needs(n.zone) {
		ask.AddRule(need.Method, need.Path)
	}
	var answer struct{ ConsumerKey, ValidationURL string }
	err = c.bounded(ctx, "POST /auth/credential", func() error {
		return api.PostUnAuthWithContext(c.tr.ctx, "/auth/credential", ask, &answer)
	})
	if err == nil && (answer.ConsumerKey == "" || !strings.HasPrefix(answer.ValidationURL, "http")) {
		err = errors.New("OVH's answer holds no key and page")
	}
	if err != nil {
		return KeyRequest{}, fmt.Errorf("request key: %w", err)
	}
	return KeyRequest(answer), nil
}
