package strictconf

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

var tomls = []string{
	"a = 1\n[b]\nc.d = 2\n\"e\\u0041\".f = 'x' # g\n[[h]]\n[[h]]\n[h.i]\nj = [\n 1, # one\n [2, '#'],\n { k = 3, l.m = 4 },\n]\n[[h.n]]\n[b.o.p]\n",
	"a = \"\"\"\nb = 1\n\\\"\"\"\"\nc = '''\n'''''\nd = '''x'''\ne = \"\\\"\"\nf = 2026-01-01 10:00:00 # x\n",
	"\ufeffa = 1\r\n[b]\r\nc = 2\r\n",
	"a = { b = [ { c = 1 }, { c = 2 } ],\n d = {} }\nx = []\n'y.z' = 1\n\"\" = 2\n",
	"[ a . b ]\n[ a . \"c[d\" ]\n e . f = 1\n[[ a.g ]]\n",
	"a = +1e5\nb = 0x1F\nc = inf\nd = 07:32:00\ne=true",
}

func TestKeyLines(t *testing.T) {
	for key, want := range map[string]int{
		"a": 1, "b": 2, "b.c": 3, "b.c.d": 3, "b.eA": 4, "b.eA.f": 4, "h": 5, "h[0]": 5, "h[1]": 6, "h[1].i": 7, "h[1].i.j": 8, "h[1].i.j[0]": 9,
		"h[1].i.j[1]": 10, "h[1].i.j[1][1]": 10, "h[1].i.j[2].k": 11, "h[1].i.j[2].l.m": 11, "h[1].n[0]": 13, "b.o": 14, "b.o.p": 14,
		"h[2]": 0, "h[0].i": 0,
	} {
		if got := keyLines([]byte(tomls[0]))[key]; got != want {
			t.Errorf("%s: line %d, want %d", key, got, want)
		}
	}
	for key, want := range map[string]int{"a": 1, "b": 0, "c": 4, "d": 6, "e": 7, "f": 8} {
		if got := keyLines([]byte(tomls[1]))[key]; got != want {
			t.Errorf("%s: line %d, want %d", key, got, want)
		}
	}
}

// FuzzKeyLines wants a line for every key of whatever the parser accepts, and on that line the key's name.
func FuzzKeyLines(f *testing.F) {
	for _, text := range tomls {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var raw map[string]any
		_, err := toml.Decode(text, &raw)
		lines := keyLines([]byte(text)) // must end, whatever the text
		if err != nil {
			return
		}
		texts := strings.Split(text, "\n")
		var walk func(key string, v any)
		table := func(key string, v map[string]any) {
			for name, inner := range v {
				k := join(key, name)
				n := lines[k]
				if n == 0 {
					t.Fatalf("%s has no line", k)
				}
				if !strings.Contains(texts[n-1], name) && !strings.ContainsAny(texts[n-1], `\"`) {
					t.Fatalf("%s is not on line %d: %s", k, n, texts[n-1])
				}
				walk(k, inner)
			}
		}
		walk = func(key string, v any) {
			switch v := v.(type) {
			case map[string]any:
				table(key, v)
			case []any:
				for i, e := range v {
					if lines[Index(key, i)] == 0 {
						t.Fatalf("%s has no line", Index(key, i))
					}
					walk(Index(key, i), e)
				}
			case []map[string]any:
				for i, e := range v {
					table(Index(key, i), e)
				}
			}
		}
		table("", raw)
	})
}
