package ovhdns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// freshTries is how often a record that is listed and yet not found is asked
// for: OVH shows a new record's id before the record itself.
const freshTries = 5

// name is a name within its zone.
type name struct{ zone, sub string }

func parseName(zone, fqdn string) (name, error) {
	z, sub, err := split(zone, fqdn)
	return name{z, sub}, err
}

func (n name) String() string {
	if n.sub == "" {
		return n.zone
	}
	return n.sub + "." + n.zone
}

func (n name) path(rest string) string { return "/domain/zone/" + n.zone + rest }

// apiRecord is a record of either collection. Pointers are what may be null.
type apiRecord struct {
	ID        int64   `json:"id"`
	FieldType string  `json:"fieldType"`
	SubDomain *string `json:"subDomain"`
	Target    string  `json:"target"`
	IP        string  `json:"ip"` // DynHost's word for target
	TTL       *int64  `json:"ttl"`
}

func (r apiRecord) isAt(n name) bool {
	sub := ""
	if r.SubDomain != nil {
		sub = *r.SubDomain
	}
	return strings.EqualFold(sub, n.sub)
}

// Read returns the address records of name, of both of OVH's collections. It
// returns a *CNAMEError where the name is an alias.
func (c *Client) Read(ctx context.Context, zone, fqdn string) (Set, error) {
	n, err := parseName(zone, fqdn)
	if err != nil {
		return nil, err
	}
	have, err := c.read(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("read records of %s: %w", n, err)
	}
	return set(have), nil
}

// read lists what stands at n. A key without rights to the DynHost collection
// is taken to mean that it is not in use: the records would then be missing
// here, which the caller notices as a set it does not know.
func (c *client) read(ctx context.Context, n name) ([]found, error) {
	aliases, err := c.list(ctx, n, "CNAME")
	if err != nil {
		return nil, err
	}
	if len(aliases) > 0 {
		return nil, &CNAMEError{Name: n.String(), Target: aliases[0].Target}
	}
	var have []found
	for _, kind := range []string{"A", "AAAA"} {
		records, err := c.list(ctx, n, kind)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			f := found{id: r.ID, Record: Record{Type: kind, Target: r.Target}}
			if r.TTL != nil {
				f.TTL = *r.TTL
			}
			have = append(have, f)
		}
	}
	dynHosts, err := c.collect(ctx, n, n.path("/dynHost/record"), nil)
	if e, ok := errors.AsType[*APIError](err); ok && (e.Kind == NoRights || e.Code == http.StatusNotFound) {
		return have, nil
	}
	if err != nil {
		return nil, err
	}
	for _, r := range dynHosts {
		f := found{id: r.ID, Record: Record{Type: "A", Target: r.IP, TTL: dynHostTTL, DynHost: true}}
		if f.Addr().Is6() {
			f.Type = "AAAA"
		}
		have = append(have, f)
	}
	return have, nil
}

// list returns the records of one type at exactly this name.
func (c *client) list(ctx context.Context, n name, kind string) ([]apiRecord, error) {
	records, err := c.collect(ctx, n, n.path("/record"), url.Values{"fieldType": {kind}})
	return slices.DeleteFunc(records, func(r apiRecord) bool { return r.FieldType != kind }), err
}

// collect reads the records at n in a collection. OVH's filters match loosely
// (SQL's like, in either case), so that each record is compared again. The
// name is always in the filter, empty at the apex: without it the whole zone
// would answer.
func (c *client) collect(ctx context.Context, n name, collection string, filter url.Values) ([]apiRecord, error) {
	query := url.Values{"subDomain": {n.sub}}
	for k, v := range filter {
		query[k] = v
	}
	for try := 1; ; try++ {
		records, err := c.collectOnce(ctx, n, collection, query)
		gone, ok := errors.AsType[*notFoundError](err)
		if !ok {
			return records, err
		}
		// Removed since it was listed, or too new to be read: the list knows.
		if try == freshTries {
			return nil, gone.Err
		}
		if err := sleep(ctx, c.cfg.Pause); err != nil {
			return nil, fmt.Errorf("%w; %w", gone.Err, err)
		}
	}
}

// notFoundError is a 404 on a record that had just been listed.
type notFoundError struct{ Err *APIError }

func (e *notFoundError) Error() string { return e.Err.Error() }

func (c *client) collectOnce(ctx context.Context, n name, collection string, query url.Values) ([]apiRecord, error) {
	var ids []json.Number // numbers, not float64: ids exceed 2^32
	if err := c.get(ctx, collection+"?"+query.Encode(), &ids); err != nil {
		return nil, err
	}
	var records []apiRecord
	for _, text := range ids {
		id, err := text.Int64()
		if err != nil {
			return nil, fmt.Errorf("record id %q: %w", text, err)
		}
		var r apiRecord
		err = c.get(ctx, fmt.Sprintf("%s/%d", collection, id), &r)
		if e, ok := errors.AsType[*APIError](err); ok && e.Code == http.StatusNotFound {
			e.Kind = Temporary
			return nil, &notFoundError{e}
		}
		if err != nil {
			return nil, err
		}
		if r.isAt(n) {
			r.ID = id
			records = append(records, r)
		}
	}
	return records, nil
}

// defaultTTL is the zone's TTL for records that have none of their own,
// in seconds. A key without rights to it is answered OVH's own default.
func (c *client) defaultTTL(ctx context.Context, n name) (int64, error) {
	var soa struct {
		TTL int64 `json:"ttl"`
	}
	err := c.get(ctx, n.path("/soa"), &soa)
	if e, ok := errors.AsType[*APIError](err); ok && e.Kind == NoRights {
		return 3600, nil
	}
	return soa.TTL, err
}

// DefaultTTL returns the TTL, in seconds, of the zone's records with TTL 0.
func (c *Client) DefaultTTL(ctx context.Context, zone string) (int64, error) {
	n, err := parseName(zone, zone)
	if err != nil {
		return 0, err
	}
	ttl, err := c.defaultTTL(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("read default ttl of %s: %w", zone, err)
	}
	return ttl, nil
}

// NameServers returns the names of the zone's own name servers.
func (c *Client) NameServers(ctx context.Context, zone string) ([]string, error) {
	n, err := parseName(zone, zone)
	if err != nil {
		return nil, err
	}
	var info struct {
		NameServers []string `json:"nameServers"`
	}
	if err := c.get(ctx, n.path(""), &info); err != nil {
		return nil, fmt.Errorf("read name servers of %s: %w", n, err)
	}
	if len(info.NameServers) == 0 {
		return nil, fmt.Errorf("read name servers of %s: OVH names none", n)
	}
	return info.NameServers, nil
}

// Hints returns a warning for each HTTPS or SVCB record (RFC 9460) of name
// whose address hints clients may use in place of its A and AAAA records, and
// which a switch leaves as it is, and for each MX record of name or of the zone
// itself by which mail goes where name leads, the standby after a switch.
func (c *Client) Hints(ctx context.Context, zone, fqdn string) ([]string, error) {
	n, err := parseName(zone, fqdn)
	if err != nil {
		return nil, err
	}
	var warnings []string
	for _, kind := range []string{"HTTPS", "SVCB"} {
		records, err := c.list(ctx, n, kind)
		if e, ok := errors.AsType[*APIError](err); ok && e.Kind == Permanent {
			continue // an API that does not know the type has no record of it
		}
		if err != nil {
			return nil, fmt.Errorf("read %s records of %s: %w", kind, n, err)
		}
		for _, r := range records {
			if strings.Contains(r.Target, "ipv4hint") || strings.Contains(r.Target, "ipv6hint") {
				warnings = append(warnings, fmt.Sprintf("%s has an %s record with address hints (%s), which a switch does not change: remove the hints", n, kind, r.Target))
			}
		}
	}
	mail, err := c.mailTo(ctx, zone, n)
	return append(warnings, mail...), err
}

// mailTo returns a warning for each MX record that names n.
func (c *Client) mailTo(ctx context.Context, zone string, n name) ([]string, error) {
	apex, err := parseName(zone, zone)
	if err != nil {
		return nil, err
	}
	var warnings []string
	for _, of := range slices.Compact([]name{apex, n}) {
		records, err := c.list(ctx, of, "MX")
		if err != nil {
			return nil, fmt.Errorf("read MX records of %s: %w", of, err)
		}
		for _, r := range records {
			f := strings.Fields(r.Target) // "10 mail.example.net.", a name without a dot at its end lies in the zone
			if len(f) != 2 {
				continue
			}
			full, absolute := strings.CutSuffix(f[1], ".")
			if !absolute {
				full += "." + apex.String()
			}
			if strings.EqualFold(full, n.String()) {
				warnings = append(warnings, fmt.Sprintf("mail for %s goes to %s (MX %s), and to the standby after a switch: give the mail server a name of its own", of, n, r.Target))
			}
		}
	}
	return warnings, nil
}
