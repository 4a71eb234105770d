package push

import (
	"context"
	"io/fs"
	"path"
	"strconv"

	"releve/internal/plan"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// spoolName is the folder of the target in which files are opened ahead. It is for its owner alone.
const spoolName = tree.Prefix + "-spool"

// spares is how many files are kept open ahead. A change of one file or a few, which somebody may be waiting to see,
// needs no more; what many files cost is not their first round trip.
const spares = 4

// slot is a name that a file is uploaded to, and the file itself where that is open already.
type slot struct {
	path  string
	file  *sftpipe.File
	spool bool
}

// ahead keeps empty files open in the spool, so that a change costs two flights and not three: its data, and the
// rename. They lie in a folder of their own, not beside what they will replace, because where they will be needed is
// not known, and because making them must not touch the time of a folder that is finished.
type ahead struct {
	made bool // the spool exists
	off  bool // it is of no use: on another file system than what lies below it, or not to be made
	open []slot
}

func (r *Replica) spool() string { return path.Join(r.target, spoolName) }

// slot gives put's file a name to be uploaded to: one of those open ahead if there is one, and otherwise a fresh name
// beside its final one.
func (r *Replica) slot(put plan.Put, known *plan.Known) slot {
	fresh := slot{path: r.temp(put.Path)}
	n := len(r.ahead.open)
	if n == 0 || r.ahead.off || put.Entry.Size >= bulkSize {
		return fresh
	}
	// In a setgid directory a file is born with the directory's group.
	if dir, ok := known.Get(tree.Parent(put.Path)); !ok || dir.Mode&fs.ModeSetgid != 0 {
		return fresh
	}
	s := r.ahead.open[n-1]
	r.ahead.open = r.ahead.open[:n-1]
	return s
}

// stock opens as many files ahead as are missing. It returns those, for the caller to add: it runs beside uploads.
// A failure means that there will be none.
func (r *Replica) stock(ctx context.Context, missing int) []slot {
	c := r.lanes.Small
	names := make([]string, missing)
	for i := range names {
		names[i] = r.spool() + "/" + r.id + "-" + strconv.FormatUint(r.serial.Add(1), 36)
	}
	opened := make(chan slot)
	for _, name := range names {
		go func() { // joined below
			file, err := c.Create(ctx, name)
			if err != nil {
				file = nil
			}
			opened <- slot{path: name, file: file, spool: true}
		}()
	}
	var all []slot
	for range names {
		if s := <-opened; s.file != nil {
			all = append(all, s)
		}
	}
	return all
}

// makeSpool makes the spool, or sees that it is there. That changes the target's time.
func (r *Replica) makeSpool(ctx context.Context) error {
	r.lanes.Small.Do(ctx, sftpipe.Mkdir(r.spool(), private))
	attrs, err := r.lanes.Small.Lstat(ctx, r.spool())
	if err != nil && fatal(ctx, err) {
		return err
	}
	// Nobody else may look in, and nothing may be written through a link.
	r.ahead.made, r.ahead.off = true, err != nil || !attrs.IsDir() || attrs.Mode&0o777 != ownerRWX
	return nil
}

// Close gives back what the replica's server holds for it. The Replica may be used again.
func (r *Replica) Close(ctx context.Context) {
	for _, s := range r.ahead.open {
		_ = s.file.Close(ctx) // it is empty, and swept by the next Read
	}
	r.ahead = ahead{}
}
