package strictconf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"releve/internal/strictconf"
)

type login struct {
	User     string            `toml:"user"`
	Password strictconf.Secret `toml:"password"`
}

type folder struct {
	Name    string              `toml:"name"`
	Every   strictconf.Duration `toml:"every"`
	Exclude []string            `toml:"exclude"`
	Limit   uint8               `toml:"limit"`
	Share   float64             `toml:"share"`
	On      bool                `toml:"on"`
	Hop     *hop                `toml:"hop"`
	Labels  map[string]string   `toml:"labels"`
}

func (f *folder) SetDefaults() { f.Every = strictconf.Duration(time.Minute) }

type hop struct {
	login
	Port int16 `toml:"port"`
}

func (h *hop) SetDefaults() { h.Port = 22 }

type file struct {
	State   string            `toml:"state_dir"`
	Folders []folder          `toml:"folder"`
	Token   strictconf.Secret `toml:"token"`
	Status  struct {
		Listen string `toml:"listen"`
	} `toml:"status"`
}

func (f *file) SetDefaults() { f.State = "/var/lib/default" }

func TestDecodes(t *testing.T) {
	var f file
	d := strictconf.Parse("x.toml", []byte(`
token = "swordfish"
[status]
listen = "127.0.0.1:1"
[[folder]]
name = "a"
exclude = ["/cache/", "*.swp"]
limit = 255
share = 2
on = true
[folder.hop]
user = "me"
password = "hunter2"
[folder.labels]
x = "y"
[[folder]]
every = "1d12h"
hop = { port = 23 }
`), &f)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	if f.State != "/var/lib/default" || f.Token.Reveal() != "swordfish" || f.Status.Listen != "127.0.0.1:1" || len(f.Folders) != 2 {
		t.Errorf("root: %+v", f)
	}
	a, b := f.Folders[0], f.Folders[1]
	if a.Name != "a" || a.Every.D() != time.Minute || len(a.Exclude) != 2 || a.Exclude[1] != "*.swp" || a.Limit != 255 || a.Share != 2 || !a.On ||
		a.Labels["x"] != "y" || a.Hop == nil || a.Hop.Port != 22 || a.Hop.User != "me" || a.Hop.Password.Reveal() != "hunter2" {
		t.Errorf("folder[0]: %+v %+v", a, a.Hop)
	}
	if b.Every.D() != 36*time.Hour || b.Hop == nil || b.Hop.Port != 23 {
		t.Errorf("folder[1]: %+v %+v", b, b.Hop)
	}
	for key, want := range map[string]bool{
		"token": true, "status": true, "folder[0].hop.user": true, "folder[1].every": true, "folder[1].hop.port": true,
		"state_dir": false, "folder[0].every": false, "folder[2]": false, "": false,
	} {
		if d.Has(key) != want {
			t.Errorf("Has(%q) = %v", key, !want)
		}
	}
}

// Each file's complaints, all of them, with their lines.
func TestComplaints(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key, other case", "[[folder]]\nname = 'a'\nEVERY = '5s'\n",
			`3: folder[0].EVERY: unknown key; did you mean "every"?`},
		{"unknown key, a slip", "[[folder]]\n[[folder]]\n\nexlcude = []\n",
			`4: folder[1].exlcude: unknown key; did you mean "exclude"?`},
		{"unknown key, a secret's file", "tokenfile = '/x'",
			`1: tokenfile: unknown key; did you mean "token_file"?`},
		{"unknown key, like nothing", "[status]\nbackground = 1",
			`2: status.background: unknown key; known here: listen`},
		{"unknown table", "\n[[foldre]]\nname = 'a'\n",
			`2: foldre: unknown key; did you mean "folder"?`},
		{"unknown key in an inline table", "folder = [ { name = 'a' },\n  { nmae = 'b' } ]",
			`2: folder[1].nmae: unknown key; did you mean "name"?`},
		{"unknown dotted key", "status.listne = ''",
			`1: status.listne: unknown key; did you mean "listen"?`},
		{"unknown quoted key", "\"li.st[1]\" = 1",
			`1: "li·st(1]": unknown key; known here: folder, state_dir, status, token, token_file`},
		{"types, all of them at once", "state_dir = 5\n[status]\nlisten = true\n[[folder]]\nname = 1.5\nevery = 5\nexclude = '*.swp'\nlimit = '3'\nshare = 'x'\non = 'yes'\nlabels = 3\nhop = 4\n",
			`1: state_dir: must be a text between quotes, not a number
3: status.listen: must be a text between quotes, not true or false
5: folder[0].name: must be a text between quotes, not a number
6: folder[0].every: 5 has no unit; write "5ms", "5s" or "5m"
7: folder[0].exclude: must be a list; put the value between brackets, [ ]
8: folder[0].limit: must be a whole number, without quotes, not a text
9: folder[0].share: must be a number, without quotes, not a text
10: folder[0].on: must be true or false, without quotes, not a text
11: folder[0].labels: must be a table, such as { name = "value" }
12: folder[0].hop: must be a table; write it under the header [folder.hop]`},
		{"element of a list", "[[folder]]\nexclude = [\n  'a', # one\n  5,\n  'b',\n  { x = 1 },\n]",
			`4: folder[0].exclude[1]: must be a text between quotes, not a number
6: folder[0].exclude[3]: must be a text between quotes, not a table`},
		{"one bracket too few", "[folder]\nname = 'a'",
			`1: folder: there may be several of these; write the header with double brackets, [[folder]]`},
		{"one bracket too many", "[[status]]\n",
			`1: status: must be a table; write it under the header [status]`},
		{"range", "[[folder]]\nlimit = 256\n[[folder]]\nlimit = -1\nshare = nan\nhop.port = 40000",
			"2: folder[0].limit: 256 is out of range\n4: folder[1].limit: -1 is out of range\n5: folder[1].share: must be a finite number\n6: folder[1].hop.port: 40000 is out of range"},
		{"durations", "[[folder]]\nevery = '5'\n[[folder]]\nevery = 'soon'\n[[folder]]\nevery = 1.5\n[[folder]]\nevery = 2026-01-01",
			`2: folder[0].every: "5" has no unit; write "5ms", "5s" or "5m"
4: folder[1].every: "soon" is not a duration; write for example "500ms", "5s", "15m", "1h30m" or "7d"
6: folder[2].every: must be a duration between quotes, such as "5s", not a number
8: folder[3].every: must be a duration between quotes, such as "5s", not a date`},
		{"secret of another type", "token = 8241973",
			`1: token: must be a text between quotes`},
		{"both secrets", "token = 'x'\ntoken_file = '/y'",
			`2: token_file: given beside token; keep one of them`},
		{"secret's file is relative", "token_file = 'swordfish'",
			`1: token_file: must be the absolute path of a file that holds the secret`},
		{"secret's file is a number", "token_file = 8",
			`1: token_file: must be the path of a file, between quotes`},
		{"syntax, no quotes", "state_dir = '/x'\n\ntoken = swordfish\n",
			`3: a value is missing, or is a text without its quotes; write key = "text"`},
		{"syntax, open string", "token = \"swordfish\n",
			`1: a text is not closed; end it with a quote on the same line`},
		{"syntax, two values", "token = \"sword\" fish\n",
			`1: something follows the value; write one key on each line, and texts between quotes`},
		{"syntax, twice", "state_dir = 'a'\n# again\nstate_dir = 'b'\n",
			`3: given twice; keep one of them. Of what there may be several, each has a header in double brackets, [[…]]`},
		{"syntax, no value", "state_dir\n",
			`1: a key must be followed by "=" and its value`},
		{"syntax, open list", "[[folder]]\nexclude = ['a'\nlimit = 3\n",
			`3: a list or table is not closed, or a comma is missing between its values`},
		{"syntax, escape", `token = "sword\fish\q"`,
			`1: a backslash starts an escape here; write \\ for a backslash, or use 'single quotes'`},
		{"syntax, huge number", "token = 123456789012345678901234567890",
			`1: this number is too large`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f file
			err := strictconf.Parse("x.toml", []byte(tc.text), &f).Err()
			var want []string
			for line := range strings.Lines(tc.want) {
				want = append(want, "x.toml:"+strings.TrimSpace(line))
			}
			if got := fmt.Sprint(err); got != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

func TestComplain(t *testing.T) {
	text := "[status]\n\n[[folder]]\nexlude = []\nlimit = 'x'\n[folder.hop]\n[[folder]]\nname = 'b'\n"
	var f file
	d := strictconf.Parse("x.toml", []byte(text), &f)
	d.Complain("folder[1].name", "is %q", "b")
	d.Complain("folder[1].hop", "is missing")        // on the line of its table
	d.Complain("folder[0].hop.user", "is missing")   // as well
	d.Complain("folder[0].exclude", "is missing")    // was misspelt
	d.Complain("folder[0].exclude[3]", "is missing") // lies in it
	d.Complain("folder[0].limit", "must be small")   // was of the wrong type
	d.Complain("", "nothing in it is good")
	want := `x.toml:1: nothing in it is good
x.toml:4: folder[0].exlude: unknown key; did you mean "exclude"?
x.toml:5: folder[0].limit: must be a whole number, without quotes, not a text
x.toml:6: folder[0].hop.user: is missing
x.toml:7: folder[1].hop: is missing
x.toml:8: folder[1].name: is "b"`
	if got := fmt.Sprint(d.Err()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	e, ok := errors.AsType[*strictconf.Error](d.Err())
	if !ok || e.File != "x.toml" || e.Problems[5] != (strictconf.Problem{Line: 8, Key: "folder[1].name", Message: `is "b"`}) {
		t.Errorf("%+v", e)
	}

	// A file that was not understood at all is not complained about by rules.
	d = strictconf.Parse("x.toml", []byte("name ="), &f)
	d.Complain("state_dir", "is missing")
	if e, ok := errors.AsType[*strictconf.Error](d.Err()); !ok || len(e.Problems) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.toml")
	var f file
	d := strictconf.Load(path, &f)
	d.Complain("state_dir", "is missing")
	if got, want := fmt.Sprint(d.Err()), path+": cannot be read: no such file or directory"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(strictconf.Load(dir, &f).Err()), dir+": cannot be read: is a directory"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write(t, path, strings.Repeat("# much\n", 1<<18), 0o644)
	if got, want := fmt.Sprint(strictconf.Load(path, &f).Err()), path+": cannot be read: larger than 1 MiB"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write(t, path, "\ufeffstate_dir = '/x'\r\n", 0o644)
	if err := strictconf.Load(path, &f).Err(); err != nil || f.State != "/x" {
		t.Errorf("%v %+v", err, f)
	}
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "good"), "swordfish \n", 0o600)
	write(t, filepath.Join(dir, "crlf"), "swordfish\r\n", 0o400)
	write(t, filepath.Join(dir, "group"), "swordfish\n", 0o640)
	write(t, filepath.Join(dir, "others"), "swordfish\n", 0o604)
	write(t, filepath.Join(dir, "empty"), "\n", 0o600)
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", 65<<10), 0o600)
	for name, want := range map[string]string{
		"good": "", "crlf": "",
		"none":   "this file cannot be opened: no such file or directory",
		"group":  "this file is open to others than its owner (mode 0640); chmod 600 it",
		"others": "this file is open to others than its owner (mode 0604); chmod 600 it",
		"empty":  "this file is empty",
		"large":  "this file is larger than 64 KiB: that is no secret",
		"fifo":   "this is not a regular file",
		".":      "this is not a regular file",
	} {
		var f file
		d := strictconf.Parse("x.toml", fmt.Appendf(nil, "\ntoken_file = '%s'\n", filepath.Join(dir, name)), &f)
		if f.Token.IsZero() { // what a program's rule would do
			d.Complain("token", "is missing")
		}
		if want != "" {
			want = "x.toml:2: token_file: " + want
		} else if f.Token.Reveal() != map[string]string{"good": "swordfish ", "crlf": "swordfish"}[name] {
			t.Errorf("%s: holds %q", name, f.Token.Reveal())
		}
		if got := d.Err(); want == "" && got != nil || want != "" && fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	type inner struct{ hidden, Seen strictconf.Secret }
	s := strictconf.NewSecret("swordfish")
	v := inner{s, s}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%20s", "%p"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", v)
		fmt.Fprintf(&out, verb+"\n", &v)
		fmt.Fprintf(&out, verb+"\n", []any{s, map[string]inner{"x": v}})
	}
	j, err := json.Marshal(map[strictconf.Secret]any{s: v})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "v", v, "p", &v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s, "v", v, "p", &v)
	for _, form := range []string{"swordfish", fmt.Sprintf("%x", "swordfish")} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%s was printed:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), "(redacted)") {
		t.Error("nothing says that something was left out")
	}
	if got := fmt.Sprintf("%v%q", strictconf.Secret{}, strictconf.Secret{}); got != "" {
		t.Errorf("the empty secret is printed as %s", got)
	}
}

func TestKeys(t *testing.T) {
	want := "state_dir folder folder.name folder.every folder.exclude folder.limit folder.share folder.on folder.hop folder.hop.user folder.hop.password folder.hop.port folder.labels token status status.listen"
	if got := strings.Join(strictconf.Keys(&file{}), " "); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
