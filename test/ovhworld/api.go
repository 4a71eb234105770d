package ovhworld

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is what a call is answered; a nil body is an empty one.
type answer struct {
	status int
	body   []byte
	html   bool
}

// ServeHTTP answers one call, unless a fault is due.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/1.0")
	if !ok {
		w.page(rw, r)
		return
	}

	w.mu.Lock()
	onCall := w.onCall
	w.mu.Unlock()
	if onCall != nil {
		onCall()
	}

	w.mu.Lock()
	w.catchUp()
	index := len(w.calls)
	w.calls = append(w.calls, Call{Time: time.Now(), Method: r.Method, Path: path, Query: r.URL.RawQuery, Body: string(raw)})
	fault := w.faultFor(r.Method, path)
	var ans answer
	var effects []string
	switch {
	case fault == nil || fault.Effect == Happens:
		ans, effects = w.handle(r, path, string(raw))
	case fault.Effect == Late:
		// Judged now, carried out later: the signature would be out of time.
		do := func() []string { _, e := w.dispatch(r.Method, path, r.URL.Query(), string(raw)); return e }
		w.late = append(w.late, lateEffect{at: time.Now().Add(fault.Delay), do: do, call: index, write: r.Method != http.MethodGet && !strings.HasSuffix(path, "/refresh")})
	}
	newForm := w.opts.NewErrors
	cut, hang := false, time.Duration(0)
	if fault != nil {
		cut, hang = fault.Cut || fault.Hang > 0, fault.Hang
		if fault.Status != 0 {
			ans = answer{status: fault.Status, body: []byte(fault.Body), html: fault.Body != ""}
			if fault.Body == "" {
				ans.body = refuse(fault.Status, "FAULT", http.StatusText(fault.Status)).body(newForm)
			}
		}
	}
	call := &w.calls[index]
	call.Effects, call.Fault = effects, fault != nil
	if !cut {
		call.Status = ans.status
	}
	w.mu.Unlock()

	if hang > 0 {
		timer := time.NewTimer(hang)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-w.closing:
		}
	}
	if cut {
		panic(http.ErrAbortHandler) // net/http's way to close without an answer
	}
	if ans.html {
		rw.Header().Set("Content-Type", "text/html")
	} else {
		rw.Header().Set("Content-Type", "application/json; charset=utf-8")
		rw.Header().Set("X-Ovh-QueryID", fmt.Sprintf("EU.ext-2.%08x.%d.test", index, len(raw)))
	}
	rw.WriteHeader(ans.status)
	_, _ = rw.Write(ans.body)
}

// page is what stands beside the API: where a customer validates a key.
func (w *World) page(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.URL.Path == "/auth/" && w.validate(r.URL.Query().Get("credentialToken")) {
		fmt.Fprintln(rw, "The key is valid now.")
		return
	}
	http.NotFound(rw, r)
}

// handle checks and carries out a call.
func (w *World) handle(r *http.Request, path, body string) (answer, []string) {
	fail := func(p *problem) (answer, []string) {
		return answer{status: p.status, body: p.body(w.opts.NewErrors)}, nil
	}
	if isOpen(r.Method, path) {
		if r.Method == http.MethodGet {
			return answer{status: http.StatusOK, body: strconv.AppendInt(nil, w.now().Unix(), 10)}, nil
		}
		v, p := w.newCredential(r, body)
		if p != nil {
			return fail(p)
		}
		return ok(v), nil
	}
	cred, p := w.authenticate(r, path, body)
	if p != nil {
		return fail(p)
	}
	if r.Method == http.MethodGet && path == "/auth/currentCredential" {
		return ok(cred.show()), nil
	}
	return w.dispatch(r.Method, path, r.URL.Query(), body)
}

func ok(v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own values come here
	}
	return answer{status: http.StatusOK, body: body}
}

// dispatch carries out a call on a zone.
func (w *World) dispatch(method, path string, query url.Values, body string) (answer, []string) {
	v, effects, p := w.zoneCall(method, path, query, body)
	if p != nil {
		return answer{status: p.status, body: p.body(w.opts.NewErrors)}, nil
	}
	if v == nil && strings.HasSuffix(path, "/refresh") {
		return answer{status: http.StatusNoContent}, effects
	}
	return ok(v), effects
}

func (w *World) zoneCall(method, path string, query url.Values, body string) (v any, effects []string, p *problem) {
	rest, isZone := strings.CutPrefix(path, "/domain/zone/")
	parts := strings.Split(rest, "/")
	if !isZone || parts[0] == "" {
		return nil, nil, refuse(http.StatusNotFound, "INVALID_URL", "Got an invalid (or empty) URL")
	}
	z := w.zones[strings.ToLower(parts[0])]
	if z == nil {
		return nil, nil, refuse(http.StatusNotFound, "", "This service does not exist")
	}
	c := zoneRequest{World: w, zone: z, query: query, body: body}
	switch call := method + " " + strings.Join(parts[1:], "/"); {
	case call == "GET ":
		return z.show(), nil, nil
	case call == "POST refresh":
		w.publish(z)
		return nil, []string{"refresh " + z.name}, nil
	case call == "GET status":
		return map[string]any{"isDeployed": len(z.pending) == 0, "errors": nil, "warnings": nil}, nil, nil
	case call == "GET soa":
		return map[string]any{
			"server": z.nameServers[0], "email": "tech." + z.name, "serial": z.serial, "refresh": 86400,
			"expire": 3600000, "nxDomainTtl": 60, "ttl": z.ttl,
		}, nil, nil
	case call == "GET export":
		return z.export(), nil, nil
	case call == "GET record" || call == "GET dynHost/record":
		return c.list(parts[1] == "dynHost"), nil, nil
	case call == "POST record" || call == "POST dynHost/record":
		return c.create(parts[1] == "dynHost")
	}
	dynHost := len(parts) == 4 && parts[1] == "dynHost" && parts[2] == "record"
	if !dynHost && (len(parts) != 3 || parts[1] != "record") {
		return nil, nil, refuse(http.StatusNotFound, "INVALID_URL", "Got an invalid (or empty) URL")
	}
	id, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
	if err != nil {
		return nil, nil, refuse(http.StatusBadRequest, "", "[id] Given data ("+parts[len(parts)-1]+") is not valid for type long")
	}
	r := z.find(id, dynHost)
	if r == nil || time.Since(r.born) < w.opts.FreshNotFound {
		return nil, nil, refuse(http.StatusNotFound, "", "The requested object (id = "+strconv.FormatInt(id, 10)+") does not exist")
	}
	switch method {
	case http.MethodGet:
		return r.show(z), nil, nil
	case http.MethodPut:
		return c.update(r)
	case http.MethodDelete:
		z.records = slices.DeleteFunc(z.records, func(o *record) bool { return o == r })
		return nil, []string{"remove " + r.String()}, nil
	}
	return nil, nil, refuse(http.StatusMethodNotAllowed, "INVALID_METHOD", "Method not allowed")
}

func (z *zone) show() map[string]any {
	return map[string]any{
		"name": z.name, "nameServers": z.nameServers, "hasDnsAnycast": false, "dnssecSupported": true,
		"lastUpdate": z.changed.UTC().Format(time.RFC3339),
	}
}

func (z *zone) export() string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL %d\n@\tIN SOA %s. tech.%s. (%d 86400 3600 3600000 60)\n", z.ttl, z.nameServers[0], z.name, z.serial)
	for _, r := range z.records {
		ttl := ""
		if r.TTL != 0 {
			ttl = strconv.FormatInt(r.TTL, 10)
		}
		fmt.Fprintf(&b, "%s\t%s\tIN %s\t%s\n", r.SubDomain, ttl, r.Type, r.Target)
	}
	return b.String()
}

func (r *record) show(z *zone) map[string]any {
	if r.DynHost {
		return map[string]any{"id": r.ID, "zone": z.name, "subDomain": r.SubDomain, "ip": r.Target, "ttl": r.TTL}
	}
	return map[string]any{"id": r.ID, "zone": z.name, "subDomain": r.SubDomain, "fieldType": r.Type, "target": r.Target, "ttl": r.TTL}
}

// zoneRequest is a call on the records of a zone.
type zoneRequest struct {
	*World
	zone  *zone
	query url.Values
	body  string
}

// list answers ids. The filters are OVH's: like for fieldType, ilike for subDomain.
func (c zoneRequest) list(dynHost bool) []int64 {
	ids := []int64{}
	for _, r := range c.zone.records {
		listed := c.opts.IgnoreFilters ||
			(dynHost || !c.query.Has("fieldType") || like(c.query.Get("fieldType"), r.Type)) &&
				(!c.query.Has("subDomain") || ilike(c.query.Get("subDomain"), r.SubDomain))
		if r.DynHost == dynHost && listed {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// fields is what a body may hold; pointers tell what it holds.
type fields struct {
	FieldType *string `json:"fieldType"`
	SubDomain *string `json:"subDomain"`
	Target    *string `json:"target"`
	IP        *string `json:"ip"`
	TTL       *int64  `json:"ttl"`
}

// decode reads the body and refuses every field that is not allowed.
func (c zoneRequest) decode(allowed ...string) (fields, *problem) {
	var f fields
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(c.body), &keys); err != nil {
		return f, refuse(http.StatusBadRequest, "INVALID_JSON", "Body is not valid JSON")
	}
	for k := range keys {
		if !slices.Contains(allowed, k) {
			return f, refuse(http.StatusBadRequest, "", "Received not described parameters: ("+k+")")
		}
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(c.body)))
	if err := dec.Decode(&f); err != nil {
		// OVH signs what it understood, so that a wrong type is a wrong signature.
		return f, refuse(http.StatusBadRequest, "INVALID_SIGNATURE", "Invalid signature")
	}
	return f, nil
}

func (c zoneRequest) create(dynHost bool) (any, []string, *problem) {
	allowed := []string{"fieldType", "subDomain", "target", "ttl"}
	if dynHost {
		allowed = []string{"subDomain", "ip"}
	}
	f, p := c.decode(allowed...)
	if p != nil {
		return nil, nil, p
	}
	r := Record{DynHost: dynHost}
	if dynHost {
		f.Target, f.FieldType = f.IP, typeOf(f.IP)
	}
	if f.FieldType == nil || f.Target == nil {
		return nil, nil, refuse(http.StatusBadRequest, "", "[target] Missing parameter")
	}
	r.Type = *f.FieldType
	apply(&r, f)
	if p := c.check(r, 0); p != nil {
		return nil, nil, p
	}
	rec := c.add(c.zone, r)
	shown := rec.show(c.zone)
	if c.opts.PostAnswersZero {
		shown["id"] = 0
	}
	return shown, []string{"add " + rec.String()}, nil
}

// update changes what the body gives, and keeps the rest.
func (c zoneRequest) update(rec *record) (any, []string, *problem) {
	allowed := []string{"subDomain", "target", "ttl"}
	if rec.DynHost {
		allowed = []string{"subDomain", "ip"}
	}
	f, p := c.decode(allowed...)
	if p != nil {
		return nil, nil, p
	}
	r := rec.Record
	if rec.DynHost {
		f.Target = f.IP
		if kind := typeOf(f.IP); kind != nil {
			r.Type = *kind
		}
	}
	apply(&r, f)
	if p := c.check(r, r.ID); p != nil {
		return nil, nil, p
	}
	rec.Record = r
	c.file(c.zone, rec)
	return nil, []string{"change " + rec.String()}, nil
}

func apply(r *Record, f fields) {
	if f.SubDomain != nil {
		r.SubDomain = *f.SubDomain
	}
	if f.Target != nil {
		r.Target = *f.Target
	}
	if f.TTL != nil {
		r.TTL = *f.TTL
	}
}

func typeOf(ip *string) *string {
	if ip == nil {
		return nil
	}
	kind := "A"
	if addr, err := netip.ParseAddr(*ip); err == nil && addr.Is6() {
		kind = "AAAA"
	}
	return &kind
}

// check refuses what OVH refuses.
func (c zoneRequest) check(r Record, id int64) *problem {
	types := "A AAAA CAA CNAME DKIM DMARC DNAME HTTPS LOC MX NAPTR NS PTR RP SPF SRV SSHFP SVCB TLSA TXT"
	if !slices.Contains(strings.Fields(types), r.Type) {
		return refuse(http.StatusBadRequest, "", "[fieldType] Given data ("+r.Type+") does not belong to the NamedResolutionFieldTypeEnum enumeration")
	}
	if r.TTL < 0 || r.TTL > 0 && r.TTL < 60 {
		return refuse(http.StatusBadRequest, "", fmt.Sprintf("[ttl] Given data (%d) is not valid: 0 or at least 60", r.TTL))
	}
	addr, err := netip.ParseAddr(r.Target)
	if r.Type == "A" && (err != nil || !addr.Is4()) || r.Type == "AAAA" && (err != nil || !addr.Is6()) {
		return refuse(http.StatusBadRequest, "", "[target] Given data ("+r.Target+") is not valid for type ip")
	}
	for _, o := range c.zone.records {
		if c.opts.DynHostAlone && id == 0 && o.DynHost && !r.DynHost && o.SubDomain == r.SubDomain && o.Type == r.Type {
			return refuse(http.StatusConflict, "", "A DynHost record stands here already")
		}
		if o.ID != id && strings.EqualFold(o.SubDomain, r.SubDomain) && (o.Type == "CNAME") != (r.Type == "CNAME") {
			return refuse(http.StatusConflict, "", "A CNAME record cannot stand beside another record")
		}
	}
	return nil
}
