package tree_test

import (
	"strings"
	"testing"
	"time"

	"releve/internal/tree"
)

func TestParseFilterRefuses(t *testing.T) {
	for pattern, want := range map[string]string{"": "empty", "- ": "empty", "+ ": "empty", "a\x00b": "zero byte"} {
		if _, err := tree.ParseFilter([]string{"good", pattern}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func TestPrunes(t *testing.T) {
	f, err := tree.ParseFilter([]string{"+ /cache/keep", "/cache/", "*.swp", "file/"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		".": false, "cache": true, "cache/keep": true, "cache/a/b": true, "a/cache/b": false, "a/b.swp": true, "a.swp/b": true,
		"file": false, "file/x": true, "a/.releve-x/b": true,
	} {
		if got := f.Prunes(path, false); got != want && path != "cache" {
			t.Errorf("Prunes(%q) = %v", path, got)
		}
	}
	if !f.Prunes("cache", true) || f.Prunes("cache", false) {
		t.Error("a trailing slash means directories")
	}
}

// FuzzFilter: whatever stands in the configuration and in the folder, an answer comes, and soon.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"*.swp", "/cache/", "a/**/b", "[[:alpha:]-]*", "[", `\`, "***", "[a-", "[]", "[!", "[[:", "**/", strings.Repeat("*a", 50)} {
		f.Add(seed, "a/b/c", strings.Repeat("a", 100))
	}
	f.Fuzz(func(t *testing.T, pattern, dir, name string) {
		filter, err := tree.ParseFilter([]string{pattern})
		if err != nil {
			return
		}
		start := time.Now()
		path := dir + "/" + name
		if filter.Excluded(path, false) && !filter.Prunes(path, false) {
			t.Error("Prunes contradicts Excluded")
		}
		if limit := time.Second; len(pattern)*len(path) < 1e6 && time.Since(start) > limit {
			t.Errorf("took more than %v", limit)
		}
	})
}
