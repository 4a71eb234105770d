package e2e_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/test/netlab"
)

// editedPair is a pair in sync, with a few files to edit, and a function that runs a program in the webroot.
func editedPair(t *testing.T, files map[string]string, allow ...string) (*pair, func(name string, args ...string)) {
	t.Helper()
	p := newPair(t, netlab.Options{RTT: 10 * time.Millisecond})
	for name, text := range files {
		write(t, filepath.Join(p.source, name), text, 0o644)
		allow = append(allow, text)
	}
	p.readWhile(t, allow...)
	p.start(t)
	p.inSync(t, 30*time.Second)
	p.identical(t, 0)
	return p, func(name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = p.source
		cmd.Env = append(os.Environ(), "HOME="+p.dir, "GIT_CONFIG_NOSYSTEM=1", "TERM=dumb")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
}

// TestVim: what vim writes arrives, by either of its ways of saving; nothing in between does.
func TestVim(t *testing.T) {
	t.Parallel()
	need(t, "vim.tiny")
	const before = "<h1>before</h1>\n"
	after := func(n int) string { return strings.Repeat("x", n) + before }
	p, run := editedPair(t, map[string]string{"index.html": before}, after(1), after(2), after(3))
	for i, way := range []string{"auto", "yes", "no"} {
		began := time.Now()
		run("vim.tiny", "--not-a-term", "-u", "NONE", "-c", "set backupcopy="+way+" backup", "-c", "normal 0ix", "-c", "wq", "index.html")
		p.identical(t, 15*time.Second)
		text, err := os.ReadFile(filepath.Join(p.replica, "index.html"))
		if err != nil || string(text) != after(i+1) {
			t.Errorf("backupcopy=%s: %q, %v", way, text, err)
		}
		t.Logf("vim, backupcopy=%s: on the replica %v after its start", way, time.Since(began).Round(time.Millisecond))
	}
}

// TestSedAndCp: sed -i, cp over a file, cp -p, cp of a tree.
func TestSedAndCp(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	one, two := string(content(r, 0o644, 100)), string(content(r, 0o644, 300_000))
	old := "color: red\n"
	p, run := editedPair(t, map[string]string{"one": one, "two": two, "style.css": old}, strings.ReplaceAll(old, "red", "blue"))
	time2000 := time.Date(2000, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(p.source, "two"), time2000, time2000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ do, file, want string }{
		{"sed -i s/red/blue/ style.css", "style.css", "color: blue\n"},
		{"cp two one", "one", two},
		{"cp -p two three", "three", two},
		{"cp --preserve=mode one two", "two", two},
		{"mkdir -p a/b/c", "", ""},
		{"cp -a one three a/b/c", "a/b/c/three", two},
		{"cp -r a d", "d/b/c/one", two},
		{"chmod 600 three", "three", two},
		{"touch -d @1000000000 one", "one", two},
		{"mv d e", "e/b/c/one", two},
		{"ln -s e/b/c current", "current/one", two},
		{"ln -sfn a/b/c current", "current/one", two},
		{"rm -r e", "", ""},
	} {
		words := strings.Fields(c.do)
		run(words[0], words[1:]...)
		p.identical(t, 15*time.Second)
		if c.file == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(p.replica, c.file))
		if err != nil || string(text) != c.want {
			t.Errorf("%s: %d bytes, %v", c.do, len(text), err)
		}
	}
	fi, err := os.Stat(filepath.Join(p.replica, "three"))
	if err != nil || !fi.ModTime().Equal(time2000) || fi.Mode().Perm() != 0o600 {
		t.Errorf("cp -p: %v, %v, %v", fi.ModTime(), fi.Mode(), err)
	}
}
