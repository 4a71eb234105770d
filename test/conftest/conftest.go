// Package conftest holds the tests that every configuration of ours must pass: each rule has a file that breaks it
// and the exact sentence that it gets, and the sample for the owner knows every key and loads.
package conftest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"releve/internal/strictconf"
)

// mark begins the first lines of a bad file, one for each complaint: "#! LINE: KEY: sentence". A sentence that
// ends in "…" is another package's from there on.
const mark = "#! "

// BadFiles loads each testdata/bad-*.toml, and wants exactly the complaints that it announces. Then it looks at
// every complaint that the package's config*.go can make, and wants a bad file for each.
func BadFiles(t *testing.T, load func(path string) error) {
	t.Helper()
	files, err := filepath.Glob("testdata/bad-*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	var sentences []string
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				problem, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), mark)
				if !ok {
					break
				}
				want = append(want, file+":"+problem)
				sentences = append(sentences, problem)
			}
			got := strings.Split(fmt.Sprint(load(file)), "\n")
			if !slices.EqualFunc(got, want, says) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
	for _, format := range complaints(t) {
		re := regexp.MustCompile(": " + regexp.MustCompile(`%[a-z]`).ReplaceAllLiteralString(regexp.QuoteMeta(format), ".*") + "$")
		if !slices.ContainsFunc(sentences, re.MatchString) {
			t.Errorf("no bad file breaks the rule with the sentence %q", format)
		}
	}
}

func says(got, want string) bool {
	begin, isBegin := strings.CutSuffix(want, "…")
	return got == want || isBegin && strings.HasPrefix(got, begin) && len(got) > len(begin)
}

// complaints are the formats in the calls of Complain and complain in config*.go.
func complaints(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("config*.go")
	if err != nil {
		t.Fatal(err)
	}
	var formats []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			format, isText := call.Args[1].(*ast.BasicLit)
			if !strings.EqualFold(name, "complain") || !isText {
				return true
			}
			text, err := strconv.Unquote(format.Value)
			if err != nil {
				t.Fatal(err)
			}
			if text != "%v" { // the sentence of somebody else
				formats = append(formats, text)
			}
			return true
		})
	}
	return formats
}

// etc is where samples keep keys and secrets.
const etc = "/etc/releve/"

// Copy makes a copy of the config file at path in which everything below /etc/releve lies elsewhere, and is there.
// It gives the copy's path.
func Copy(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Base(path), string(text))
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir() + "/"
	for _, file := range regexp.MustCompile(etc+`[a-z0-9_]+`).FindAllString(text, -1) {
		// Fit for all that is ever read of them here: secrets, some of which are URLs.
		if err := os.WriteFile(strings.Replace(file, etc, dir, 1), []byte("https://www.example.net/swordfish\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := dir + name
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, etc, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Sample loads the sample at path as it is, then with every "#key" and "#[table]" of it put to use, and wants
// every key that the struct file knows to stand in it.
func Sample(t *testing.T, path string, file any, load func(path string) error) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	full := regexp.MustCompile(`(?m)^#([a-z0-9_]+ *=|\[)`).ReplaceAllString(string(text), "$1")
	for name, text := range map[string]string{"as it is": string(text), "with everything": full} {
		t.Run(name, func(t *testing.T) {
			if err := load(write(t, filepath.Base(path), text)); err != nil {
				t.Error(err)
			}
		})
	}
	var given map[string]any
	md, err := toml.Decode(full, &given)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, key := range md.Keys() {
		keys = append(keys, strings.TrimSuffix(key.String(), "_file"))
	}
	for _, key := range strictconf.Keys(file) {
		if !slices.Contains(keys, strings.TrimSuffix(key, "_file")) {
			t.Errorf("%s: the sample does not show %s", path, key)
		}
	}
}
