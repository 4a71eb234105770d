package treecmp_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/test/treecmp"
)

func plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "d", "e"), 0o755),
		os.WriteFile(filepath.Join(dir, "d", "f\xff\n"), []byte(strings.Repeat("x", 100<<10)), 0o644),
		os.Symlink("d", filepath.Join(dir, "l")),
		os.WriteFile(filepath.Join(dir, "d", "e", "name"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "d", "e", "third"), nil, 0o644),
		os.Link(filepath.Join(dir, "d", "e", "name"), filepath.Join(dir, "d", "e", "other")),
		os.Link(filepath.Join(dir, "d", "e", "name"), filepath.Join(dir, "d", ".skip")), // as a trash does
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"d/f\xff\n", "d/e/name", "d/e/third", "d/e", "d", "."} {
		if err := os.Chtimes(filepath.Join(dir, path), time.Time{}, time.Unix(1000, 5)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCompareSeesEveryDifference(t *testing.T) {
	a := plant(t)
	file := func(dir string) string { return filepath.Join(dir, "d", "f\xff\n") }
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"none":      {func(string) error { return nil }, ""},
		"same time": {func(dir string) error { return os.Chtimes(file(dir), time.Time{}, time.Unix(1000, 9)) }, ""},
		"mtime":     {func(dir string) error { return os.Chtimes(file(dir), time.Time{}, time.Unix(1001, 0)) }, "mtime 1001, not 1000"},
		"mode":      {func(dir string) error { return os.Chmod(file(dir), 0o600) }, "mode -rw-------, not -rw-r--r--"},
		"sticky":    {func(dir string) error { return os.Chmod(filepath.Join(dir, "d"), 0o755|os.ModeSticky) }, "mode dt"},
		"size":      {func(dir string) error { return os.Truncate(file(dir), 5) }, "size 5, not 102400"},
		"byte": {func(dir string) error {
			return os.WriteFile(file(dir), []byte(strings.Repeat("x", 100<<10-1)+"y"), 0o644)
		}, "content from byte 102399 on"},
		"missing": {func(dir string) error { return os.Remove(file(dir)) }, "only in"},
		"extra":   {func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o644) }, `"new": only in`},
		"target":  {func(dir string) error { return relink(dir, "e") }, `target "e", not "d"`},
		"type": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "l"), filepath.Join(dir, "d", "e", "l"))
		}, `"l": only in`},
		"link": {func(dir string) error { return os.Remove(filepath.Join(dir, "d", "e", "name")) }, `"d/e/other": alone, not linked as ["d/e/name" "d/e/other"]`},
		"linked": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "d", "e", "third")), os.Link(filepath.Join(dir, "d", "e", "name"), filepath.Join(dir, "d", "e", "third")))
		}, `"d/e/third": linked as ["d/e/name" "d/e/other" "d/e/third"], not alone`},
		"skipped": {func(dir string) error { return os.MkdirAll(filepath.Join(dir, ".skip", "x"), 0o755) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := plant(t)
			if err := c.change(b); err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				// Only the change itself is the subject, not the times it leaves behind.
				if err := os.Chtimes(b, time.Time{}, time.Unix(1000, 0)); err != nil {
					t.Fatal(err)
				}
			}
			diffs, err := treecmp.Compare(a, b, func(name string) bool { return name == ".skip" })
			if err != nil {
				t.Fatal(err)
			}
			// The links are younger than the epoch and equal to the second or not: leave their times out.
			diffs = slices.DeleteFunc(diffs, func(d string) bool { return strings.HasPrefix(d, `"l": mtime`) && !strings.Contains(d, "target") })
			if c.want == "" && len(diffs) > 0 || c.want != "" && !strings.Contains(strings.Join(diffs, "; "), c.want) {
				t.Errorf("%q, want %q", diffs, c.want)
			}
		})
	}
	if _, err := treecmp.Compare(a, filepath.Join(a, "missing"), nil); err == nil {
		t.Error("a missing folder is no error")
	}
}

func relink(dir, target string) error {
	if err := os.Remove(filepath.Join(dir, "l")); err != nil {
		return err
	}
	return os.Symlink(target, filepath.Join(dir, "l"))
}
