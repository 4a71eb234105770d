package strictconf

import (
	"bytes"
	"strconv"

	"github.com/BurntSushi/toml"
)

// keyLines finds the line of every key, table and array element of a TOML text which the parser has already
// accepted. It trusts the parser for what is valid: on anything unexpected it stops, and the keys that follow have
// no line.
func keyLines(text []byte) map[string]int {
	s := lineScanner{
		text:   bytes.TrimPrefix(text, []byte("\ufeff")),
		line:   1,
		lines:  map[string]int{},
		arrays: map[string]int{},
	}
	s.file()
	return s.lines
}

type lineScanner struct {
	text   []byte // what is still to come
	line   int    // of text[0]
	lines  map[string]int
	arrays map[string]int // arrays of tables: how many [[headers]] so far
}

func (s *lineScanner) file() {
	table := ""
	for {
		s.blank()
		var ok bool
		switch {
		case len(s.text) == 0:
			return
		case s.take("[["):
			table, ok = s.header(true)
		case s.take("["):
			table, ok = s.header(false)
		default:
			ok = s.pair(table)
		}
		if !ok {
			return
		}
	}
}

// header reads a table name, after its opening brackets, and gives the key of the table that it opens.
func (s *lineScanner) header(array bool) (string, bool) {
	line := s.line
	names, ok := s.names()
	if !ok || !s.take("]") || array && !s.take("]") {
		return "", false
	}
	key := ""
	for i, name := range names {
		key = join(key, name)
		s.mark(key, line)
		if array && i == len(names)-1 {
			s.arrays[key]++
		}
		if n := s.arrays[key]; n > 0 {
			key = Index(key, n-1)
			s.mark(key, line)
		}
	}
	return key, true
}

// pair reads "key = value" within a table.
func (s *lineScanner) pair(table string) bool {
	line := s.line
	names, ok := s.names()
	if !ok || !s.take("=") {
		return false
	}
	for _, name := range names {
		table = join(table, name)
		s.mark(table, line)
	}
	s.space()
	return s.value(table)
}

// names reads a dotted key and the space around it.
func (s *lineScanner) names() ([]string, bool) {
	var names []string
	for {
		s.space()
		name, ok := s.name()
		if !ok {
			return nil, false
		}
		names = append(names, name)
		s.space()
		if !s.take(".") {
			return names, true
		}
	}
}

func (s *lineScanner) name() (string, bool) {
	n := 0
	for n < len(s.text) && isBare(rune(s.text[n])) {
		n++
	}
	if n > 0 {
		name := string(s.text[:n])
		s.text = s.text[n:]
		return name, true
	}
	before := s.text
	if !s.quoted() {
		return "", false
	}
	// The rules of escapes are the parser's.
	var v struct{ Name string }
	_, err := toml.Decode("Name = "+string(before[:len(before)-len(s.text)]), &v)
	return v.Name, err == nil
}

// value reads a value and marks what lies in it.
func (s *lineScanner) value(key string) bool {
	switch {
	case len(s.text) == 0:
		return false
	case s.text[0] == '"' || s.text[0] == '\'':
		return s.quoted()
	case s.take("["):
		for i := 0; ; i++ {
			s.blank()
			if s.take("]") {
				return true
			}
			element := Index(key, i)
			s.mark(element, s.line)
			if !s.value(element) {
				return false
			}
			s.blank()
			s.take(",")
		}
	case s.take("{"):
		for {
			s.blank()
			if s.take("}") {
				return true
			}
			if !s.pair(key) {
				return false
			}
			s.blank()
			s.take(",")
		}
	default:
		n := bytes.IndexAny(s.text, ",]}#\r\n")
		if n < 0 {
			n = len(s.text)
		}
		s.text = s.text[n:]
		return n > 0
	}
}

// quoted skips one of the four kinds of strings.
func (s *lineScanner) quoted() bool {
	for _, quote := range []string{`"""`, `'''`, `"`, `'`} {
		if !s.take(quote) {
			continue
		}
		for len(s.text) > 0 {
			switch {
			case quote[0] == '"' && s.text[0] == '\\':
				s.skip(min(2, len(s.text)))
			case s.take(quote):
				// Up to two more quotes belong to the content of a long string.
				for len(quote) == 3 && s.take(quote[:1]) {
				}
				return true
			default:
				s.skip(1)
			}
		}
		return false
	}
	return false
}

// blank skips space, line ends and comments.
func (s *lineScanner) blank() {
	for len(s.text) > 0 {
		switch s.text[0] {
		case ' ', '\t', '\r', '\n':
			s.skip(1)
		case '#':
			n := bytes.IndexByte(s.text, '\n')
			if n < 0 {
				n = len(s.text)
			}
			s.text = s.text[n:]
		default:
			return
		}
	}
}

func (s *lineScanner) space() {
	s.text = bytes.TrimLeft(s.text, " \t")
}

// skip passes over n bytes, counting lines.
func (s *lineScanner) skip(n int) {
	s.line += bytes.Count(s.text[:n], []byte("\n"))
	s.text = s.text[n:]
}

func (s *lineScanner) take(token string) bool {
	rest, ok := bytes.CutPrefix(s.text, []byte(token))
	s.text = rest
	return ok
}

// mark remembers the first line of a key: a table may be opened by the header of one of its own tables.
func (s *lineScanner) mark(key string, line int) {
	if s.lines[key] == 0 {
		s.lines[key] = line
	}
}

// Index is the key of element i of the array called key: folder[0].
func Index(key string, i int) string {
	return key + "[" + strconv.Itoa(i) + "]"
}
