package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// hardlink makes another name of a file; since OpenSSH 5.7.
const hardlink = "hardlink@openssh.com"

// Links reports whether the server offers hard links at all. What its file system says is another matter.
func (r *Replica) Links() bool { return r.lanes.Small.HasExtension(hardlink) }

// names puts a file with several names in place under all of them. It lies whole in the slot to, or where s says so,
// in its place: each further name is made by hard link under a temporary name, and the reply awaited, before anything is
// renamed. So no name depends on what becomes of another one.
func (b *batch) names(ctx context.Context, put plan.Put, s sent, to slot, later bool) error {
	names := put.Split()
	first, from := names[0], to.path
	first.Entry = s.entry
	if s.metaOnly {
		from = b.r.abs(first.Path)
		if err := b.narrow(ctx, first); err != nil {
			return b.failedAll(ctx, names, err)
		}
	}
	first.Entry.Shared = b.shared(first, s.metaOnly)
	steps := []step{b.firstStep(first, s, to)}

	var linked []plan.Put
	var temps []string
	var reqs []sftpipe.Request
	for _, name := range names[1:] {
		name.Entry = first.Entry
		now, err := b.src.Lstat(name.Path)
		switch {
		case err != nil && fatal(ctx, err):
			return err
		case err != nil || now.Ino != s.entry.Ino || now.Dev != s.entry.Dev:
			b.again(name.Path) // what was read was never to be seen by this name
		case s.metaOnly && name.Joined:
			b.attr(name)
		default:
			temp := b.r.temp(name.Path)
			linked, temps, reqs = append(linked, name), append(temps, temp), append(reqs, sftpipe.Hardlink(from, temp))
		}
	}
	var refused []plan.Put
	for i, err := range b.r.lanes.Small.Do(ctx, reqs...) {
		switch {
		case err == nil:
			steps = append(steps, b.nameStep(linked[i], temps[i]))
		case fatal(ctx, err):
			return err
		case errors.Is(err, fs.ErrNotExist):
			_ = b.failed(ctx, linked[i].Path, fmt.Errorf("make hard link: %w", err))
		default:
			refused = append(refused, linked[i])
		}
	}
	if later {
		for _, st := range steps {
			b.place(st)
		}
	} else if err := b.fly(ctx, steps); err != nil {
		return err
	}
	for _, name := range refused {
		if err := b.apart(ctx, name, later); err != nil {
			return err
		}
	}
	return nil
}

// narrow takes from a file in its place the rights that it will not have: under its further names it must not be seen
// with them.
func (b *batch) narrow(ctx context.Context, put plan.Put) error {
	old := b.was(put)
	mode := tighter(old, put.Entry)
	if mode == old.Mode {
		return nil
	}
	attrs := sftpipe.Attrs{Has: sftpipe.HasMode, Mode: posixMode(mode)}
	if err := first(b.r.lanes.Small.Do(ctx, sftpipe.Setstat(b.r.abs(put.Path), attrs))); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// shared is the number by which the names of put's file know each other: the one it has, where that file stays.
func (b *batch) shared(put plan.Put, stays bool) uint64 {
	if old := b.was(put); stays && old.Shared != 0 {
		return old.Shared
	}
	return rand.Uint64()
}

// firstStep puts the file in place under its first name, or sets what is left to be set there.
func (b *batch) firstStep(put plan.Put, s sent, to slot) step {
	switch {
	case put.Current:
		return step{path: put.Path, done: func([]error) {
			if old, ok := b.known.Get(put.Path); ok {
				old.Shared = put.Entry.Shared
				b.known.Set(put.Path, old)
			}
		}}
	case s.metaOnly:
		b.attr(put)
		return step{path: put.Path, done: func([]error) {}}
	}
	return b.renameStep(put, to)
}

// nameStep puts a hard link in place.
func (b *batch) nameStep(put plan.Put, temp string) step {
	abs := b.r.abs(put.Path)
	b.mu.Lock()
	var reqs []sftpipe.Request
	if old, ok := b.known.Get(put.Path); !ok || old.Type != tree.File || !sameSum(old, put.Entry) {
		reqs = b.keep(put, abs)
	}
	b.mu.Unlock()
	// Where the name leads to this very file already, rename(2) does nothing, and leaves the temporary name.
	reqs = append(reqs, sftpipe.Rename(temp, abs), sftpipe.Remove(temp))
	return step{path: put.Path, reqs: reqs, puts: []plan.Put{put}, done: func(errs []error) {
		if err := errs[len(errs)-2]; err != nil {
			b.fail(put.Path, fmt.Errorf("put hard link in place: %w", err))
			b.junk = append(b.junk, temp)
			return
		}
		if put.Old == plan.Other {
			b.known.Delete(put.Path)
		}
		b.known.Set(put.Path, put.Entry)
		b.out.Entries++
		b.progress(1, 0)
	}}
}

func sameSum(a, b tree.Entry) bool { return a.Sum == b.Sum && a.Sum != [32]byte{} }

// apart makes a name that cannot be a hard link a file of its own, if it is not one already.
func (b *batch) apart(ctx context.Context, put plan.Put, later bool) error {
	put.Entry.Shared = 0
	b.mu.Lock()
	b.out.Apart = append(b.out.Apart, put.Path)
	b.mu.Unlock()
	if put.Old == plan.Same && (put.Current || sameSum(b.was(put), put.Entry)) {
		b.attr(put)
		return nil
	}
	put.Current, put.Joined = false, false
	return b.file(ctx, put, b.src.OpenFile, slot{path: b.r.temp(put.Path)}, later)
}

// failedAll is failed for several names at once.
func (b *batch) failedAll(ctx context.Context, puts []plan.Put, err error) error {
	for _, put := range puts {
		if err := b.failed(ctx, put.Path, err); err != nil {
			return err
		}
	}
	return nil
}
