package plan

import (
	"iter"

	"releve/internal/tree"
)

// Totals returns how many entries are put in place, and the bytes of the files among them.
func (p *Plan) Totals() (entries int, bytes int64) {
	for put := range p.puts() {
		entries++
		if put.Entry.Type == tree.File {
			bytes += put.Entry.Size
		}
	}
	for _, put := range p.Files { // one content, whatever the number of its names
		bytes -= put.Entry.Size * int64(len(put.Also))
		if put.Current {
			entries--
			bytes -= put.Entry.Size
		}
	}
	return entries, bytes
}

// Touched yields the directories in which something comes or goes, some of them more than once.
func (p *Plan) Touched() iter.Seq[string] {
	return func(yield func(string) bool) {
		var paths []string
		for _, list := range [][]Put{p.Dirs, p.Files, p.Links} {
			for _, put := range list {
				paths = append(paths, put.Names()...)
			}
		}
		for _, s := range p.Stages {
			paths = append(paths, s.Top.Path)
		}
		for _, m := range p.Moves {
			paths = append(paths, m.From, m.To)
		}
		for _, del := range p.Deletes {
			paths = append(paths, del.Path)
		}
		for _, q := range paths {
			if q != "." && !yield(tree.Parent(q)) {
				return
			}
		}
	}
}

// Clearing yields the entries that something of another type has to give way to.
func (p *Plan) Clearing() iter.Seq[Put] {
	return func(yield func(Put) bool) {
		for put := range p.puts() {
			if put.Old == Other && !yield(put) {
				return
			}
		}
	}
}

// puts yields every new or replaced entry, not those whose attributes alone change.
func (p *Plan) puts() iter.Seq[Put] {
	return func(yield func(Put) bool) {
		for _, list := range [][]Put{p.Dirs, p.Files, p.Links} {
			for _, put := range list {
				for _, put := range put.Split() {
					if !yield(put) {
						return
					}
				}
			}
		}
		for _, s := range p.Stages {
			if !yield(s.Top) {
				return
			}
			for _, put := range s.Below {
				if !yield(put) {
					return
				}
			}
		}
	}
}
