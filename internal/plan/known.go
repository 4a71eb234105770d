package plan

import (
	"iter"
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
	entries  tree.Tree
	kids     map[string]map[string]struct{}
	files    map[inode]string              // by the source file that a path was made from
	linked   map[inode]map[string]struct{} // more paths made from the same one
	expected tree.Tree
	laid     map[string]Laid
	observe  func(Change)
}

// Change is one thing said of the replica, in the order in which they were said: by repeating them on what was known
// before, what is known can be found again.
type Change struct {
	Op    ChangeOp
	Path  string
	To    string     // of Renamed and LaidBy
	Entry tree.Entry // of Placed, Sent and LaidBy
}

// ChangeOp is what a Change is.
type ChangeOp uint8

const (
	Placed  ChangeOp = iota // Set
	Removed                 // Delete
	Renamed                 // Rename
	Sent                    // Expect
	LaidBy                  // Lay
)

// Observe has f told of every change from now on.
func (k *Known) Observe(f func(Change)) { k.observe = f }

// Repeat applies a change that was observed.
func (k *Known) Repeat(c Change) {
	switch c.Op {
	case Placed:
		k.Set(c.Path, c.Entry)
	case Removed:
		k.Delete(c.Path)
	case Renamed:
		k.Rename(c.Path, c.To)
	case Sent:
		k.Expect(c.Path, c.Entry)
	case LaidBy:
		k.Lay(c.Path, Laid{c.To, c.Entry})
	}
}

func (k *Known) tell(c Change) {
	if k.observe != nil {
		k.observe(c)
	}
}

// NewKnown makes a Known of t, which it takes over. A nil tree is an empty replica.
func NewKnown(t tree.Tree) *Known {
	if t == nil {
		t = tree.Tree{}
	}
	k := &Known{entries: t, kids: map[string]map[string]struct{}{}, files: map[inode]string{}, linked: map[inode]map[string]struct{}{}, expected: tree.Tree{}, laid: map[string]Laid{}}
	for p, e := range t {
		k.link(p)
		k.index(p, e)
	}
	return k
}

// doubtful, as a change time, marks an entry of which nothing but the listing is known to be true: what was sent there
// was never confirmed, or somebody else has been there.
const doubtful = -1

// Doubt returns what a listing says of a path, without the conclusion that equal size and time mean equal content.
func Doubt(listed tree.Entry) tree.Entry {
	listed.Dev, listed.Ino, listed.CTime, listed.Sum, listed.Shared = 0, 0, doubtful, [32]byte{}, 0
	return listed
}

// Expect says that e is about to be put at p, and may lie there from now on, confirmed or not, until something else is
// said of p. No listing will tell of which other paths it is another name, so that is not expected.
func (k *Known) Expect(p string, e tree.Entry) {
	e.Shared = 0
	k.expected[p] = e
	k.tell(Change{Op: Sent, Path: p, Entry: e})
}

// Expected returns what was expected and never confirmed.
func (k *Known) Expected() tree.Tree { return k.expected }

// Laid is a file that lies whole on the replica, under a name of ours, and waits for the rest of its batch.
type Laid struct {
	At    string     // relative to the target
	Entry tree.Entry // of the source file, as it was sent
}

// Lay says that what will be put at p has been sent, and where it lies until then.
func (k *Known) Lay(p string, l Laid) {
	k.laid[p] = l
	k.tell(Change{Op: LaidBy, Path: p, To: l.At, Entry: l.Entry})
}

// Laid returns what was laid by and has not been put in its place, nor anything else since.
func (k *Known) Laid() map[string]Laid { return k.laid }

// Recall makes listed, which a listing gave, exact by what k remembers: where the listing bears out what is remembered of a
// path, or what was sent to it, that is what lies there. What fits both, or neither, is doubtful.
func (k *Known) Recall(listed tree.Tree) {
	for p, e := range listed {
		old, known := k.entries[p]
		sent, expected := k.expected[p]
		isOld, isSent := known && tree.Equal(e, old), expected && tree.Equal(e, sent)
		switch {
		case isOld && isSent && e.Type == tree.File && (old.Sum != sent.Sum || old.Sum == [32]byte{}):
			listed[p] = Doubt(e)
		case isSent:
			listed[p] = sent
		case isOld:
			listed[p] = old
		case e.Type != tree.File || !known && !expected:
		case known && !expected && old.Type == tree.File && old.Size == e.Size && old.Seconds() == e.Seconds():
			old.Mode = e.Mode // somebody changed the mode alone
			listed[p] = old
		default:
			listed[p] = Doubt(e)
		}
	}
}

// Linked yields the paths that were made from the source file s: a change through one name of a file shows under all of
// them, and only the one is reported.
func (k *Known) Linked(s tree.Entry) iter.Seq[string] {
	return func(yield func(string) bool) {
		id := inode{s.Dev, s.Ino}
		if p, ok := k.files[id]; !ok || !yield(p) {
			return
		}
		for p := range k.linked[id] {
			if !yield(p) {
				return
			}
		}
	}
}

func (k *Known) index(p string, e tree.Entry) {
	if e.Type != tree.File || e.Ino == 0 {
		return
	}
	id := inode{e.Dev, e.Ino}
	if _, taken := k.files[id]; !taken {
		k.files[id] = p
		return
	}
	if k.linked[id] == nil {
		k.linked[id] = map[string]struct{}{}
	}
	k.linked[id][p] = struct{}{}
}

func (k *Known) unindex(p string) {
	e, ok := k.entries[p]
	if !ok || e.Type != tree.File || e.Ino == 0 {
		return
	}
	id := inode{e.Dev, e.Ino}
	delete(k.linked[id], p)
	if k.files[id] == p {
		delete(k.files, id)
		for other := range k.linked[id] {
			k.files[id] = other
			delete(k.linked[id], other)
			break
		}
	}
	if len(k.linked[id]) == 0 {
		delete(k.linked, id)
	}
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
	k.set(p, e)
	k.tell(Change{Op: Placed, Path: p, Entry: e})
}

func (k *Known) set(p string, e tree.Entry) {
	if _, there := k.entries[p]; !there {
		k.link(p)
	}
	delete(k.expected, p)
	delete(k.laid, p)
	k.unindex(p)
	k.entries[p] = e
	k.index(p, e)
}

// Delete forgets p and everything below it.
func (k *Known) Delete(p string) {
	k.delete(p)
	k.tell(Change{Op: Removed, Path: p})
}

func (k *Known) delete(p string) {
	for kid := range k.kids[p] {
		k.delete(kid)
	}
	delete(k.kids, p)
	delete(k.expected, p)
	delete(k.laid, p)
	k.unindex(p)
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
	k.delete(from)
	k.delete(to)
	for p, e := range moved {
		k.set(p, e)
	}
	k.tell(Change{Op: Renamed, Path: from, To: to})
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
	parent := tree.Parent(p)
	kids := k.kids[parent]
	if kids == nil {
		kids = map[string]struct{}{}
		k.kids[parent] = kids
	}
	kids[p] = struct{}{}
}

func (k *Known) unlink(p string) {
	parent := tree.Parent(p)
	if kids := k.kids[parent]; kids != nil {
		delete(kids, p)
		if len(kids) == 0 {
			delete(k.kids, parent)
		}
	}
}
