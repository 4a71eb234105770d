// Package plan decides what has to be done so that a replica equals its source, and refuses what looks suspicious.
// It is pure: trees in, an ordered plan out; no file, no network, no clock.
//
// A plan is carried out in the order of its fields: everything is uploaded under temporary names first, then all
// of it is put in place, then what is gone is deleted. So a deploy of many files flips in one flight, and at no
// instant does a path of the replica hold anything but a complete old or a complete new version.
package plan

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"releve/internal/tree"
)

// Plan is the ordered work that makes the replica equal the source.
type Plan struct {
	// Dirs are new directories that are made in place; Moves are renames on the far side: what lies at From is what
	// the source now has at To. A directory may be made inside a moved one, and something moved into a new one: they
	// are carried out together, in the order of [Plan.Arrangement].
	Dirs  []Put
	Moves []Move
	// Stages are new directories that are built whole under a temporary name and renamed into place once.
	Stages []Stage
	// Files are files to upload, each once, whatever the number of its names.
	Files []Put
	// Links are symbolic links to make.
	Links []Put
	// Deletes are the topmost paths that are gone from the source.
	Deletes []Delete
	// Attrs are entries whose mode or times alone differ, or which are directories that the work above touches.
	// Deepest first, so that setting a directory's time is the last thing that happens in it.
	Attrs []Put

	// Adopt lists paths that are equal but were known by a listing only: the source's identity may be taken over.
	Adopt []string
	// Skipped counts sockets, FIFOs and devices, which are never replicated.
	Skipped int
	// Apart counts the names that are hard links at the source and files of their own on the replica, see [Scope].
	Apart int
}

// Put places one entry.
type Put struct {
	Path  string
	Entry tree.Entry
	// Old says what lies at Path on the replica.
	Old Old
	// Cleared is the number of entries of the replica that give way when Old is Other.
	Cleared int
	// Sum, when not zero, is the sha256 of what the replica holds there, and the source's size is unchanged: if
	// the source still hashes to it, only mode and times need to be set.
	Sum [32]byte

	// Also are further names of a file, each of which becomes a hard link to it.
	Also []Put
	// Current: what the replica holds there is as it shall be. A file that is so lacks further names only; one of Also is
	// a file of its own yet.
	Current bool
	// Joined, of one of Also: the replica has it as a name of the same file already, whatever that holds.
	Joined bool
}

// Old is what a Put finds at its path.
type Old uint8

const (
	// Absent: nothing lies there.
	Absent Old = iota
	// Same: an entry of the same type lies there; a rename replaces it atomically.
	Same
	// Other: an entry of another type lies there, which has to be moved out of the way first.
	Other
)

// Move is a rename on the replica.
type Move struct {
	From, To string
	Entry    tree.Entry
	// Copy asks for a hard link in place of the rename: the source has a new file at From, which replaces the old
	// one there later; until then visitors shall still find it.
	Copy bool
}

// Stage is a new directory that is built under a temporary name.
type Stage struct {
	// Top is the directory itself; Top.Old may be Other.
	Top Put
	// Below holds everything in it, parents first.
	Below []Put
}

// Delete is a path that is gone from the source, with everything below it.
type Delete struct {
	Path string
	// Count is the number of entries at and below Path.
	Count int
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool {
	return len(p.Dirs)+len(p.Moves)+len(p.Stages)+len(p.Files)+len(p.Links)+len(p.Deletes)+len(p.Attrs) == 0
}

// Arrangement yields the new directories and the moves in the order of their paths, so that a directory is there before
// something comes to lie in it. For each step one of the two is not nil.
func (p *Plan) Arrangement() iter.Seq2[*Put, *Move] {
	return func(yield func(*Put, *Move) bool) {
		dirs, moves := p.Dirs, p.Moves
		for len(dirs)+len(moves) > 0 {
			if len(moves) == 0 || len(dirs) > 0 && dirs[0].Path < moves[0].To {
				if !yield(&dirs[0], nil) {
					return
				}
				dirs = dirs[1:]
				continue
			}
			if !yield(nil, &moves[0]) {
				return
			}
			moves = moves[1:]
		}
	}
}

// Scope says which part of the two trees is compared.
type Scope struct {
	// All compares everything.
	All bool
	// Paths are compared by themselves; of a path that is gone, or is another thing now, also what lay below it.
	Paths []string
	// Subtrees are compared with everything below them.
	Subtrees []string
	// Apart makes each name of a file a file of its own: the replica cannot have hard links.
	Apart bool
}

// Diff compares the source's entries in scope with what the replica is known to hold. src must hold every entry of
// the source that is in scope, and may hold more of it; of a directory that is not [Known.SameDir], everything below.
// Neither argument is changed.
func Diff(src tree.Tree, dst *Known, scope Scope) Plan {
	src = rooted(src, dst)
	d := differ{src: src, dst: dst, gone: map[string]tree.Entry{}, moved: tree.Tree{}, left: map[string]struct{}{}}
	common := d.meet()
	if !scope.All || common < dst.Len() {
		d.findGone(scope)
	}
	d.findMoves()
	d.compare(scope.Apart)
	d.stage()
	d.deletes()
	d.attrs()
	return d.plan
}

// differ holds the working state of one Diff.
type differ struct {
	src tree.Tree
	dst *Known
	// odd are the paths of the source that are not just as they were: all others need no further look, wherever
	// something moves.
	odd []string
	// gone are the replica's entries in scope that the source has no more, or has as another type.
	gone map[string]tree.Entry
	// moved is what the planned moves put where; left is what they take away.
	moved tree.Tree
	left  map[string]struct{}

	fresh map[string]*Put // new entries, by path
	attr  map[string]Put
	plan  Plan
}

// want returns what the replica shall hold at p: what the source has there, unless that is a special file.
func (d *differ) want(p string) (tree.Entry, bool) {
	s, ok := d.src[p]
	return s, ok && s.Type != tree.Other
}

// at returns what the replica holds at p once the moves are done.
func (d *differ) at(p string) (tree.Entry, bool) {
	if e, ok := d.moved[p]; ok {
		return e, true
	}
	if _, ok := d.left[p]; ok {
		return tree.Entry{}, false
	}
	return d.dst.Get(p)
}

// meet finds what is odd, and returns how many entries are on both sides, of the same type.
func (d *differ) meet() (common int) {
	for p, s := range d.src {
		old, there := d.dst.Get(p)
		if there && s.Type == old.Type {
			common++
		}
		if !there || !asItWas(s, old) {
			d.odd = append(d.odd, p)
		}
	}
	return common
}

// asItWas reports whether the replica's entry was made from this very source entry, of one name, and nothing has happened
// to it since.
func asItWas(s, old tree.Entry) bool {
	if !tree.Equal(s, old) || s.Ino != old.Ino || s.Dev != old.Dev || s.CTime != old.CTime || s.MTime != old.MTime || s.Type == tree.Other {
		return false
	}
	return s.Type != tree.File || s.Nlink <= 1 && s.Ino != 0
}

// findGone fills d.gone.
func (d *differ) findGone(scope Scope) {
	check := func(p string, e tree.Entry) {
		if s, ok := d.want(p); !ok || s.Type != e.Type {
			d.gone[p] = e
		}
	}
	if scope.All {
		for p, e := range d.dst.All() {
			check(p, e)
		}
	}
	for _, s := range scope.Subtrees {
		for p, e := range d.dst.Below(s) {
			check(p, e)
		}
	}
	for _, p := range scope.Paths {
		e, ok := d.dst.Get(p)
		if !ok {
			continue
		}
		if s, ok := d.want(p); ok && s.Type == e.Type && (s.Type != tree.Dir || d.dst.SameDir(p, s)) {
			continue
		}
		for q, e := range d.dst.Below(p) {
			check(q, e)
		}
	}
}

// compare sorts the source's entries into new ones and changed ones.
func (d *differ) compare(apart bool) {
	d.fresh, d.attr = map[string]*Put{}, map[string]Put{}
	several := map[inode][]string{}
	for _, p := range d.odd {
		switch s := d.src[p]; {
		case s.Type == tree.Other:
			d.plan.Skipped++
		case s.Type == tree.File && s.Nlink > 1 && s.Ino != 0:
			id := inode{s.Dev, s.Ino}
			several[id] = append(several[id], p)
		default:
			d.compareOne(p)
		}
	}
	for _, names := range several {
		switch {
		case len(names) == 1: // the others are none of ours
			d.compareOne(names[0])
		case apart:
			d.plan.Apart += len(names)
			for _, p := range names {
				d.compareOne(p)
			}
		default:
			d.compareNames(names)
		}
	}
}

func (d *differ) compareOne(p string) {
	s := d.src[p]
	switch old, there := d.at(p); {
	case !there:
		d.fresh[p] = &Put{Path: p, Entry: s, Old: d.oldAt(p)}
	case old.Type != s.Type:
		d.fresh[p] = &Put{Path: p, Entry: s, Old: Other, Cleared: d.count(p)}
	default:
		d.compareSame(p, s, old)
	}
}

// oldAt says what a new entry finds at its path: a file that was moved away by hard link still lies there.
func (d *differ) oldAt(p string) Old {
	if _, ok := d.left[p]; !ok {
		return Absent
	}
	if e, ok := d.dst.Get(p); ok && e.Type == tree.File && d.src[p].Type == tree.File {
		return Same
	}
	return Absent
}

// count returns how many entries lie at and below p once the moves are done.
func (d *differ) count(p string) int {
	n := 0
	for q := range d.dst.Below(p) {
		if _, left := d.left[q]; !left {
			n++
		}
	}
	for q := range d.moved {
		if _, inPlace := d.dst.Get(q); tree.Within(q, p) && !inPlace {
			n++
		}
	}
	return n
}

// compareSame compares two entries of the same type.
func (d *differ) compareSame(p string, s, old tree.Entry) {
	put := Put{Path: p, Entry: s, Old: Same}
	switch s.Type {
	case tree.File:
		if !sameContent(s, old) {
			put.Sum = reusable(s, old)
			d.plan.Files = append(d.plan.Files, put)
			return
		}
	case tree.Link:
		if s.Link != old.Link {
			d.plan.Links = append(d.plan.Links, put)
			return
		}
	}
	d.compareAttrs(p, s, old)
}

// compareAttrs compares two entries of the same type and content.
func (d *differ) compareAttrs(p string, s, old tree.Entry) {
	if !tree.Equal(s, old) {
		s.Sum, s.Shared = old.Sum, old.Shared
		d.attr[p] = Put{Path: p, Entry: s, Old: Same}
		return
	}
	if s.Ino != old.Ino || s.CTime != old.CTime || s.MTime != old.MTime || s.Dev != old.Dev {
		d.plan.Adopt = append(d.plan.Adopt, p)
	}
}

// sameContent reports whether the replica's file was made from this very source file and nothing has happened to
// it since. Where the agent knows the identity of what it pushed, any later change shows in the change time, which
// no program can set. Where only a listing is known, size and whole-second mtime decide, as rsync's quick check does.
func sameContent(s, old tree.Entry) bool {
	if s.Size != old.Size {
		return false
	}
	if old.Ino == 0 {
		return old.CTime != doubtful && seconds(s.MTime) == seconds(old.MTime)
	}
	if s.MTime != old.MTime || s.Ino != old.Ino || s.Dev != old.Dev {
		return false
	}
	// Another name changes the change time as well.
	return s.CTime == old.CTime || s.Nlink != old.Nlink && s.Size > believed && old.CTime > 0
}

// reusable is the sum of what the replica holds of a file, if it may be kept: where the file has become another one, what
// it shares with other names there must not go on being shared.
func reusable(s, old tree.Entry) [32]byte {
	if s.Size != old.Size || old.Shared != 0 && (s.Ino != old.Ino || s.Dev != old.Dev) {
		return [32]byte{}
	}
	return old.Sum
}

// seconds is a time as SFTP v3 can carry it.
func seconds(ns int64) int64 {
	s := ns / 1e9
	if ns%1e9 < 0 {
		s--
	}
	return s
}

// deletes keeps of the gone entries those that nothing replaces and whose parent is not gone itself.
func (d *differ) deletes() {
	count := map[string]int{}
	for p := range d.gone {
		if _, left := d.left[p]; left {
			continue
		}
		if p == "." {
			continue // the root is the guard's business, never a deletion
		}
		if top, ok := d.topmost(p); ok {
			count[top]++
		}
	}
	for p := range d.moved {
		if _, ok := d.want(p); !ok { // moved along with its directory, then deleted there
			if top, ok := d.topmostMoved(p); ok {
				count[top]++
			}
		}
	}
	for p, n := range count {
		d.plan.Deletes = append(d.plan.Deletes, Delete{Path: p, Count: n})
	}
	slices.SortFunc(d.plan.Deletes, func(a, b Delete) int { return cmp.Compare(b.Path, a.Path) })
}

// topmost returns the highest gone path above p, and false if what replaces that path also clears p away.
func (d *differ) topmost(p string) (string, bool) {
	top := p
	for q := p; q != "."; q = tree.Parent(q) {
		if e, ok := d.gone[q]; ok {
			if _, left := d.left[q]; left {
				return top, true
			}
			if s, ok := d.want(q); ok && s.Type != e.Type {
				return "", false // cleared by the Put of another type
			}
			top = q
		}
	}
	return top, true
}

// topmostMoved is topmost for what a move has brought along.
func (d *differ) topmostMoved(p string) (string, bool) {
	top := p
	for q := tree.Parent(p); q != "."; q = tree.Parent(q) {
		e, ok := d.moved[q]
		if !ok {
			break
		}
		s, there := d.want(q)
		if !there {
			top = q
		} else if s.Type != e.Type {
			return "", false
		}
	}
	return top, true
}

// attrs collects the attribute changes: those found, and those of every directory that the work touches, because
// putting a file into a directory changes the directory's mtime.
func (d *differ) attrs() {
	touch := func(dir string) {
		if _, done := d.attr[dir]; done {
			return
		}
		if _, fresh := d.fresh[dir]; fresh {
			return // its own Put or Stage sets its attributes last
		}
		e, ok := d.want(dir)
		if !ok {
			if e, ok = d.at(dir); !ok {
				return
			}
		}
		d.attr[dir] = Put{Path: dir, Entry: e, Old: Same}
	}
	for dir := range d.plan.Touched() {
		touch(dir)
	}
	for _, put := range d.plan.Dirs { // made in place: files still come and go in them
		d.attr[put.Path] = Put{Path: put.Path, Entry: put.Entry, Old: Same}
	}
	d.plan.Attrs = make([]Put, 0, len(d.attr))
	for p, put := range d.attr {
		if !d.deleted(p) {
			d.plan.Attrs = append(d.plan.Attrs, put)
		}
	}
	slices.SortFunc(d.plan.Attrs, func(a, b Put) int {
		return cmp.Or(cmp.Compare(depth(b.Path), depth(a.Path)), cmp.Compare(a.Path, b.Path))
	})
}

// deleted reports whether p is gone from the source and leaves the replica with a delete or a move.
func (d *differ) deleted(p string) bool {
	if _, stays := d.want(p); stays {
		return false
	}
	_, gone := d.gone[p]
	_, left := d.left[p]
	return gone || left
}

func depth(p string) int {
	if p == "." {
		return -1
	}
	return strings.Count(p, "/")
}
