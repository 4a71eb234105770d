package plan

import (
	"iter"
	"path"
	"strings"

	"releve/internal/tree"
)

// Known is what the replica holds, as far as the agent knows: what a listing said, made exact by what the agent
// itself put there since. Entries that the agent pushed carry the identity (inode, nanosecond times, sum) of the
// source file they were made from; entries learnt from a listing carry none.
//
// It is a tree by path with an index of children, so that one changed directory can be compared without walking
// the whole. It is not safe for concurrent use.
type Known struct {
	entries tree.Tree
	kids    map[string]map[string]struct{}
}

// NewKnown makes a Known of t, which it takes over. A nil tree is an empty replica.
func NewKnown(t tree.Tree) *Known {
	if t == nil {
		t = tree.Tree{}
	}
	k := &Known{entries: t, kids: map[string]map[string]struct{}{}}
	for p := range t {
		k.link(p)
	}
	return k
}

// Len is the number of entries, the root included.
func (k *Known) Len() int { return len(k.entries) }

// Get returns the entry at p.
func (k *Known) Get(p string) (tree.Entry, bool) {
	e, ok := k.entries[p]
	return e, ok
}

// SameDir reports whether the source's directory s at p is the one that what is known below p was made from. If it is
// not, knowing that p is a directory still says nothing about what it holds.
func (k *Known) SameDir(p string, s tree.Entry) bool {
	e, ok := k.entries[p]
	return ok && e.Type == tree.Dir && s.Type == tree.Dir && e.Ino == s.Ino && e.Dev == s.Dev
}

// Set says that the replica holds e at p.
func (k *Known) Set(p string, e tree.Entry) {
	if _, there := k.entries[p]; !there {
		k.link(p)
	}
	k.entries[p] = e
}

// Delete forgets p and everything below it.
func (k *Known) Delete(p string) {
	for kid := range k.kids[p] {
		k.Delete(kid)
	}
	delete(k.kids, p)
	if _, there := k.entries[p]; there {
		delete(k.entries, p)
		k.unlink(p)
	}
}

// Rename moves what is known of from, and of everything below it, to the path to.
func (k *Known) Rename(from, to string) {
	moved := tree.Tree{}
	for p, e := range k.Below(from) {
		moved[to+strings.TrimPrefix(p, from)] = e
	}
	k.Delete(from)
	k.Delete(to)
	for p, e := range moved {
		k.Set(p, e)
	}
}

// Below yields the entry at p and all entries below it, parents first. The yield function must not change k.
func (k *Known) Below(p string) iter.Seq2[string, tree.Entry] {
	return func(yield func(string, tree.Entry) bool) { k.below(p, yield) }
}

func (k *Known) below(p string, yield func(string, tree.Entry) bool) bool {
	if e, ok := k.entries[p]; ok && !yield(p, e) {
		return false
	}
	for kid := range k.kids[p] {
		if !k.below(kid, yield) {
			return false
		}
	}
	return true
}

// All yields every entry, in no order. The yield function must not change k.
func (k *Known) All() iter.Seq2[string, tree.Entry] {
	return func(yield func(string, tree.Entry) bool) {
		for p, e := range k.entries {
			if !yield(p, e) {
				return
			}
		}
	}
}

func (k *Known) link(p string) {
	if p == "." {
		return
	}
	parent := path.Dir(p)
	kids := k.kids[parent]
	if kids == nil {
		kids = map[string]struct{}{}
		k.kids[parent] = kids
	}
	kids[p] = struct{}{}
}

func (k *Known) unlink(p string) {
	parent := path.Dir(p)
	if kids := k.kids[parent]; kids != nil {
		delete(kids, p)
		if len(kids) == 0 {
			delete(k.kids, parent)
		}
	}
}
