package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "releve/"

// allowed is the table of docs/architecture.md: what each package may import of this module. Data flows along a
// line, imports form a star: stages do not know each other, only the orchestrators know the stages.
var allowed = map[string][]string{
	"cmd/syncagent": {"internal/syncagent"},
	"cmd/watchdog":  {"internal/watchdog"},

	"internal/syncagent": {
		"internal/watch", "internal/tree", "internal/plan", "internal/push", "internal/pairing", "internal/notify",
		"internal/probe", "internal/report", "internal/daemon", "internal/strictconf", "pkg/sshjump", "pkg/sftpipe",
	},
	"internal/watch": {},
	"internal/tree":  {},
	"internal/plan":  {"internal/tree"},
	"internal/push":  {"internal/tree", "internal/plan", "pkg/sshjump", "pkg/sftpipe"},

	"internal/watchdog": {
		"internal/probe", "internal/failover", "internal/ovhdns", "internal/publicip", "internal/notify",
		"internal/pairing", "internal/tree", "internal/report", "internal/daemon", "internal/strictconf",
	},
	"internal/probe":    {},
	"internal/failover": {},
	"internal/ovhdns":   {},
	"internal/publicip": {},

	"internal/notify":     {"internal/strictconf"}, // for the secrets and the rules of [[notify]], which both daemons share
	"internal/pairing":    {"internal/tree"},
	"internal/report":     {},
	"internal/daemon":     {},
	"internal/strictconf": {},

	"pkg/sshjump": {},
	"pkg/sftpipe": {},
}

// source is one parsed file of the module.
type source struct {
	path string // slash-separated, from the module's root
	dir  string
	test bool
	file *ast.File
	// lines is how long the file is.
	lines int
}

func sources(t *testing.T) []source {
	t.Helper()
	const root = "../.."
	set := token.NewFileSet()
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		file, err := parser.ParseFile(set, path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{
			path:  rel,
			dir:   rel[:max(strings.LastIndexByte(rel, '/'), 0)],
			test:  strings.HasSuffix(rel, "_test.go"),
			file:  file,
			lines: set.File(file.Pos()).LineCount(),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestImports holds the product's packages to the table. Tests may import what they like of test/….
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.dir, "test/") {
			continue
		}
		may, known := allowed[s.dir]
		if !known {
			t.Errorf("%s: package %s is not in the table; add it there and to docs/architecture.md, with its reason", s.path, s.dir)
			continue
		}
		seen[s.dir] = true
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			ours, is := strings.CutPrefix(path, module)
			if is && !slices.Contains(may, ours) {
				t.Errorf("%s: imports %s, which the table does not allow", s.path, ours)
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(allowed)) {
		if !seen[dir] {
			t.Errorf("the table names %s, which does not exist", dir)
		}
	}
}

// TestPackageComments: a newcomer finds in exactly one place what a package is for.
func TestPackageComments(t *testing.T) {
	where := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if _, ok := where[s.dir]; !ok {
			where[s.dir] = nil
		}
		if s.file.Doc != nil {
			where[s.dir] = append(where[s.dir], s.path)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(where)) {
		if n := len(where[dir]); n != 1 {
			t.Errorf("%s has %d package comments %v, want exactly one", dir, n, where[dir])
		}
	}
}

// TestFileLength: a file that has stopped being easy to see is split by subject.
func TestFileLength(t *testing.T) {
	const limit = 500
	for _, s := range sources(t) {
		if s.lines > limit {
			t.Errorf("%s has %d lines, more than %d: split it by subject", s.path, s.lines, limit)
		}
	}
}
