package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// What has been sent waits under temporary names for the rest of its batch. When the connection breaks meanwhile, most of
// it lies whole on the replica. So it is noted where each file lies (plan.Known.Lay), and the next session takes over
// what it finds as it was sent, instead of sending it again: all of that is moved to the spool, and what then is left
// under temporary names can be swept away as ever.

// layEvery is how many files, and layBytes how many bytes, are noted before the notes are handed to the kernel: what a
// process that is killed forgets.
const (
	layEvery = 16
	layBytes = 1 << 20
)

// Adopt says what earlier sessions have laid by, for the next Read.
func (r *Replica) Adopt(laid map[string]plan.Laid) { r.laid = laid }

// Adopted notes in known where that lies now which Read has taken over.
func (r *Replica) Adopted(known *plan.Known) {
	for p, c := range r.carried {
		if c.kept {
			known.Lay(p, plan.Laid{At: r.rel(c.at.path), Entry: c.entry})
		}
	}
}

// lay notes that put's file lies at a name of ours, to be put in place with others.
func (b *batch) lay(p, at string, e tree.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known.Lay(p, plan.Laid{At: b.r.rel(at), Entry: e})
	b.laid++
	b.laidBytes += e.Size
	if b.laid >= layEvery || b.laidBytes >= layBytes {
		b.laid, b.laidBytes = 0, 0
		if b.r.flush != nil {
			b.r.flush()
		}
	}
}

// kept is the name in the spool of what was laid by at another name. It follows from that, so that a session that is
// interrupted while it gathers finds what the one before has gathered.
func (r *Replica) kept(at string) string {
	if path.Dir(at) == spoolName {
		return path.Base(at)
	}
	sum := sha256.Sum256([]byte(at))
	return "kept-" + hex.EncodeToString(sum[:12])
}

// gather moves everything that was laid by to the spool, in one flight. What is not there any more was put in its place,
// or swept.
func (r *Replica) gather(ctx context.Context) error {
	if r.ahead.off {
		r.laid = nil
	}
	var reqs []sftpipe.Request
	for _, l := range r.laid {
		if path.Dir(l.At) != spoolName {
			reqs = append(reqs, sftpipe.Rename(r.abs(l.At), r.spool()+"/"+r.kept(l.At)))
		}
	}
	for _, err := range r.lanes.Small.Do(ctx, reqs...) {
		if err != nil && fatal(ctx, err) {
			return err
		}
	}
	return nil
}

// adopt takes over what lies in the spool as it was sent, and returns the names of the rest.
func (r *Replica) adopt(spool []sftpipe.DirEntry) (rest []string) {
	wanted := make(map[string]string, len(r.laid)) // the final path, by the name in the spool
	for p, l := range r.laid {
		wanted[r.kept(l.At)] = p
	}
	for _, e := range spool {
		p, ok := wanted[e.Name]
		if l := r.laid[p]; ok && tree.Equal(entryOf(e.Attrs), l.Entry) {
			r.carried[p] = Carried{at: slot{path: r.spool() + "/" + e.Name, spool: true}, entry: l.Entry, kept: true}
			continue
		}
		rest = append(rest, e.Name)
	}
	r.laid = nil
	return rest
}

// current reports whether what was kept from an earlier session is what now would be sent: if the source has changed
// since, the new version is. Where the time of its last change cannot be trusted, it is compared once more afterwards.
func (c Carried) current(now tree.Entry) bool {
	now.Sum, now.Nlink, now.Shared = c.entry.Sum, c.entry.Nlink, c.entry.Shared
	if c.entry.CTime == 0 {
		now.CTime = 0
	}
	return c.entry == now
}

// unpack puts a file of a stage that was kept from an earlier session where the stage has it.
func (b *batch) unpack(ctx context.Context, put *plan.Put, to string) (done bool, err error) {
	c, ok := b.carried(*put)
	if !ok || c.at.path == "" {
		return false, nil
	}
	if err := first(b.r.lanes.Small.Do(ctx, sftpipe.Rename(c.at.path, to))); err != nil {
		if fatal(ctx, err) {
			return false, err
		}
		return false, nil // it is sent like any other
	}
	if c.outdated(put.Entry) {
		b.again(put.Path)
	}
	put.Entry = c.entry
	return true, nil
}
