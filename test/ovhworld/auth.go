package ovhworld

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Rule is an access rule: "*" in Path stands for anything.
type Rule struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// AllRules grants everything.
func AllRules() []Rule {
	return []Rule{{"GET", "/*"}, {"POST", "/*"}, {"PUT", "/*"}, {"DELETE", "/*"}}
}

type credential struct {
	app     string
	status  string
	created time.Time
	expires time.Time // zero: never
	rules   []Rule
	token   string // of the page on which the customer validates it
}

// AddApplication registers an application.
func (w *World) AddApplication(key, secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apps[key] = secret
}

// AddCredential registers a validated consumer key of an application; a zero
// expires means that it never does. It replaces one of the same name.
func (w *World) AddCredential(application, consumerKey string, expires time.Time, rules ...Rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.creds[consumerKey] = &credential{app: application, status: "validated", created: time.Now(), expires: expires, rules: rules}
}

// problem is an answer that is not a success.
type problem struct {
	status  int
	code    string // errorCode of the old form
	class   string // class of the new form
	message string
}

func refuse(status int, code, message string) *problem {
	class := "Client::BadRequest"
	switch status {
	case http.StatusForbidden:
		class = "Client::Forbidden"
	case http.StatusNotFound:
		class = "Client::NotFound"
	case http.StatusConflict:
		class = "Client::Conflict"
	}
	return &problem{status: status, code: code, class: class, message: message}
}

// body renders the problem in the old form or the new one.
func (p *problem) body(newForm bool) []byte {
	var v any
	if newForm || p.code == "" {
		v = map[string]any{"class": p.class, "message": p.message, "details": map[string]string{}}
	} else {
		v = map[string]string{"errorCode": p.code, "httpCode": fmt.Sprintf("%d %s", p.status, http.StatusText(p.status)), "message": p.message}
	}
	out, _ := json.Marshal(v)
	return out
}

// authenticate checks the call's keys, clock, signature and rights, in OVH's order.
func (w *World) authenticate(r *http.Request, path, body string) (*credential, *problem) {
	app := r.Header.Get("X-Ovh-Application")
	secret, ok := w.apps[app]
	if !ok {
		return nil, refuse(http.StatusForbidden, "INVALID_KEY", "This application key is invalid")
	}
	consumer := r.Header.Get("X-Ovh-Consumer")
	if consumer == "" {
		return nil, refuse(http.StatusForbidden, "NOT_CREDENTIAL", "You must login first")
	}
	stamp := r.Header.Get("X-Ovh-Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "MISSING_TIMESTAMP", "Missing or invalid X-Ovh-Timestamp header")
	}
	if off := w.now().Sub(time.Unix(seconds, 0)); off.Abs() > w.opts.Window {
		return nil, refuse(http.StatusBadRequest, "QUERY_TIME_OUT", "Query out of time")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	url := scheme + "://" + r.Host + r.RequestURI
	sum := sha1.Sum([]byte(strings.Join([]string{secret, consumer, r.Method, url, body, stamp}, "+")))
	if r.Header.Get("X-Ovh-Signature") != "$1$"+hex.EncodeToString(sum[:]) {
		return nil, refuse(http.StatusBadRequest, "INVALID_SIGNATURE", "Invalid signature")
	}
	cred := w.creds[consumer]
	switch {
	case cred == nil || cred.app != app:
		return nil, refuse(http.StatusForbidden, "NOT_CREDENTIAL", "This credential does not exist")
	case cred.status != "validated" || !cred.expires.IsZero() && w.now().After(cred.expires):
		return nil, refuse(http.StatusForbidden, "INVALID_CREDENTIAL", "This credential is not valid")
	case path == "/auth/currentCredential" && !w.opts.CredentialNeedsRule:
	case !cred.grants(r.Method, path):
		return nil, refuse(http.StatusForbidden, "NOT_GRANTED_CALL", "This call has not been granted")
	}
	return cred, nil
}

func (c *credential) grants(method, path string) bool {
	for _, rule := range c.rules {
		if strings.EqualFold(rule.Method, method) && wildcard(rule.Path, path) {
			return true
		}
	}
	return false
}

// wildcard matches a path against a rule, in which "*" is any text.
func wildcard(rule, path string) bool {
	head, rest, wild := strings.Cut(rule, "*")
	if !wild {
		return rule == path
	}
	path, ok := strings.CutPrefix(path, head)
	if !ok {
		return false
	}
	for i := 0; i <= len(path); i++ {
		if wildcard(rest, path[i:]) {
			return true
		}
	}
	return false
}

func (c *credential) show() map[string]any {
	v := map[string]any{
		"credentialId": 1, "applicationId": 1, "status": c.status, "ovhSupport": false, "allowedIPs": nil,
		"creation": c.created.UTC().Format(time.RFC3339), "lastUse": time.Now().UTC().Format(time.RFC3339),
		"expiration": nil, "rules": c.rules,
	}
	if !c.expires.IsZero() {
		v["expiration"] = c.expires.UTC().Format(time.RFC3339)
	}
	return v
}

// newCredential answers POST /auth/credential: a key that waits for its owner.
func (w *World) newCredential(r *http.Request, body string) (any, *problem) {
	app := r.Header.Get("X-Ovh-Application")
	if _, ok := w.apps[app]; !ok {
		return nil, refuse(http.StatusForbidden, "INVALID_KEY", "This application key is invalid")
	}
	var ask struct {
		AccessRules []Rule `json:"accessRules"`
		Redirection string `json:"redirection"`
	}
	if err := json.Unmarshal([]byte(body), &ask); err != nil || len(ask.AccessRules) == 0 {
		return nil, refuse(http.StatusBadRequest, "MISSING_PARAMETER", "[accessRules] is missing")
	}
	w.tokens++
	key, token := fmt.Sprintf("ck-asked-%d", w.tokens), fmt.Sprintf("token%d", w.tokens)
	w.creds[key] = &credential{app: app, status: "pendingValidation", created: time.Now(), rules: ask.AccessRules, token: token}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return map[string]string{
		"consumerKey": key, "state": "pendingValidation",
		"validationUrl": scheme + "://" + r.Host + "/auth/?credentialToken=" + token,
	}, nil
}

// validate is the page on which the customer says yes.
func (w *World) validate(token string) bool {
	for _, c := range w.creds {
		if token != "" && c.token == token {
			c.status = "validated"
			return true
		}
	}
	return false
}
