// Package strictconf reads a TOML file into a struct and refuses whatever it does not understand.
//
// A configuration is read by a person in trouble, so it is all said at once: every unknown key, every value of the
// wrong type and every rule of the program that is broken, each with its line and its key, in the order of the
// file. Keys are compared exactly (EVERY is not every), durations need a unit, and a [Secret] is never printed by
// anything.
//
// The TOML grammar itself is left to github.com/BurntSushi/toml, which decodes into plain maps; it keeps no line
// for a key, takes any letter case for the same key and stops at the first wrong type, so the way from those maps
// into the struct is done here.
package strictconf

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds what is read of a configuration file: a path that leads to something else is not swallowed whole.
const maxFile = 1 << 20

// Problem is one complaint about a file.
type Problem struct {
	Line    int    // from 1; 0 when the file as a whole could not be read
	Key     string // such as folder[0].source; empty when it concerns the whole file
	Message string // what is wrong and what to do, without the key
}

// Error holds all that is wrong with a file, in the order of the file.
type Error struct {
	File     string
	Problems []Problem
}

// Error gives one line per problem: "FILE:LINE: KEY: sentence".
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		if p.Key != "" {
			b.WriteString(": " + p.Key)
		}
		b.WriteString(": " + p.Message)
	}
	return b.String()
}

// Doc is one parsed file. It gathers what is wrong with it, whether found here or by the program's own rules.
// It is not safe for concurrent use.
type Doc struct {
	file     string
	lines    map[string]int  // the line of each key, table and array element of the file
	broken   map[string]bool // keys whose value never reached the struct: what they lack must not be said twice
	problems []Problem
}

// Load reads the file at path and decodes it into dst, as [Parse] does.
func Load(path string, dst any) *Doc {
	text, err := readFile(path)
	if err != nil {
		d := newDoc(path)
		d.broken[""] = true
		d.problems = append(d.problems, Problem{Message: "cannot be read: " + cause(err).Error()})
		return d
	}
	return Parse(path, text, dst)
}

// Parse decodes a TOML text into dst, a pointer to a struct; name stands for the file in complaints.
//
// Fields are named by their `toml:"name"` tags; those without one are left alone. They may be strings, booleans,
// integers, floats, structs, pointers to structs (nil when the table is not in the file), slices, maps with string
// keys, a [Secret], or anything with an UnmarshalText method. An embedded struct shares the table of the struct
// around it.
//
// A struct that Parse makes (an element of an array of tables, a table behind a pointer), and dst itself, gets its
// defaults first, if it has a SetDefaults() method.
func Parse(name string, text []byte, dst any) *Doc {
	d := newDoc(name)
	raw := map[string]any{}
	if _, err := toml.Decode(string(text), &raw); err != nil {
		d.broken[""] = true
		d.problems = append(d.problems, syntaxProblem(err))
		return d
	}
	d.lines = keyLines(text)
	v := reflect.ValueOf(dst).Elem()
	setDefaults(v)
	d.table("", raw, v)
	return d
}

func newDoc(file string) *Doc {
	return &Doc{file: file, lines: map[string]int{}, broken: map[string]bool{}}
}

// Complain records that the value of key breaks a rule of the program. The key is written as in folder[0].source
// or backup[0].bastion.key, or is "" for the whole file; a key that is not in the file is complained about on the
// line of the table that lacks it. A key that was already refused here (unknown, misspelt, of the wrong type) and
// what lies below it are not complained about again.
func (d *Doc) Complain(key, format string, args ...any) {
	for k := key; ; k = parent(k) {
		if d.broken[k] {
			return
		}
		if k == "" {
			break
		}
	}
	d.problems = append(d.problems, Problem{Line: d.line(key), Key: key, Message: fmt.Sprintf(format, args...)})
}

// Has says whether key (or, for a [Secret], key_file) is given in the file.
func (d *Doc) Has(key string) bool {
	return d.lines[key] > 0 || d.lines[key+fileSuffix] > 0
}

// Err is nil when nobody complained, or else an [*Error].
func (d *Doc) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	problems := slices.Clone(d.problems)
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &Error{File: d.file, Problems: problems}
}

// refuse records that the value of key could not be taken into the struct.
func (d *Doc) refuse(key, format string, args ...any) {
	d.Complain(key, format, args...)
	d.broken[key] = true
}

// line is where key stands in the file, or else the nearest table around it.
func (d *Doc) line(key string) int {
	for ; key != ""; key = parent(key) {
		if n := cmp.Or(d.lines[key], d.lines[key+fileSuffix]); n > 0 {
			return n
		}
	}
	return 1
}

// parent is the key without its last name or index: a[0].b → a[0] → a → "".
func parent(key string) string {
	return key[:max(0, strings.LastIndexAny(key, ".["))]
}

// join is the key of name within the table called table.
func join(table, name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isBare(r) }) {
		// The marks that parent looks for must not come from a name.
		name = fmt.Sprintf("%q", strings.NewReplacer(".", "·", "[", "(").Replace(name))
	}
	if table == "" {
		return name
	}
	return table + "." + name
}

func isBare(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-'
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, errors.New("larger than 1 MiB")
	}
	return text, nil
}

// cause is err without its operation and path, which the complaint names already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
