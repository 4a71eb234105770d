package strictconf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"releve/internal/strictconf"
)

// FuzzParse puts a secret, well written or not, behind any valid file and before anything at all, and wants
// complaints with lines that lie in the file, and never the secret.
func FuzzParse(f *testing.F) {
	const word, number = "Sw0rdfish", "91827364"
	forms := []string{
		`"` + word + `"`, `'` + word + `'`, word, `"` + word, `"""` + word + `"""`, `'''` + word, `["` + word + `"]`, `{ ` + word + ` = "` + word + `" }`,
		`"\q` + word + `"`, word + " = 1", `"x" ` + word, `"x"` + word + `"`, "-" + word, "1" + word, "2026-01-01" + word, "0x" + word, "1e" + word, "1." + word,
		`"\u` + word + `"`, `"` + word + "\x00", "\xff" + word, number + number + number, "0" + number, number + "__1", number + "-01-01", "1." + number + "e" + number, number,
		"0" + number + ".5", "0x" + number + "g", "1." + number + ".", number + "_.5", "-0x" + number,
	}
	for i := range forms {
		f.Add("[[folder]]\n", i, "\n[status]\n")
		f.Add("", i, "")
		f.Add("x.y = 1\n[folder]\n", i, "\ntoken = 5\n")
	}
	f.Add("[[folder]]\nevery = 5\nhop.port = 'x'\n", 0, "token_file = 'x'\n[folder.labels]\na = 1")
	f.Fuzz(func(t *testing.T, before string, form int, after string) {
		if strings.Contains(before, word) || strings.Contains(before, number) || strings.Contains(after, word) || strings.Contains(after, number) {
			t.Skip()
		}
		if before != "" {
			before += "\n"
		}
		var valid map[string]any
		if _, err := toml.Decode(before, &valid); err != nil {
			t.Skip() // the secret might be no value at all
		}
		text := before + "token = " + forms[uint(form)%uint(len(forms))] + after
		var dst file
		d := strictconf.Parse("x.toml", []byte(text), &dst)
		d.Complain("token", "breaks a rule: %v %+v %q", dst.Token, dst.Folders, dst.Token)
		got := fmt.Sprint(d.Err())
		if strings.Contains(got, word) || strings.Contains(got, number) {
			t.Errorf("a secret is shown:\n%s\nof\n%s", got, text)
		}
		e, ok := errors.AsType[*strictconf.Error](d.Err())
		if !ok {
			t.Fatalf("not an *Error: %v", d.Err())
		}
		for i, p := range e.Problems {
			if p.Line < 1 || p.Line > 1+strings.Count(text, "\n") || i > 0 && p.Line < e.Problems[i-1].Line {
				t.Errorf("line %d in a text of %d lines:\n%s", p.Line, 1+strings.Count(text, "\n"), got)
			}
		}
	})
}
