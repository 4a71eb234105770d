package strictconf

import (
	"errors"
	"strings"

	"github.com/BurntSushi/toml"
)

// syntaxProblem translates an error of the TOML parser. None of the parser's own words are kept: they quote the
// text they stumbled upon, and what lacks its quotes may be a password.
func syntaxProblem(err error) Problem {
	const other = "not valid TOML; the fault is on this line or just before it"
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return Problem{Line: 1, Message: other}
	}
	p := Problem{Line: max(1, pe.Position.Line), Message: other}
	for _, known := range []struct{ begins, contains, sentence string }{
		{"Key", "already", "given twice; keep one of them. Of what there may be several, each has a header in double brackets, [[…]]"},
		{"expected value", "", `a value is missing, or is a text without its quotes; write key = "text"`},
		{"expected a digit", "", `a value is missing, or is a text without its quotes; write key = "text"`},
		{"expected a top-level item to end", "", `something follows the value; write one key on each line, and texts between quotes`},
		{"strings cannot contain newlines", "", `a text is not closed; end it with a quote on the same line`},
		{"expected '.' or '='", "", `a key must be followed by "=" and its value`},
		{"unexpected EOF; expected key separator", "", `a key must be followed by "=" and its value`},
		{"unexpected EOF", "", `the file ends within a value or a table name; close its quote or bracket`},
		{"expected a comma", "", `a list or table is not closed, or a comma is missing between its values`},
		{"invalid escape", "", `a backslash starts an escape here; write \\ for a backslash, or use 'single quotes'`},
		{"", "hexadecimal digits after", `a backslash starts an escape here; write \\ for a backslash, or use 'single quotes'`},
		{"", "out of range", "this number is too large"},
		{"Invalid integer", "", "this number is not written as TOML wants it: no leading zeros, and an underscore only between digits"},
		{"invalid datetime", "", "this is no date or time; a text stands between quotes"},
		{"files cannot contain NULL", "", "the file is not UTF-8 text"},
		{"invalid UTF-8", "", "the file is not UTF-8 text"},
	} {
		if strings.HasPrefix(pe.Message, known.begins) && strings.Contains(pe.Message, known.contains) {
			p.Message = known.sentence
			break
		}
	}
	return p
}
