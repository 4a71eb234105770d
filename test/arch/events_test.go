package arch

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEventsAreListedAndTold: docs/notify.md has each event that there is, and no other; and each is told somewhere, so
// that nobody waits for one that never comes.
func TestEventsAreListedAndTold(t *testing.T) {
	const declared = `(?m)^\t(Event\w+) +(?:Event +)?= "([a-z_]+)"`
	listed, known := map[string]bool{}, map[string]bool{"watchdog": true, "syncagent": true} // the tables' own names
	for _, line := range regexp.MustCompile("(?m)^\\| [^|]*`[^|]*\\|").FindAllString(read(t, "../../docs/notify.md"), -1) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(line, -1) {
			listed[m[1]] = true
		}
	}
	for _, file := range []string{"watchdog/config.go", "syncagent/config.go", "failover/failover.go"} {
		constants := regexp.MustCompile(declared).FindAllStringSubmatch(read(t, "../../internal/"+file), -1)
		if len(constants) == 0 {
			t.Errorf("no events in %s", file)
		}
		for _, m := range constants {
			known[m[2]] = true
			if !used(t, filepath.Dir("../../internal/"+file), m[1]) {
				t.Errorf("%s is told by nothing in internal/%s", m[2], filepath.Dir(file))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !listed[name] {
			t.Errorf("docs/notify.md does not list %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !known[name] {
			t.Errorf("docs/notify.md lists %s, which is no event", name)
		}
	}
}

// used reports whether a constant stands anywhere but in its declaration and in the list for the configuration.
func used(t *testing.T, dir, constant string) bool {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`\b` + constant + `\b`)
	for _, file := range files {
		if base := filepath.Base(file); base == "config.go" || strings.HasSuffix(base, "_test.go") {
			continue
		}
		n := len(word.FindAllString(read(t, file), -1))
		if filepath.Base(file) == "failover.go" {
			n-- // the declaration
		}
		if n > 0 {
			return true
		}
	}
	return false
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
