package push

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// stage builds a new directory under a temporary name and renames it into place once. Inside it files are written
// straight to their final names: nobody sees them before the rename, so one rename serves for all.
func (b *batch) stage(ctx context.Context, s plan.Stage, later bool) error {
	temp := b.r.temp(s.Top.Path)
	inside := func(p string) string { return temp + strings.TrimPrefix(p, s.Top.Path) }

	made, err := b.frame(ctx, s, temp, inside)
	if err != nil {
		return b.failed(ctx, s.Top.Path, fmt.Errorf("make directory: %w", err))
	}
	arrived, err := b.fill(ctx, made, inside)
	if err != nil {
		return err
	}
	st := b.stageStep(s, arrived, temp, inside)
	if !later {
		return b.fly(ctx, []step{st})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish = append(b.finish, st)
	return nil
}

// frame makes the directories and links of a stage in one flight and returns the puts that are worth going on with.
func (b *batch) frame(ctx context.Context, s plan.Stage, temp string, inside func(string) string) ([]plan.Put, error) {
	reqs := []sftpipe.Request{sftpipe.Mkdir(temp, private)}
	var which []int // of s.Below, for each further request
	for i, put := range s.Below {
		switch put.Entry.Type {
		case tree.Dir:
			reqs = append(reqs, sftpipe.Mkdir(inside(put.Path), private))
		case tree.Link:
			reqs = append(reqs, sftpipe.Symlink(put.Entry.Link, inside(put.Path)))
		default:
			continue
		}
		which = append(which, i)
	}
	errs := b.r.lanes.Small.Do(ctx, reqs...)
	if errs[0] != nil {
		return nil, errs[0]
	}
	var lost []string
	for i, err := range errs[1:] {
		if err == nil {
			continue
		}
		put := s.Below[which[i]]
		if err := b.failed(ctx, put.Path, fmt.Errorf("make %s: %w", put.Entry.Type, err)); err != nil {
			return nil, err
		}
		lost = append(lost, put.Path)
	}
	if lost == nil {
		return s.Below, nil
	}
	return slices.DeleteFunc(slices.Clone(s.Below), func(put plan.Put) bool {
		return slices.ContainsFunc(lost, func(p string) bool {
			return put.Path == p || strings.HasPrefix(put.Path, p+"/")
		})
	}), nil
}

// fill uploads the files of a stage and returns everything that lies in it, files as they were read.
func (b *batch) fill(ctx context.Context, puts []plan.Put, inside func(string) string) ([]plan.Put, error) {
	group, working := errgroup.WithContext(ctx)
	arrived := make([]plan.Put, len(puts))
	source := cursor{src: b.src}
	defer source.close()
	for i, put := range puts {
		if put.Entry.Type != tree.File {
			arrived[i] = put
			continue
		}
		if !acquire(working, b.files) {
			break
		}
		open, opened := source.to(put.Path)
		group.Go(func() error {
			defer release(b.files)
			defer opened()
			done, err := b.unpack(working, &put, inside(put.Path))
			if err == nil && !done {
				var s sent
				s, err = b.sendFile(working, put, open, tree.Entry{}, &slot{path: inside(put.Path)})
				put.Entry = s.entry
			}
			if err != nil {
				return b.failed(working, put.Path, err)
			}
			b.lay(put.Path, inside(put.Path), put.Entry)
			arrived[i] = put
			return nil
		})
	}
	if err := cmp.Or(group.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(arrived, func(put plan.Put) bool { return put.Path == "" }), nil
}

// stageStep sets the attributes inside the stage, deepest first, and renames it into place.
func (b *batch) stageStep(s plan.Stage, arrived []plan.Put, temp string, inside func(string) string) step {
	var reqs []sftpipe.Request
	for _, put := range slices.Backward(arrived) { // children follow their parents, so backwards is deepest first
		if put.Entry.Type != tree.File {
			reqs = append(reqs, b.r.setattr(inside(put.Path), put.Entry)...)
		}
	}
	reqs = append(reqs, b.r.setattr(temp, s.Top.Entry)...)
	attrs := len(reqs)
	abs := b.r.abs(s.Top.Path)
	b.mu.Lock()
	reqs = append(reqs, b.keep(s.Top, abs)...)
	b.mu.Unlock()
	reqs = append(reqs, sftpipe.Rename(temp, abs))
	return step{path: s.Top.Path, reqs: reqs, puts: arrived, done: func(errs []error) {
		if err := errs[len(errs)-1]; err != nil {
			b.fail(s.Top.Path, fmt.Errorf("put in place: %w", err))
			b.junk = append(b.junk, temp)
			return
		}
		if first(errs[:attrs]) != nil {
			// It is in its place and whole, but not all of it has its mode and times: have it looked at.
			b.out.Stale = true
		}
		b.known.Delete(s.Top.Path)
		b.placed(s.Top.Path, s.Top.Entry)
		for _, put := range arrived {
			b.placed(put.Path, put.Entry)
		}
	}}
}
