package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// trash is where replaced and deleted content is kept: TARGET/.releve-trash/20261122T1405Z-ID/PATH. One folder a
// minute, named in UTC, so that a person finds a version by time and path, and so that of a file that changes all the
// time one version a minute is kept, not every one.
type trash struct {
	root    string
	id      string
	keep    time.Duration
	off     bool      // there is no room to keep anything
	given   time.Time // when last something was given up before its time
	minute  string
	nth     int               // of this minute's folders, more than one when names collide
	folder  string            // the present one's name
	made    map[string]bool   // directories that exist in it
	used    map[string]bool   // names that hold content
	rooted  bool              // the trash itself is there, or its making waits in mkdirs
	flushed bool              // and waits no more
	mkdirs  []sftpipe.Request // what has to be sent before the next of the requests handed out
}

const trashTime = "20060102T1504Z"

func newTrash(root, id string, keep time.Duration) *trash {
	return &trash{root: root, id: id, keep: keep, made: map[string]bool{}, used: map[string]bool{}}
}

// kept reports whether anything is kept beyond the batch that it is replaced or deleted by.
func (t *trash) kept() bool { return t.keep > 0 && !t.off }

// begin opens the folder of the minute that at lies in.
func (t *trash) begin(at time.Time) {
	if minute := at.UTC().Format(trashTime); minute != t.minute {
		t.minute, t.nth = minute, 0
		t.turn()
	}
}

// turn opens another folder of the same minute.
func (t *trash) turn() {
	t.nth++
	t.folder = t.minute + "-" + t.id
	if t.nth > 1 {
		t.folder += "-" + strconv.Itoa(t.nth)
	}
	clear(t.made)
	clear(t.used)
}

// free reports whether p can be put into the present folder: nothing lies there, and nothing but directories of ours
// lies above.
func (t *trash) free(p string) bool {
	if t.used[p] || t.made[p] {
		return false
	}
	for dir := tree.Parent(p); dir != "."; dir = tree.Parent(dir) {
		if t.used[dir] {
			return false
		}
	}
	return true
}

// link returns the request that keeps the file at p, which is about to be replaced: none if a version of this minute
// is there already.
func (t *trash) link(p, abs string) []sftpipe.Request {
	if !t.kept() || t.used[p] {
		return nil
	}
	return t.take(sftpipe.Hardlink, p, abs)
}

// rename returns the request that moves whatever lies at p out of the way.
func (t *trash) rename(p, abs string) []sftpipe.Request {
	return t.take(sftpipe.Rename, p, abs)
}

func (t *trash) take(by func(from, to string) sftpipe.Request, p, abs string) []sftpipe.Request {
	if !t.free(p) {
		t.turn()
	}
	t.parents(p)
	t.used[p] = true
	return []sftpipe.Request{by(abs, t.abs(p))}
}

func (t *trash) abs(p string) string { return t.root + "/" + t.folder + "/" + p }

// parents sees to it that the directories above p exist in the trash, each made once. Nobody but the owner may look
// into the trash: what was private in its place must not be readable here.
func (t *trash) parents(p string) {
	if !t.rooted {
		t.rooted = true
		t.mkdirs = append(t.mkdirs, sftpipe.Mkdir(t.root, private))
	}
	var missing []string
	for dir := tree.Parent(p); !t.made[dir]; dir = tree.Parent(dir) {
		t.made[dir] = true
		missing = append(missing, dir)
		if dir == "." {
			break
		}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		dir := t.root + "/" + t.folder
		if missing[i] != "." {
			dir = t.abs(missing[i])
		}
		t.mkdirs = append(t.mkdirs, sftpipe.Mkdir(dir, private))
	}
}

// flush returns the requests that have to come first in a flight that uses the trash, and whether one of them makes the
// trash itself. Some may fail: the trash of an earlier run is there already.
func (t *trash) flush() (reqs []sftpipe.Request, first bool) {
	reqs, first = t.mkdirs, t.rooted && !t.flushed
	t.mkdirs, t.flushed = nil, t.rooted
	return reqs, first
}

// flown is told how the requests of flush ended; first is what it said. It returns why there is no trash, nil if there is
// one: then what was to be made will have to be made anew.
func (t *trash) flown(errs []error, first bool) error {
	var none, cause error
	for i, err := range errs {
		switch {
		case err == nil:
		case !errors.Is(err, fs.ErrNotExist):
			if cause = err; i > 0 || !first { // the trash itself may have been there before
				none = err
			}
		case cause != nil:
			none = cause
		}
	}
	if none != nil {
		t.rooted, t.flushed = false, false
		t.turn()
	}
	return none
}

// Prune removes what has lain in the trash for longer than it is to be kept. It works through the trash oldest first
// and can be interrupted at any point.
func (r *Replica) Prune(ctx context.Context, now time.Time) error {
	folders, err := r.trashed(ctx)
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(folders, func(name string) bool {
		when, _ := trashedAt(name)
		return r.trash.kept() && now.Sub(when) < r.trash.keep+time.Minute
	})
	if err := r.discard(ctx, old); err != nil {
		return fmt.Errorf("prune trash: %w", err)
	}
	return nil
}
