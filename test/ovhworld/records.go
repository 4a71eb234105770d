package ovhworld

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"releve/test/dnsworld"
)

// Record is one record of a zone, of either collection.
type Record struct {
	ID        int64
	SubDomain string // "" at the apex
	Type      string
	Target    string
	TTL       int64 // seconds; 0 is the zone's default
	DynHost   bool
}

func (r Record) String() string {
	s := fmt.Sprintf("%q %s %s ttl %d", r.SubDomain, r.Type, r.Target, r.TTL)
	if r.DynHost {
		s += " (DynHost)"
	}
	return s
}

type record struct {
	Record
	born time.Time
}

type zone struct {
	name        string
	ttl         int64
	nameServers []string
	serial      uint32
	changed     time.Time
	records     []*record
	published   dnsworld.Zone
	pending     []publication
}

// publication is a refresh on its way to the name servers.
type publication struct {
	at   time.Time
	zone dnsworld.Zone
}

// AddZone makes a zone with the given default TTL (seconds), name servers and
// records, already published.
func (w *World) AddZone(name string, ttl int64, nameServers []string, records ...Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	z := &zone{name: name, ttl: ttl, nameServers: nameServers, serial: 2026010100, changed: time.Now()}
	w.zones[name] = z
	for _, r := range records {
		w.add(z, r)
	}
	for _, r := range z.records {
		r.born = time.Time{} // nothing about them is fresh
	}
	z.published = z.snapshot()
}

// SetNameServers changes what a zone's name servers are called.
func (w *World) SetNameServers(zone string, nameServers ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zones[zone].nameServers = nameServers
}

// Edit replaces a zone's records as its owner does in OVH's control panel: by
// no call of ours, and with the zone published at once.
func (w *World) Edit(zone string, edit func([]Record) []Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp()
	z := w.zones[zone]
	var all []Record
	for _, r := range z.records {
		all = append(all, r.Record)
	}
	z.records = nil
	for _, r := range edit(all) {
		if r.ID == 0 {
			w.nextID++
			r.ID = w.nextID
		}
		z.records = append(z.records, &record{Record: r})
	}
	z.serial++
	z.pending = nil
	z.published = z.snapshot()
}

// Renumber gives every record a new id, as "change in text format" does.
func (w *World) Renumber(zone string) {
	w.Edit(zone, func(all []Record) []Record {
		for i := range all {
			all[i].ID = 0
		}
		return all
	})
}

// Records returns the records of a zone as the API knows them.
func (w *World) Records(zone string) []Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp()
	var all []Record
	for _, r := range w.zones[zone].records {
		all = append(all, r.Record)
	}
	return all
}

// Zones returns the zones as the name servers serve them at this moment.
func (w *World) Zones() []dnsworld.Zone {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp()
	var all []dnsworld.Zone
	for _, z := range w.zones {
		all = append(all, z.published)
	}
	return all
}

// catchUp lets happen what was due by now: late effects, and publications.
func (w *World) catchUp() {
	now := time.Now()
	var waiting []lateEffect
	for _, l := range w.late {
		if l.at.After(now) {
			waiting = append(waiting, l)
			continue
		}
		effects := l.do()
		if l.call < len(w.calls) {
			w.calls[l.call].Effects = append(w.calls[l.call].Effects, effects...)
		}
	}
	w.late = waiting
	for _, z := range w.zones {
		for len(z.pending) > 0 && !z.pending[0].at.After(now) {
			z.published, z.pending = z.pending[0].zone, z.pending[1:]
		}
	}
}

// add files a record where the options say it belongs.
func (w *World) add(z *zone, r Record) *record {
	w.nextID += 1 + w.nextID%7 // ids have gaps
	r.ID = w.nextID
	rec := &record{Record: r, born: time.Now()}
	w.file(z, rec)
	z.records = append(z.records, rec)
	return rec
}

// file settles what OVH does to a record on its own: an explicit TTL equal to
// the zone's becomes 0, and an address with TTL 60 may become a DynHost.
func (w *World) file(z *zone, r *record) {
	if r.DynHost {
		r.TTL = 60
		return
	}
	address := r.Type == "A" || r.Type == "AAAA"
	if address && w.opts.FixedTTL != 0 {
		r.TTL = w.opts.FixedTTL
	}
	if r.TTL == z.ttl {
		r.TTL = 0
	}
	if w.opts.DynHostAt60 && r.TTL == 60 && address {
		r.DynHost = true
		w.nextID += 3
		r.ID = w.nextID
	}
}

func (z *zone) find(id int64, dynHost bool) *record {
	i := slices.IndexFunc(z.records, func(r *record) bool { return r.ID == id && r.DynHost == dynHost })
	if i < 0 {
		return nil
	}
	return z.records[i]
}

func (z *zone) snapshot() dnsworld.Zone {
	s := dnsworld.Zone{Origin: z.name, Serial: z.serial, TTL: uint32(z.ttl), NameServers: slices.Clone(z.nameServers)}
	for _, r := range z.records {
		ttl := r.TTL
		if ttl == 0 {
			ttl = z.ttl
		}
		s.Records = append(s.Records, dnsworld.Record{Name: r.SubDomain, Type: r.Type, TTL: uint32(ttl), Target: r.Target})
	}
	return s
}

// publish is what a refresh does.
func (w *World) publish(z *zone) {
	z.serial++
	z.changed = time.Now()
	z.pending = append(z.pending, publication{at: time.Now().Add(w.opts.PublishDelay), zone: z.snapshot()})
}

// like matches as SQL's LIKE: "%" is any text, "_" any one character.
func like(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	if pattern[0] == '%' {
		for i := 0; i <= len(text); i++ {
			if like(pattern[1:], text[i:]) {
				return true
			}
		}
		return false
	}
	return text != "" && (pattern[0] == '_' || pattern[0] == text[0]) && like(pattern[1:], text[1:])
}

func ilike(pattern, text string) bool { return like(strings.ToLower(pattern), strings.ToLower(text)) }
