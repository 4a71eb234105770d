package ovhdns

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what an error of the API asks of us.
type Kind int

const (
	// Temporary: no answer, or one that says "not now". Try again.
	Temporary Kind = iota
	// NoRights: the key lacks this call. The owner must make another key.
	NoRights
	// BadCredential: the keys are wrong, not yet validated, or have expired.
	BadCredential
	// Permanent: OVH will not do this; asking again changes nothing.
	Permanent
)

func (k Kind) String() string {
	return [...]string{"temporary", "rights", "credential", "permanent"}[k]
}

// APIError is a call that failed. It never holds a key.
type APIError struct {
	Op      string // method and path: "POST /domain/zone/example.net/refresh"
	Code    int    // HTTP status; 0 when no answer came
	Class   string // OVH's errorCode or class, if it gave one
	Message string // OVH's words
	QueryID string // what OVH's support asks for
	Kind    Kind
	// Unknown says that the call was a write, that it may have reached OVH,
	// and that no answer says whether it took effect or ever will.
	Unknown bool
	Err     error // why no answer came
}

func (e *APIError) Error() string {
	var b strings.Builder
	if e.Unknown {
		b.WriteString("could not confirm ")
	}
	fmt.Fprintf(&b, "%s: ", e.Op)
	switch {
	case e.Code == 0 && e.Err != nil:
		b.WriteString(e.Err.Error())
	case e.Code == 0:
		b.WriteString("no answer")
	default:
		fmt.Fprintf(&b, "OVH answered %d", e.Code)
		if e.Class != "" {
			fmt.Fprintf(&b, " %s", e.Class)
		}
		if e.Message != "" {
			fmt.Fprintf(&b, ": %s", e.Message)
		}
		if e.Err != nil {
			fmt.Fprintf(&b, ": %v", e.Err)
		}
	}
	if e.QueryID != "" {
		fmt.Fprintf(&b, " (query %s)", e.QueryID)
	}
	if e.Kind == NoRights {
		fmt.Fprintf(&b, "; the key lacks %s", strings.TrimRight(e.Op, "0123456789")+star(e.Op))
	}
	return b.String()
}

// star stands for the record's id, where op ends in one, as in an access rule.
func star(op string) string {
	if strings.HasSuffix(strings.TrimRight(op, "0123456789"), "/record/") {
		return "*"
	}
	return ""
}

// Unwrap returns why no answer came.
func (e *APIError) Unwrap() error { return e.Err }

// CNAMEError says that a name is an alias: its addresses belong to the target,
// which is the name to manage instead.
type CNAMEError struct{ Name, Target string }

func (e *CNAMEError) Error() string {
	return fmt.Sprintf("%s is a CNAME of %s: manage that name instead, or replace the CNAME with A and AAAA records",
		e.Name, strings.TrimSuffix(e.Target, "."))
}

// ErrUnconfirmed is in every error after which the zone, or what its name
// servers will publish, may or may not have changed. Ask again with Resume.
var ErrUnconfirmed = errors.New("could not confirm")

// classify gives the kind of an answer that was not a success.
func classify(code int, class, message string) Kind {
	words := strings.ToLower(class + " " + message)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(words, p) {
				return true
			}
		}
		return false
	}
	switch {
	case code == 408 || code == 409 || code == 423 || code == 425 || code == 429 || code >= 500 || code < 400:
		return Temporary
	case clockTrouble(code, class, message):
		// Renewing the clock difference did not help: the secret is wrong.
		if has("query_time_out", "out of time") {
			return Temporary
		}
		return BadCredential
	case code == 401,
		has("not_credential", "invalid_credential", "invalid_key", "credential does not exist", "credential is not valid", "invalid application key", "application key is invalid"):
		return BadCredential
	case code == 403:
		return NoRights
	default:
		return Permanent
	}
}

// clockTrouble reports whether an answer can mean that our idea of OVH's clock
// is off. Such a call had no effect and may be sent again.
func clockTrouble(code int, class, message string) bool {
	words := strings.ToLower(class + " " + message)
	return code == 400 && (strings.Contains(words, "query_time_out") || strings.Contains(words, "out of time") ||
		strings.Contains(words, "invalid_signature") || strings.Contains(words, "invalid signature"))
}
