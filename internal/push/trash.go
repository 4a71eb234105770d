package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"releve/pkg/sftpipe"
)

// trash is where replaced and deleted content is kept: TARGET/.releve-trash/20261122T1405Z-ID/PATH. One folder a
// minute, named in UTC, so that a person finds a version by time and path, and so that of a file that changes all the
// time one version a minute is kept, not every one.
type trash struct {
	root   string
	id     string
	keep   time.Duration
	minute string
	made   map[string]bool // directories that exist in this minute's folder
	used   map[string]bool // names that are taken in it
	rooted bool
}

const trashTime = "20060102T1504Z"

func newTrash(root, id string, keep time.Duration) *trash {
	return &trash{root: root, id: id, keep: keep, made: map[string]bool{}, used: map[string]bool{}}
}

// begin opens the folder of the minute that at lies in.
func (t *trash) begin(at time.Time) {
	minute := at.UTC().Format(trashTime) + "-" + t.id
	if minute != t.minute {
		t.minute = minute
		clear(t.made)
		clear(t.used)
	}
}

// link returns the requests that keep the file at p, which is about to be replaced: none if a version of this minute
// is there already.
func (t *trash) link(p, abs string) []sftpipe.Request {
	if t.keep == 0 || t.used[p] {
		return nil
	}
	t.used[p] = true
	return append(t.parents(p), sftpipe.Hardlink(abs, t.abs(p)))
}

// rename returns the requests that move whatever lies at p out of the way. The last of them is the rename itself; the
// others may fail, where directories exist already.
func (t *trash) rename(p, abs string) []sftpipe.Request {
	slot := p
	for n := 2; t.used[slot]; n++ {
		slot = p + "~" + strconv.Itoa(n)
	}
	t.used[slot] = true
	return append(t.parents(slot), sftpipe.Rename(abs, t.abs(slot)))
}

func (t *trash) abs(p string) string { return t.root + "/" + t.minute + "/" + p }

// parents returns the requests that make the directories above p in the trash, each once. Nobody but the owner may
// look into the trash: what was private in its place must not be readable here.
func (t *trash) parents(p string) []sftpipe.Request {
	var reqs []sftpipe.Request
	if !t.rooted {
		t.rooted = true
		reqs = append(reqs, sftpipe.Mkdir(t.root, private))
	}
	var missing []string
	for dir := path.Dir(p); !t.made[dir]; dir = path.Dir(dir) {
		t.made[dir] = true
		missing = append(missing, dir)
		if dir == "." {
			break
		}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		dir := t.root + "/" + t.minute
		if missing[i] != "." {
			dir = t.abs(missing[i])
		}
		reqs = append(reqs, sftpipe.Mkdir(dir, private))
	}
	return reqs
}

// Prune removes what has lain in the trash for longer than it is to be kept. It works through the trash oldest first
// and can be interrupted at any point.
func (r *Replica) Prune(ctx context.Context, now time.Time) error {
	entries, err := r.lanes.Bulk.ReadDir(ctx, r.trash.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list trash: %w", err)
	}
	for _, e := range entries {
		stamp, _, ok := strings.Cut(e.Name, "-")
		when, err := time.Parse(trashTime, stamp)
		if !ok || err != nil {
			continue // not ours
		}
		if r.trash.keep > 0 && now.Sub(when) < r.trash.keep+time.Minute {
			continue
		}
		if e.Name == r.trash.minute {
			clear(r.trash.made)
			clear(r.trash.used)
		}
		if err := r.removeAll(ctx, path.Join(r.trash.root, e.Name)); err != nil {
			return fmt.Errorf("prune trash: %w", err)
		}
	}
	return nil
}

// removeAll removes what lies at p, and everything below if it is a directory; a link is removed, never followed.
func (r *Replica) removeAll(ctx context.Context, p string) error {
	c := r.lanes.Bulk
	err := first(c.Do(ctx, sftpipe.Remove(p)))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if fatal(ctx, err) {
		return err
	}
	entries, listErr := c.ReadDir(ctx, p)
	if errors.Is(listErr, fs.ErrPermission) { // a directory that its owner may not enter
		c.Do(ctx, setstat(c, p, private))
		entries, listErr = c.ReadDir(ctx, p)
	}
	if listErr != nil {
		return err
	}
	// A directory may have been read-only at the source; here it is on its way out.
	files := []sftpipe.Request{setstat(c, p, private)}
	for _, e := range entries {
		if !e.Attrs.IsDir() {
			files = append(files, sftpipe.Remove(path.Join(p, e.Name)))
		}
	}
	c.Do(ctx, files...)
	for _, e := range entries {
		if e.Attrs.IsDir() {
			if err := r.removeAll(ctx, path.Join(p, e.Name)); err != nil {
				return err
			}
		}
	}
	if err := first(c.Do(ctx, sftpipe.Rmdir(p))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// setstat sets attributes without following a link, where the server can.
func setstat(c *sftpipe.Client, p string, a sftpipe.Attrs) sftpipe.Request {
	if c.HasExtension(lsetstat) {
		return sftpipe.Lsetstat(p, a)
	}
	return sftpipe.Setstat(p, a)
}
