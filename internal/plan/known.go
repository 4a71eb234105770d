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
// It is an index by directory, so that one changed directory can be compared without walking the whole. It is not safe
// for concurrent use.
type Known struct {
	entries  store
	names    *names // nil until somebody asks for the names of a file
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

// NewKnown makes a Known of what t holds. A nil tree is an empty replica.
func NewKnown(t tree.Tree) *Known {
	k := &Known{entries: newStore(), expected: tree.Tree{}, laid: map[string]Laid{}}
	for p, e := range t {
		k.entries.set(p, e)
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
		old, known := k.entries.get(p)
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

// Linked yields the paths that were made from the source file f: a change through one name of a file shows under all of
// them, and only the one is reported.
func (k *Known) Linked(f tree.Entry) iter.Seq[string] {
	if k.names == nil {
		k.names = newNames(&k.entries)
	}
	return k.names.of(f)
}

// Rest gives back what can be found again when it is needed. It is for whoever expects to wait for long.
func (k *Known) Rest() { k.names = nil }

// Len is the number of entries, the root included.
func (k *Known) Len() int { return k.entries.size }

// Get returns the entry at p.
func (k *Known) Get(p string) (tree.Entry, bool) { return k.entries.get(p) }

// SameDir reports whether the source's directory s at p is the one that what is known below p was made from. If it is
// not, knowing that p is a directory still says nothing about what it holds.
func (k *Known) SameDir(p string, s tree.Entry) bool {
	e, ok := k.entries.get(p)
	return ok && e.Type == tree.Dir && s.Type == tree.Dir && e.Ino == s.Ino && e.Dev == s.Dev
}

// Set says that the replica holds e at p.
func (k *Known) Set(p string, e tree.Entry) {
	k.unsay(p)
	k.names.drop(&k.entries, p)
	k.entries.set(p, e)
	k.names.add(p, e)
	k.tell(Change{Op: Placed, Path: p, Entry: e})
}

// Delete forgets p and everything below it.
func (k *Known) Delete(p string) {
	k.delete(p)
	k.tell(Change{Op: Removed, Path: p})
}

func (k *Known) delete(p string) {
	for _, q := range k.at(p) {
		k.unsay(q)
		k.names.drop(&k.entries, q)
		k.entries.remove(q)
	}
}

// at lists p and the paths that are known below it.
func (k *Known) at(p string) []string {
	paths := []string{p}
	k.entries.below(p, func(q string, _ *node) bool {
		paths = append(paths, q)
		return true
	})
	return paths
}

// unsay forgets that something was expected, or laid by, for p.
func (k *Known) unsay(p string) {
	delete(k.expected, p)
	delete(k.laid, p)
}

// Rename moves what is known of from, and of everything below it, to the path to.
func (k *Known) Rename(from, to string) {
	k.delete(to)
	for _, p := range k.at(from) {
		k.unsay(p)
		k.unsay(to + strings.TrimPrefix(p, from))
	}
	k.names = nil
	if e, ok := k.entries.get(from); ok {
		k.entries.remove(from)
		k.entries.set(to, e)
	}
	k.entries.rename(from, to)
	k.tell(Change{Op: Renamed, Path: from, To: to})
}

// Below yields the entry at p and all entries below it, parents first. The yield function must not change k.
func (k *Known) Below(p string) iter.Seq2[string, tree.Entry] {
	return func(yield func(string, tree.Entry) bool) {
		if e, ok := k.entries.get(p); ok && !yield(p, e) {
			return
		}
		k.entries.below(p, func(q string, n *node) bool { return yield(q, k.entries.entry(n)) })
	}
}

// In yields the names in the directory p with their entries.
func (k *Known) In(p string) iter.Seq2[string, tree.Entry] {
	return func(yield func(string, tree.Entry) bool) {
		d := k.entries.dirs[p]
		if d == nil {
			return
		}
		for _, n := range d.nodes() {
			if !yield(n.name, k.entries.entry(n)) {
				return
			}
		}
	}
}

// All yields every entry, in no order. The yield function must not change k.
func (k *Known) All() iter.Seq2[string, tree.Entry] {
	return func(yield func(string, tree.Entry) bool) {
		for p, n := range k.entries.all() {
			if !yield(p, k.entries.entry(n)) {
				return
			}
		}
	}
}

// names finds the paths of a source file, for the few that have several.
type names struct {
	first   map[inode]string              // by the source file that a path was made from
	further map[inode]map[string]struct{} // more paths made from the same one
}

func newNames(s *store) *names {
	n := &names{first: map[inode]string{}, further: map[inode]map[string]struct{}{}}
	for p, node := range s.all() {
		n.add(p, s.entry(node))
	}
	return n
}

// of yields the paths of a file.
func (n *names) of(f tree.Entry) iter.Seq[string] {
	return func(yield func(string) bool) {
		id := inode{f.Dev, f.Ino}
		if p, ok := n.first[id]; !ok || !yield(p) {
			return
		}
		for p := range n.further[id] {
			if !yield(p) {
				return
			}
		}
	}
}

// add notes that p was made from e. Like drop it does nothing while nobody has asked for names.
func (n *names) add(p string, e tree.Entry) {
	if n == nil || e.Type != tree.File || e.Ino == 0 {
		return
	}
	id := inode{e.Dev, e.Ino}
	if _, taken := n.first[id]; !taken {
		n.first[id] = p
		return
	}
	if n.further[id] == nil {
		n.further[id] = map[string]struct{}{}
	}
	n.further[id][p] = struct{}{}
}

// drop notes that what s holds at p is gone.
func (n *names) drop(s *store, p string) {
	if n == nil {
		return
	}
	e, ok := s.get(p)
	if !ok || e.Type != tree.File || e.Ino == 0 {
		return
	}
	id := inode{e.Dev, e.Ino}
	delete(n.further[id], p)
	if n.first[id] == p {
		delete(n.first, id)
		for other := range n.further[id] {
			n.first[id] = other
			delete(n.further[id], other)
			break
		}
	}
	if len(n.further[id]) == 0 {
		delete(n.further, id)
	}
}
