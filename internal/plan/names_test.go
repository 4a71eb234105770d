package plan_test

import (
	"slices"
	"testing"

	"releve/internal/plan"
	"releve/internal/tree"
)

// TestNames: what is sent, linked and left alone of a file with several names.
func TestNames(t *testing.T) {
	const size = 100 << 20 // too much to be read for no reason
	file := tree.Entry{Type: tree.File, Mode: 0o644, Size: size, MTime: 5e9, CTime: 6, Dev: 1, Ino: 5, Nlink: 2, Sum: [32]byte{5}}
	with := func(change func(*tree.Entry)) tree.Entry {
		e := file
		change(&e)
		return e
	}
	shared := with(func(e *tree.Entry) { e.Shared = 7 })
	source := with(func(e *tree.Entry) { e.Sum = [32]byte{} })
	linkedSince := with(func(e *tree.Entry) { e.Sum, e.CTime, e.Nlink = [32]byte{}, 8, 3 })
	written := with(func(e *tree.Entry) { e.Sum, e.CTime, e.MTime = [32]byte{}, 8, 8e9 })
	rewritten := with(func(e *tree.Entry) { e.Sum, e.CTime = [32]byte{}, 8 }) // and given its time again
	chmod := linkedSince
	chmod.Mode = 0o600
	another := with(func(e *tree.Entry) { e.Sum, e.Ino, e.Nlink = [32]byte{}, 6, 1 })
	listed := tree.Entry{Type: tree.File, Mode: 0o644, Size: size, MTime: 5e9}
	for name, c := range map[string]struct {
		known, source tree.Tree
		apart         bool

		files, linked, joined, attrs, adopt []string
		moves                               int
	}{
		"nothing to do":             {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"a": source, "b": source}},
		"not yet linked":            {known: tree.Tree{"a": file, "b": file}, source: tree.Tree{"a": source, "b": source}, linked: []string{"b"}},
		"as listed":                 {known: tree.Tree{"a": listed, "b": listed}, source: tree.Tree{"a": source, "b": source}, linked: []string{"b"}, adopt: []string{"a"}},
		"as listed, the other":      {known: tree.Tree{"a": listed, "b": shared}, source: tree.Tree{"a": source, "b": source}, linked: []string{"a"}},
		"of another file":           {known: tree.Tree{"a": shared, "b": with(func(e *tree.Entry) { e.Shared = 8 })}, source: tree.Tree{"a": source, "b": source}, linked: []string{"b"}},
		"new":                       {source: tree.Tree{"a": source, "b": source}, files: []string{"a"}, linked: []string{"b"}},
		"another name":              {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"a": linkedSince, "b": linkedSince, "c": linkedSince}, linked: []string{"c"}, adopt: []string{"a", "b"}},
		"and another mode":          {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"a": chmod, "b": chmod}, attrs: []string{"a", "b"}},
		"written":                   {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"a": written, "b": written}, files: []string{"a"}, joined: []string{"b"}},
		"written between two looks": {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"a": rewritten, "b": source}, files: []string{"a"}, joined: []string{"b"}},
		"one replaced":              {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"a": source, "b": another}, files: []string{"b"}},
		"one moved":                 {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"b": source, "c": source}, moves: 1},
		"both moved":                {known: tree.Tree{"a": shared, "b": shared}, source: tree.Tree{"c": source, "d": source}, moves: 2},
		"apart":                     {known: tree.Tree{"a": file}, source: tree.Tree{"a": source, "b": source}, apart: true, files: []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree.Entry{Type: tree.Dir, Ino: 1}
			known, src := tree.Tree{".": root}, tree.Tree{".": root}
			for p, e := range c.known {
				known[p] = e
			}
			for p, e := range c.source {
				src[p] = e
			}
			got := plan.Diff(src, plan.NewKnown(known), plan.Scope{All: true, Apart: c.apart})
			var files, linked, joined, attrs []string
			for _, put := range got.Files {
				if !put.Current {
					files = append(files, put.Path)
				}
				if name == "one replaced" && put.Sum != [32]byte{} {
					t.Error("what lies there is shared with the other name, and would go on to be")
				}
				for _, also := range put.Also {
					if also.Joined {
						joined = append(joined, also.Path)
					} else {
						linked = append(linked, also.Path)
					}
				}
			}
			for _, put := range got.Attrs {
				if put.Entry.Type == tree.File {
					attrs = append(attrs, put.Path)
					if put.Entry.Shared != shared.Shared {
						t.Errorf("%s: it is forgotten that it is linked", put.Path)
					}
				}
			}
			slices.Sort(got.Adopt)
			if !slices.Equal(files, c.files) || !slices.Equal(linked, c.linked) || !slices.Equal(joined, c.joined) || !slices.Equal(attrs, c.attrs) ||
				!slices.Equal(got.Adopt, c.adopt) || len(got.Moves) != c.moves {
				t.Errorf("got %+v", got)
			}
			if n := got.Apart; (n > 0) != c.apart {
				t.Errorf("%d names apart", n)
			}
		})
	}
}
