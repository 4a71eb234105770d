package plan

import (
	"io/fs"
	"iter"
	"slices"
	"strings"

	"releve/internal/tree"
)

// store holds entries by path, in a third of the memory of a [tree.Tree]: an agent keeps what it knows of a replica for as
// long as it runs. An entry whose directory is not in the store is found by its own path alone, and by who goes through all.
type store struct {
	dirs map[string]*dir // by path; none is empty
	size int
	dev  uint64 // of most source files
}

// dir is what a directory holds.
type dir struct {
	few  []*node          // in the order of their names
	many map[string]*node // in their place, where they are too many for that
}

// fewNodes is how many a directory holds in order: putting one among so many costs less than a look-up does elsewhere.
const fewNodes = 512

// node is an entry by its name in a directory. Few are like it: there is one for each entry of the replica.
type node struct {
	name               string
	size, mtime, ctime int64
	ino                uint64
	sum                [32]byte
	mode               fs.FileMode // with the bit of its type
	nlink              uint32
	rare               *rare // nil, for nearly all
}

// rare is what most entries do not have.
type rare struct {
	dev, shared uint64
	link        string
}

// typeBits say the type in a mode; a file has none of them.
var typeBits = [...]fs.FileMode{tree.File: 0, tree.Dir: fs.ModeDir, tree.Link: fs.ModeSymlink, tree.Other: fs.ModeIrregular}

const anyType = fs.ModeDir | fs.ModeSymlink | fs.ModeIrregular

func newStore() store { return store{dirs: map[string]*dir{}} }

func (s *store) get(p string) (tree.Entry, bool) {
	n := s.find(p)
	if n == nil {
		return tree.Entry{}, false
	}
	return s.entry(n), true
}

func (s *store) find(p string) *node {
	parent, name := tree.Split(p)
	d := s.dirs[parent]
	if d == nil {
		return nil
	}
	return d.find(name)
}

// set puts e at p.
func (s *store) set(p string, e tree.Entry) {
	parent, name := tree.Split(p)
	d := s.dirs[parent]
	if d == nil {
		d = &dir{}
		s.dirs[strings.Clone(parent)] = d
	}
	n := d.find(name)
	if n == nil {
		n = &node{name: strings.Clone(name)} // or it would keep all of p
		d.add(n)
		s.size++
	}
	s.fill(n, e)
}

// fill makes e the entry of n.
func (s *store) fill(n *node, e tree.Entry) {
	n.size, n.mtime, n.ctime, n.ino, n.sum, n.nlink = e.Size, e.MTime, e.CTime, e.Ino, e.Sum, e.Nlink
	n.mode, n.rare = e.Mode|typeBits[e.Type], nil
	if s.dev == 0 {
		s.dev = e.Dev
	}
	if e.Shared != 0 || e.Link != "" || e.Dev != s.usual(n) || e.Dev == 0 && e.Ino != 0 {
		n.rare = &rare{dev: e.Dev, shared: e.Shared, link: e.Link}
	}
}

// usual is the device of an entry of which nothing else is said: an entry that is known by a listing has neither device
// nor inode.
func (s *store) usual(n *node) uint64 {
	if n.ino == 0 {
		return 0
	}
	return s.dev
}

func (s *store) entry(n *node) tree.Entry {
	e := tree.Entry{Size: n.size, MTime: n.mtime, CTime: n.ctime, Dev: s.usual(n), Ino: n.ino, Sum: n.sum, Mode: n.mode &^ anyType, Nlink: n.nlink}
	switch {
	case n.mode&fs.ModeDir != 0:
		e.Type = tree.Dir
	case n.mode&fs.ModeSymlink != 0:
		e.Type = tree.Link
	case n.mode&fs.ModeIrregular != 0:
		e.Type = tree.Other
	}
	if n.rare != nil {
		e.Dev, e.Shared, e.Link = n.rare.dev, n.rare.shared, n.rare.link
	}
	return e
}

// remove takes the entry at p out, and leaves what is below it.
func (s *store) remove(p string) {
	parent, name := tree.Split(p)
	d := s.dirs[parent]
	if d == nil || !d.remove(name) {
		return
	}
	s.size--
	if d.empty() {
		delete(s.dirs, parent)
	}
}

// below yields the paths below p, parents first. The yield function may take out what it is told of.
func (s *store) below(p string, yield func(string, *node) bool) bool {
	d := s.dirs[p]
	if d == nil {
		return true
	}
	for _, n := range d.nodes() {
		if n.name == "." {
			continue // the root, which is held in itself
		}
		q := join(p, n.name)
		if !yield(q, n) || !s.below(q, yield) {
			return false
		}
	}
	return true
}

// all yields every path, in no order.
func (s *store) all() iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) {
		for p, d := range s.dirs {
			for _, n := range d.nodes() {
				if !yield(join(p, n.name), n) {
					return
				}
			}
		}
	}
}

// rename gives everything below from its place below to. Nothing may be there.
func (s *store) rename(from, to string) {
	dirs := []string{from}
	s.below(from, func(p string, _ *node) bool {
		dirs = append(dirs, p)
		return true
	})
	for _, p := range dirs {
		if d := s.dirs[p]; d != nil {
			s.dirs[to+strings.TrimPrefix(p, from)] = d
			delete(s.dirs, p)
		}
	}
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func byName(n *node, name string) int { return strings.Compare(n.name, name) }

func (d *dir) find(name string) *node {
	if d.many != nil {
		return d.many[name]
	}
	if i, ok := slices.BinarySearchFunc(d.few, name, byName); ok {
		return d.few[i]
	}
	return nil
}

// add puts a node in that is not there yet.
func (d *dir) add(n *node) {
	if d.many == nil && len(d.few) == fewNodes {
		d.many = make(map[string]*node, 2*fewNodes)
		for _, n := range d.few {
			d.many[n.name] = n
		}
		d.few = nil
	}
	if d.many != nil {
		d.many[n.name] = n
		return
	}
	i, _ := slices.BinarySearchFunc(d.few, n.name, byName)
	d.few = slices.Insert(d.few, i, n)
}

func (d *dir) remove(name string) bool {
	if d.many != nil {
		_, there := d.many[name]
		delete(d.many, name)
		return there
	}
	i, there := slices.BinarySearchFunc(d.few, name, byName)
	if there {
		d.few = slices.Delete(d.few, i, i+1)
	}
	return there
}

func (d *dir) empty() bool { return len(d.few)+len(d.many) == 0 }

// nodes are those of the directory as it is now.
func (d *dir) nodes() []*node {
	if d.many == nil {
		return slices.Clone(d.few)
	}
	all := make([]*node, 0, len(d.many))
	for _, n := range d.many {
		all = append(all, n)
	}
	return all
}
