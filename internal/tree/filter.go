package tree

import (
	"fmt"
	"path"
	"strings"
)

// A Filter holds exclude patterns in order. The nil Filter has none.
type Filter struct{ rules []rule }

// ParseFilter reads patterns as "rsync --exclude=PATTERN …" does: "- PATTERN" or a bare PATTERN excludes, "+ PATTERN"
// includes, and a lone "!" forgets the rules before it.
func ParseFilter(patterns []string) (*Filter, error) {
	f := &Filter{}
	for _, p := range patterns {
		text, include := p, false
		switch {
		case strings.HasPrefix(p, "- "):
			text = p[2:]
		case strings.HasPrefix(p, "+ "):
			text, include = p[2:], true
		}
		if p == "!" {
			f.rules = nil
			continue
		}
		if text == "" {
			return nil, fmt.Errorf("exclude pattern %q: empty", p)
		}
		if strings.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("exclude pattern %q: zero byte", p)
		}
		f.rules = append(f.rules, parseRule(text, include))
	}
	return f, nil
}

// Excluded reports whether the first rule that matches path excludes it. It judges this path alone: what lies below an
// excluded directory is excluded with it, and is not asked about by a walk (see [Filter.Prunes]). The root itself is
// never excluded, names with [Prefix] always are.
func (f *Filter) Excluded(p string, dir bool) bool {
	if p == "." {
		return false
	}
	base := path.Base(p)
	if strings.HasPrefix(base, Prefix) {
		return true
	}
	if f == nil {
		return false
	}
	for i := range f.rules {
		if f.rules[i].matches(p, base, dir) {
			return !f.rules[i].include
		}
	}
	return false
}

// Prunes reports whether a walk would never come to path: it, or a directory above it, is excluded.
func (f *Filter) Prunes(p string, dir bool) bool {
	for i := range len(p) {
		if p[i] == '/' && f.Excluded(p[:i], true) {
			return true
		}
	}
	return f.Excluded(p, dir)
}

// A rule is one pattern, taken apart as rsync(1) describes under "PATTERN MATCHING RULES".
type rule struct {
	include bool
	dirOnly bool // ended with a slash
	base    bool // no slash and no "**": matched against the last component
	where   where
	parts   int    // of the path's end, for atEnd
	lead    bool   // begins with "**": the path is matched with a slash before it, so that "**/x" matches x
	trail   bool   // ends with "***": a directory is matched with a slash after it, so that "x/***" matches x
	literal string // the pattern, when it has no wildcards
	glob    glob
}

// where in the path a pattern may begin to match.
type where int

const (
	atStart    where = iota
	atEnd            // so that it ends with the path, counted in components
	afterSlash       // at the start and after any slash
)

func parseRule(text string, include bool) rule {
	r := rule{include: include}
	if len(text) > 1 && strings.HasSuffix(text, "/") {
		r.dirOnly = true
		text = text[:len(text)-1]
	}
	slashes := strings.Count(text, "/")
	double := strings.Contains(text, "**")
	r.lead = strings.HasPrefix(text, "**")
	r.trail = double && strings.HasSuffix(text, "***")
	r.base = slashes == 0 && !double
	anchored := strings.HasPrefix(text, "/")
	switch {
	case anchored:
		text = text[1:]
	case slashes > 0 && !double:
		r.where, r.parts = atEnd, slashes+1
	case double && !r.lead:
		r.where = afterSlash
	}
	if strings.ContainsAny(text, "*?[") {
		r.glob = parseGlob(text)
	} else {
		r.literal = text // a backslash means itself here
	}
	return r
}

func (r *rule) matches(p, base string, dir bool) bool {
	if r.dirOnly && !dir {
		return false
	}
	if r.base {
		p = base
	}
	if r.where == atEnd {
		ok := false
		if p, ok = lastParts(p, r.parts); !ok {
			return false
		}
	}
	if r.glob == nil {
		return p == r.literal
	}
	if r.lead {
		p = "/" + p
	}
	if r.trail && dir {
		p += "/"
	}
	for {
		if r.glob.match(p) {
			return true
		}
		i := strings.IndexByte(p, '/')
		if r.where != afterSlash || i < 0 {
			return false
		}
		p = p[i+1:]
	}
}

// lastParts is the last n components of p; false if it has fewer.
func lastParts(p string, n int) (string, bool) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			if n--; n == 0 {
				return p[i+1:], true
			}
		}
	}
	return p, n == 1
}
