package arch

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestMetricsAreListed: docs/metrics.md has each metric that the code can show, and no other.
func TestMetricsAreListed(t *testing.T) {
	shown, listed := map[string]bool{}, map[string]bool{}
	for _, dir := range []string{"syncagent", "watchdog", "notify"} {
		files, err := filepath.Glob("../../internal/" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			find(t, file, `(?:Gauge|Counter|Bool)\("((?:syncagent|watchdog)_[a-z_0-9]+)"`, shown)
		}
	}
	find(t, "../../docs/metrics.md", "(?m)^\\| `([a-z_0-9]+)`", listed)
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		if !listed[name] {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !shown[name] {
			t.Errorf("docs/metrics.md lists %s, which nothing shows", name)
		}
	}
}

func find(t *testing.T, file, pattern string, into map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		into[string(m[1])] = true
	}
}
