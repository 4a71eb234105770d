package ovhdns

import "fmt"

// found is a record as the API shows it.
type found struct {
	id int64 // good for this reading only
	Record
}

func set(have []found) Set {
	s := make(Set, len(have))
	for i, f := range have {
		s[i] = f.Record
	}
	return s
}

type verb string

const (
	put    verb = "PUT"
	post   verb = "POST"
	remove verb = "DELETE"
)

// op is one write. Its Record is what shall stand there or, for remove, what
// stood there; id and DynHost say which record is written over or removed.
type op struct {
	verb verb
	id   int64
	Record
}

func (o op) String() string {
	switch o.verb {
	case put:
		return fmt.Sprintf("change a record to %s", o.Record)
	case post:
		return fmt.Sprintf("add %s", o.Record)
	default:
		return fmt.Sprintf("remove %s", o.Record)
	}
}

// diff returns the writes that turn have into want. Changes come first, then
// additions, then removals, so that a family that has records before and after
// has some at every step in between: someone else's refresh may publish any
// of them. A TTL equal to defaultTTL is the same as 0. Writes are few: what is
// right stays, and a record changes its TTL before it changes its address.
func diff(have []found, want Set, defaultTTL int64) []op {
	var puts, posts, removals []op
	for _, family := range []string{"A", "AAAA"} {
		left, missing := matchFamily(have, want, family, defaultTTL)
		for _, pick := range []func(f found, w Record) bool{
			func(f found, w Record) bool { return f.same(w) },
			func(found, Record) bool { return true },
		} {
			missing = deleteIf(missing, func(w Record) bool {
				for i, f := range left {
					if changeable(f, w) && pick(f, w) {
						w.DynHost = f.DynHost
						puts = append(puts, op{verb: put, id: f.id, Record: w})
						left = append(left[:i:i], left[i+1:]...)
						return true
					}
				}
				return false
			})
		}
		for _, w := range missing {
			w.DynHost = false
			posts = append(posts, op{verb: post, Record: w})
		}
		for _, f := range left {
			removals = append(removals, op{verb: remove, id: f.id, Record: f.Record})
		}
	}
	return append(append(puts, posts...), removals...)
}

// matchFamily takes away what is already right, and returns what is there
// beyond that and what is missing.
func matchFamily(have []found, want Set, family string, defaultTTL int64) (left []found, missing []Record) {
	for _, f := range have {
		if f.canonical(0).Type == family {
			left = append(left, f)
		}
	}
	for _, w := range want {
		if w.Type == family {
			missing = append(missing, w)
		}
	}
	ttl := func(t int64) int64 {
		if t == defaultTTL {
			return 0
		}
		return t
	}
	missing = deleteIf(missing, func(w Record) bool {
		for i, f := range left {
			if f.same(w) && ttl(f.TTL) == ttl(w.TTL) {
				left = append(left[:i:i], left[i+1:]...)
				return true
			}
		}
		return false
	})
	return left, missing
}

// changeable reports whether f can be changed into w in place: the TTL of a
// DynHost record is fixed.
func changeable(f found, w Record) bool { return !f.DynHost || w.TTL == dynHostTTL }

// deleteIf is slices.DeleteFunc on a copy.
func deleteIf(s []Record, del func(Record) bool) []Record {
	var kept []Record
	for _, r := range s {
		if !del(r) {
			kept = append(kept, r)
		}
	}
	return kept
}
