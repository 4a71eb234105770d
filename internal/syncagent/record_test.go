package syncagent

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"releve/internal/plan"
	"releve/internal/tree"
)

func randomTree(t *rapid.T) tree.Tree {
	const modes = os.ModePerm | os.ModeSetuid | os.ModeSetgid | os.ModeSticky // that an Entry may have
	entry := rapid.Custom(func(t *rapid.T) tree.Entry {
		e := tree.Entry{
			Type: tree.Type(rapid.IntRange(0, 2).Draw(t, "type")), Size: rapid.Int64().Draw(t, "size"),
			MTime: rapid.Int64().Draw(t, "mtime"), CTime: rapid.Int64().Draw(t, "ctime"),
			Dev: rapid.Uint64().Draw(t, "dev"), Ino: rapid.Uint64().Draw(t, "ino"),
			Nlink: rapid.Uint32().Draw(t, "nlink"), Mode: os.FileMode(rapid.Uint32().Draw(t, "mode")) & modes, Link: rapid.String().Draw(t, "link"),
			Shared: rapid.Uint64().Draw(t, "shared"),
		}
		if e.Type == tree.File {
			copy(e.Sum[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sum"))
		}
		return e
	})
	path := rapid.StringMatching(`[^/.]{1,12}(/[^/.]{1,12}){0,3}`)
	return rapid.MapOfN(path, entry, 0, 8).Draw(t, "tree")
}

func TestRecordRoundTrip(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	rapid.Check(t, func(t *rapid.T) {
		want := randomTree(t)
		known := plan.NewKnown(maps.Clone(want))
		root := rootID{path: rapid.String().Draw(t, "path"), ino: rapid.Uint64().Draw(t, "ino"), born: rapid.Int64().Draw(t, "born")}
		sent := randomTree(t)
		for p, e := range sent {
			known.Expect(p, e)
			e.Shared = 0 // not to be expected
			sent[p] = e
		}
		laid := map[string]plan.Laid{}
		for p, e := range randomTree(t) {
			laid[p] = plan.Laid{At: rapid.String().Draw(t, "at"), Entry: e}
			known.Lay(p, laid[p])
		}
		if _, err := saveRecord(file, "owner", root, known); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		was, read, err := parseRecord(data, "owner")
		if err != nil {
			t.Fatal(err)
		}
		if got := maps.Collect(read.All()); !maps.Equal(got, want) || !maps.Equal(read.Expected(), known.Expected()) || !maps.Equal(read.Laid(), laid) || was != root {
			t.Fatalf("got %v, want %v", got, want)
		}
		if _, _, err := parseRecord(data, "another"); err == nil {
			t.Fatal("a record of another folder was taken")
		}
	})
}

// TestRecordDamage: a record that is cut or changed at any byte is not used, and harms nobody.
func TestRecordDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	root := rootID{path: "/srv/www", ino: 7, born: 8}
	known := plan.NewKnown(tree.Tree{".": {Type: tree.Dir}, "a": {Type: tree.File, Size: 3, Ino: 7}, "l": {Type: tree.Link, Link: "a"}})
	if _, err := saveRecord(file, "owner", root, known); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if _, _, err := parseRecord(whole[:i], "owner"); err == nil {
			t.Fatalf("cut after %d of %d bytes, and taken", i, len(whole))
		}
		bent := append([]byte(nil), whole...)
		bent[i] ^= 0x40
		if _, _, err := parseRecord(bent, "owner"); err == nil {
			t.Fatalf("byte %d changed, and taken", i)
		}
	}
	if got, err := newMemory(filepath.Join(t.TempDir(), "none"), "owner").load(); got != nil || err != nil {
		t.Errorf("no record: got %v, %v", got, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("releve record 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) { parseRecord(data, "owner") })
}

// TestRecallBelievesTheListing: what is remembered counts only where the listing bears it out.
func TestRecallBelievesTheListing(t *testing.T) {
	remembered := tree.Tree{
		"same":    {Type: tree.File, Size: 1, MTime: 5_000_000_007, Ino: 1},
		"changed": {Type: tree.File, Size: 1, MTime: 5_000_000_007, Ino: 2},
		"gone":    {Type: tree.File, Ino: 3},
	}
	listed := tree.Tree{
		"same":    {Type: tree.File, Size: 1, MTime: 5_000_000_000},
		"changed": {Type: tree.File, Size: 2, MTime: 5_000_000_000},
		"new":     {Type: tree.File},
	}
	plan.NewKnown(remembered).Recall(listed)
	if listed["same"].Ino != 1 || listed["changed"].Ino != 0 || len(listed) != 3 {
		t.Errorf("got %+v", listed)
	}
}
