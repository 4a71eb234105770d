package tree

import "strings"

// A glob is a pattern with wildcards: a list of tokens, each of which takes one byte, or any number if it is a star.
type glob []token

type token struct {
	kind kind
	char byte       // of one
	set  *[256]bool // of class
}

type kind uint8

const (
	one      kind = iota // this byte
	any1                 // ?: any byte but a slash
	class                // [...]: one of a set, never a slash
	star                 // *: any number of bytes but slashes
	starstar             // **: any number of bytes
	never                // matches nothing: a class without end
)

func parseGlob(text string) glob {
	var g glob
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i == len(text) {
				return append(g, token{kind: never})
			}
			g = append(g, token{kind: one, char: text[i]})
		case '?':
			g = append(g, token{kind: any1})
		case '*':
			t := token{kind: star}
			for i+1 < len(text) && text[i+1] == '*' {
				t.kind = starstar
				i++
			}
			g = append(g, t)
		case '[':
			set, size := parseClass(text[i:])
			if set == nil {
				return append(g, token{kind: never})
			}
			g = append(g, token{kind: class, set: set})
			i += size - 1
		default:
			g = append(g, token{kind: one, char: text[i]})
		}
	}
	return g
}

// parseClass reads a class and its length from the start of text; nil if it does not end.
func parseClass(text string) (*[256]bool, int) {
	var set [256]bool
	i, negate := 1, false
	if i < len(text) && (text[i] == '!' || text[i] == '^') {
		negate = true
		i++
	}
	prev := -1 // the byte a range may begin with
	for first := true; ; first = false {
		if i >= len(text) {
			return nil, 0
		}
		c := text[i]
		switch {
		case c == ']' && !first:
			if negate {
				for b := range set {
					set[b] = !set[b]
				}
			}
			set['/'] = false
			return &set, i + 1
		case c == '-' && prev >= 0 && i+1 < len(text) && text[i+1] != ']':
			i++
			if text[i] == '\\' {
				if i++; i >= len(text) {
					return nil, 0
				}
			}
			for b := prev; b <= int(text[i]); b++ {
				set[b] = true
			}
			prev = -1
			i++
		case c == '[' && i+1 < len(text) && text[i+1] == ':':
			end := strings.IndexByte(text[i+2:], ']')
			if end < 0 {
				return nil, 0
			}
			name, ok := strings.CutSuffix(text[i+2:i+2+end], ":")
			if !ok { // no ":]": an ordinary bracket
				set['['] = true
				prev = '['
				i++
				continue
			}
			in := posix(name)
			if in == nil {
				return nil, 0
			}
			for b := range set {
				set[b] = set[b] || in(byte(b))
			}
			prev = -1
			i += end + 3
		default:
			if c == '\\' {
				if i++; i >= len(text) {
					return nil, 0
				}
				c = text[i]
			}
			set[c] = true
			prev = int(c)
			i++
		}
	}
}

// match reports whether g matches all of s. Only the last star and the last "**" ever need another try: both can take
// over whatever an earlier one could have taken, so that the time is at most len(g) times len(s).
func (g glob) match(s string) bool {
	type point struct{ token, text int } // where to go on after the star took one byte more
	none := point{-1, 0}
	last, lastDouble := none, none
	t, i := 0, 0
	for {
		if t < len(g) {
			switch g[t].kind {
			case star:
				t++
				last = point{t, i}
				continue
			case starstar:
				t++
				last, lastDouble = none, point{t, i}
				continue
			}
			if i < len(s) && g[t].takes(s[i]) {
				t++
				i++
				continue
			}
		} else if i == len(s) {
			return true
		}
		switch {
		case last != none && last.text < len(s) && s[last.text] != '/':
			last.text++
			t, i = last.token, last.text
		case lastDouble != none && lastDouble.text < len(s):
			lastDouble.text++
			last = none
			t, i = lastDouble.token, lastDouble.text
		default:
			return false
		}
	}
}

func (t token) takes(c byte) bool {
	switch t.kind {
	case one:
		return c == t.char
	case any1:
		return c != '/'
	case class:
		return t.set[c]
	default:
		return false
	}
}
