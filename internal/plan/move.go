package plan

import (
	"maps"
	"slices"
	"strings"

	"releve/internal/tree"
)

// believed is the size beyond which a file that was renamed is taken to be unchanged if its size and its time in
// nanoseconds are: reading it would take longer than anybody wants to wait.
const believed = 64 << 20

// inode names a source file across renames.
type inode struct{ dev, ino uint64 }

// findMoves recognises renames: an entry that is gone from one path and new at another, with the inode the agent
// knows it pushed. A directory moves with everything in it. Parents come first, so that what moved along with its
// directory is not moved twice.
func (d *differ) findMoves() {
	byInode := map[inode][]string{}
	for _, p := range slices.Sorted(maps.Keys(d.gone)) {
		if e := d.gone[p]; e.Ino != 0 && e.Type != tree.Link {
			id := inode{e.Dev, e.Ino}
			byInode[id] = append(byInode[id], p)
		}
	}
	// A file that was renamed away and written anew under its old name (log rotation) is not gone, but its inode is
	// found elsewhere: look for those too.
	for _, p := range d.odd {
		s := d.src[p]
		if old, ok := d.dst.Get(p); ok && old.Type == tree.File && s.Type == tree.File && old.Ino != 0 && old.Ino != s.Ino {
			id := inode{old.Dev, old.Ino}
			byInode[id] = append(byInode[id], p)
		}
	}
	if len(byInode) == 0 {
		return
	}
	var candidates []string
	for _, p := range d.odd {
		s := d.src[p]
		if _, known := d.dst.Get(p); known || s.Ino == 0 {
			continue
		}
		if _, ok := byInode[inode{s.Dev, s.Ino}]; ok {
			candidates = append(candidates, p)
		}
	}
	slices.Sort(candidates)
	for _, to := range candidates {
		if _, done := d.moved[to]; done {
			continue // came along with its directory
		}
		s := d.src[to]
		for _, from := range byInode[inode{s.Dev, s.Ino}] { // several, of a file with several names
			if m, ok := d.move(from, to, s); ok {
				d.plan.Moves = append(d.plan.Moves, m)
				break
			}
		}
	}
}

// move plans one rename, if it is safe.
func (d *differ) move(from, to string, s tree.Entry) (Move, bool) {
	old, ok := d.dst.Get(from)
	if !ok || old.Type != s.Type || from == "." || tree.Within(to, from) {
		return Move{}, false
	}
	if _, left := d.left[from]; left {
		return Move{}, false // moved already, with its directory
	}
	if d.underOther(to) || d.underOther(from) {
		return Move{}, false
	}
	now, stays := d.want(from)
	switch s.Type {
	case tree.File:
		if old.Size != s.Size || old.MTime != s.MTime || stays && now.Type != tree.File {
			return Move{}, false
		}
		arrived := s
		arrived.Sum, arrived.Mode, arrived.Shared = old.Sum, old.Mode, old.Shared
		if old.CTime == 0 || old.Sum != [32]byte{} && s.Size <= believed {
			// A rename changes the change time, which alone shows a change that sets the old time again: have the
			// content compared.
			arrived.CTime = 0
		}
		d.moved[to] = arrived
		d.left[from] = struct{}{}
		carried := s
		carried.Sum, carried.CTime = old.Sum, arrived.CTime
		return Move{From: from, To: to, Entry: carried, Copy: stays}, true
	case tree.Dir:
		if stays || !d.sameFolder(from, to, old, s) {
			return Move{}, false
		}
		for p, e := range d.dst.Below(from) {
			if _, left := d.left[p]; left {
				continue // moved out of the directory before
			}
			d.moved[to+strings.TrimPrefix(p, from)] = e
			d.left[p] = struct{}{}
		}
		return Move{From: from, To: to, Entry: s}, true
	}
	return Move{}, false
}

// sameFolder reports whether the directory at to is the one that was at from, rather than a new one that was given the
// number of the old one: it was not changed since, or something that was in it still is.
func (d *differ) sameFolder(from, to string, old, s tree.Entry) bool {
	if old.MTime == s.MTime {
		return true
	}
	for name, e := range d.dst.In(from) {
		now, ok := d.src[join(to, name)]
		if ok && e.Ino != 0 && now.Ino == e.Ino && now.Dev == e.Dev && now.Type == e.Type && now.MTime == e.MTime && now.Size == e.Size {
			return true
		}
	}
	return false
}

// underOther reports whether a parent of p is of another type on the replica than in the source: it is cleared
// away when its new version is put in place, and nothing is moved into or out of that.
func (d *differ) underOther(p string) bool {
	for q := tree.Parent(p); q != "."; q = tree.Parent(q) {
		old, known := d.dst.Get(q)
		if s, ok := d.want(q); ok && known && old.Type != s.Type {
			return true
		}
	}
	return false
}
