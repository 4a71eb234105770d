package push

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
)

// TestS1WholeWithinAClockTick: a file that is changed again within the tick of the kernel's clock in which it was changed
// last looks unchanged: same size, same times to the nanosecond. (Since Linux 6.13 some file systems tell the two apart;
// so that is played here, by looking at the file after the second change.) What was read then is no state of it, or an old
// one: it is read again before it is believed, and hashed again by the next comparison.
func TestS1WholeWithinAClockTick(t *testing.T) {
	name := filepath.Join(t.TempDir(), "page")
	old, now := strings.Repeat("a", 4096), strings.Repeat("b", 4096)
	if err := os.WriteFile(name, []byte(now), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e, err := tree.Stat(f)
	if err != nil {
		t.Fatal(err)
	}
	changed := time.Unix(0, e.CTime)
	for _, c := range []struct {
		name  string
		read  string
		at    time.Duration // of the look, after the change
		ok    bool
		ctime int64
	}{
		{"another content was read", old, time.Millisecond, false, 0},
		{"a mixture was read", old[:100] + now[100:], time.Millisecond, false, 0},
		{"it was read as it is", now, time.Millisecond, true, 0},
		{"it had rested when it was looked at", now, clockTick, true, e.CTime},
		{"the clock went backwards", old, -time.Hour, false, 0},
	} {
		for _, last := range []bool{false, true} {
			l := look{file: f, entry: e, at: changed.Add(c.at)}
			s, ok := l.prove(int64(len(c.read)), sha256.Sum256([]byte(c.read)), last)
			if ok != c.ok || ok && s.entry.CTime != c.ctime {
				t.Errorf("%s: believed %v, want %v; remembered with the change time %d, want %d", c.name, ok, c.ok, s.entry.CTime, c.ctime)
			}
		}
	}

	// What is remembered without a change time is compared by content, although size and times are equal.
	known := e
	known.CTime, known.Sum = 0, sha256.Sum256([]byte(old))
	top := tree.Entry{Type: tree.Dir, Ino: 1}
	p := plan.Diff(tree.Tree{".": top, "page": e}, plan.NewKnown(tree.Tree{".": top, "page": known}), plan.Scope{All: true})
	if len(p.Files) != 1 || p.Files[0].Sum != known.Sum {
		t.Errorf("planned %+v, want the file with the sum of what lies there", p)
	}
}
