package tree_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"releve/internal/tree"
)

var rsyncTrees = flag.Int("rsync", 3, "random trees to be listed, 15 times each, by the real rsync and by us")

// rsyncLists is what the real rsync would send of dir, directories marked by a trailing slash.
func rsyncLists(t *testing.T, dir string, patterns []string) []string {
	t.Helper()
	args := []string{"-rln8", "--specials", "--out-format=%n"}
	for _, p := range patterns {
		args = append(args, "--exclude="+p)
	}
	cmd := exec.Command("rsync", append(args, dir+"/", t.TempDir()+"/")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rsync %q: %v: %s", patterns, err, &stderr)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name := strings.TrimSuffix(line, "\n"); name != "./" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// weList is the same by this package.
func weList(t *testing.T, root *tree.Root, patterns []string) []string {
	t.Helper()
	filter, err := tree.ParseFilter(patterns)
	if err != nil {
		t.Fatal(err)
	}
	got := tree.Tree{}
	problems, err := root.Scan(context.Background(), ".", filter, got)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	var names []string
	for name, e := range got {
		switch {
		case name == ".":
		case e.Type == tree.Dir:
			names = append(names, name+"/")
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func needRsync(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("rsync"); errors.Is(err, exec.ErrNotFound) {
		t.Skip("left out: comparison with the real rsync, which is not installed")
	}
}

// plant makes a small tree out of few names, so that patterns hit often.
func plant(t *testing.T, rng *rand.Rand, dir string, depth int) {
	t.Helper()
	names := []string{"a", "b", "ab", "aab", "a.b", "A1", "x y", "-", "]", "[a]", "a*", `a\b`, "**", "a-b", "^", "!", "\xff"}
	for _, i := range rng.Perm(len(names))[:3+rng.IntN(4)] {
		path := filepath.Join(dir, names[i])
		var err error
		switch {
		case depth > 0 && rng.IntN(2) == 0:
			if err = os.Mkdir(path, 0o755); err == nil {
				plant(t, rng, path, depth-1)
			}
		case rng.IntN(6) == 0:
			err = os.Symlink("a", path)
		default:
			err = os.WriteFile(path, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func randomPattern(rng *rand.Rand) string {
	pieces := []string{"a", "b", "ab", "a.b", "A1", "/", "/", "/", "*", "*", "**", "***", "?", "[ab]", "[!a]", "[^a-]",
		"[]a]", "[]-]", "[a-b]", "[[:alpha:]]", "[[:digit:]b]", "[[:nope:]]", "[a", `\*`, `\a`, `\\`, "x y", "-", "^", "!",
		"a*b", `[\]]`, `[a\-b]`, "[b-a]", "[--a]", "[[]", "[:a:]", "[[:a]", "]", "a/**/b", "**/", "/**", "\xff"}
	var b strings.Builder
	switch rng.IntN(8) {
	case 0, 1:
		b.WriteString("+ ")
	case 2:
		b.WriteString("- ")
	}
	if rng.IntN(4) == 0 {
		b.WriteString("/")
	}
	for range 1 + rng.IntN(5) {
		b.WriteString(pieces[rng.IntN(len(pieces))])
	}
	if rng.IntN(4) == 0 {
		b.WriteString("/")
	}
	return b.String()
}

// TestFilterIsRsyncs compares whole listings with the real rsync's on random trees and patterns.
func TestFilterIsRsyncs(t *testing.T) {
	t.Parallel()
	needRsync(t)
	var differs int
	for seed := range uint64(*rsyncTrees) {
		rng := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		plant(t, rng, dir, 3)
		root, err := tree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 15 {
			patterns := make([]string, 1+rng.IntN(4))
			for i := range patterns {
				patterns[i] = randomPattern(rng)
			}
			if diff := difference(rsyncLists(t, dir, patterns), weList(t, root, patterns)); diff != "" {
				t.Errorf("tree %d, patterns %q: %s", seed, patterns, diff)
				if differs++; differs > 10 {
					t.FailNow()
				}
			}
		}
	}
}

// TestFilterIsRsyncsNamed does so for the patterns that people write, and for odd ones.
func TestFilterIsRsyncsNamed(t *testing.T) {
	t.Parallel()
	needRsync(t)
	dir := t.TempDir()
	for _, path := range []string{
		"cache/x", "cache/y/z", "sub/cache/x", "foo/bar/baz", "x/foo/bar", "foo/bar2", "a.swp", "sub/b.swp", "sub/deep/c.swp",
		"wp-content/cache/f", "wp-content/uploads/2024/p.jpg", "wp-content/uploads/p.tmp", ".git/index", "sub/.git/index",
		"node_modules/m/i.js", "sub/node_modules/m/i.js", "log", "logs/log", "cache.txt", "a/b/c/d/e", "b/c", "c", "!", "- x",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("cache", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, patterns := range [][]string{
		{"/cache/", "*.swp"}, {"cache/"}, {"cache"}, {"/cache"}, {"cache/***"}, {"/cache/**"}, {"cache/**"}, {"**/cache"}, {"**cache"},
		{"foo/bar"}, {"/foo/bar"}, {"foo/*"}, {"*/bar"}, {"foo/**/baz"}, {"foo**baz"}, {"/foo/***"}, {"foo***"}, {"*"}, {"**"}, {"***"},
		{"/*"}, {"/**"}, {"*/"}, {"**/"}, {"/"}, {"//"}, {"+ */", "+ *.swp", "- *"}, {"+ /sub/", "+ /sub/**", "- *"},
		{"+ /sub/***", "- *"}, {"+ wp-content/uploads/", "- wp-content/*"}, {"- x"}, {"- - x"}, {"- !"}, {"+ !"}, {"[!]"}, {"link/"}, {"link"},
		{"cache", "!"}, {"!", "cache"}, {"cache", "!", "foo"}, {"!cache"}, {"! cache"}, {"a/b/c"}, {"b/c"}, {"c/d/e"}, {"/b/c"}, {"x/a/b/c"},
		{"node_modules"}, {".*"}, {".git/"}, {"*.[st]w[a-p]"}, {"log?"}, {"lo[!g]"}, {"-! cache"}, {"-cache"}, {"+cache"}, {"+  cache"},
		{"a/**"}, {"a/**/e"}, {"**/c/**"}, {"/**/c"}, {"b/**"}, {"**b/c"}, {"*b/c"}, {"?/c"}, {"a/*/c"}, {"a/***/e"}, {"a***"}, {"*/***"},
		{"/*/baz"}, {"/*z"}, {"/a/*e"}, {"/wp-content/*.tmp"}, {"/wp-content/**.tmp"}, {"/wp-content/*/*.tmp"}, {"/a/?/c"}, {"/a?b"}, {"/a[!x]b"},
	} {
		t.Run(fmt.Sprintf("%q", patterns), func(t *testing.T) {
			t.Parallel()
			if diff := difference(rsyncLists(t, dir, patterns), weList(t, root, patterns)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func difference(rsync, ours []string) string {
	only := map[string]string{}
	for _, n := range rsync {
		only[n] = "rsync sends it, we exclude it"
	}
	for _, n := range ours {
		if _, both := only[n]; both {
			delete(only, n)
		} else {
			only[n] = "rsync excludes it, we send it"
		}
	}
	for _, n := range slices.Sorted(maps.Keys(only)) {
		return fmt.Sprintf("%q: %s (%d such)", n, only[n], len(only))
	}
	return ""
}
