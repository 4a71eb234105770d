package syncagent

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"releve/internal/plan"
	"releve/internal/tree"
)

// TestJournalCutAnywhere: an agent that is killed while it writes remembers what it had written before.
func TestJournalCutAnywhere(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	m := newMemory(record, "owner")
	known := plan.NewKnown(tree.Tree{".": {Type: tree.Dir, Ino: 1}})
	must(t, m.save(rootID{}, known))
	must(t, m.follow(known))
	var states []tree.Tree // after each change
	note := func() { states = append(states, maps.Clone(maps.Collect(known.All()))) }
	note()
	for _, p := range []string{"a", "b\n", "c"} {
		known.Set(p, tree.Entry{Type: tree.File, Size: 5, Ino: 7, Sum: [32]byte{9}})
		note()
	}
	known.Rename("a", "d")
	note()
	known.Delete("c")
	note()
	must(t, m.close())
	whole, err := os.ReadFile(record + ".journal")
	must(t, err)
	last := 0
	for cut := range len(whole) + 1 {
		must(t, os.WriteFile(record+".journal", whole[:cut], 0o600))
		got, err := newMemory(record, "owner").load()
		must(t, err)
		now := maps.Collect(got.All())
		for last+1 < len(states) && maps.Equal(now, states[last+1]) {
			last++
		}
		if !maps.Equal(now, states[last]) {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(whole), now)
		}
	}
	if last != len(states)-1 {
		t.Errorf("of %d changes, %d were found again", len(states)-1, last)
	}
}

// TestJournalGoesOn: what the next run adds is found behind what the killed one left, and not behind its last, torn, word.
func TestJournalGoesOn(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	put := func(p string) {
		m := newMemory(record, "owner")
		known, err := m.load()
		must(t, err)
		if known == nil {
			known = plan.NewKnown(nil)
		}
		must(t, m.follow(known))
		known.Expect(p, tree.Entry{Size: 1})
		known.Set(p, tree.Entry{Size: 2})
		must(t, m.close())
		f, err := os.OpenFile(record+".journal", os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString("\x40torn")
		must(t, err)
		must(t, f.Close())
	}
	put("a")
	put("b")
	known, err := newMemory(record, "owner").load()
	must(t, err)
	if known == nil || known.Len() != 2 || len(known.Expected()) != 0 {
		t.Fatalf("got %v", known)
	}
	// A journal of another record is worth nothing.
	m := newMemory(record, "owner")
	m.record = filepath.Join(t.TempDir(), "other")
	must(t, m.save(rootID{}, plan.NewKnown(tree.Tree{"z": {}})))
	must(t, os.Rename(m.record, record))
	if known, err = newMemory(record, "owner").load(); err != nil || known.Len() != 1 {
		t.Errorf("got %v, %v", known, err)
	}
}

func FuzzParseFrame(f *testing.F) {
	j := &journal{}
	j.note(plan.Change{Op: plan.Placed, Path: "a", Entry: tree.Entry{Type: tree.File, Size: 3}})
	j.note(plan.Change{Op: plan.Renamed, Path: "a", To: "b"})
	f.Add(j.buf)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, size := parseFrame(data); size < 0 || size > len(data) || size == 0 && c != (plan.Change{}) {
			t.Errorf("%d of %d bytes: %+v", size, len(data), c)
		}
	})
}
