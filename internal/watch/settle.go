package watch

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shortestLook = 500 * time.Microsecond // between two looks at a file that is being written; the pause grows with
	longestLook  = 200 * time.Millisecond // the time it has been written for, an eighth of it, up to this
	lookShare    = 8
	unlinkGrace  = 10 * time.Millisecond // for "unlink, then create again", as git, tar and install replace files
	cheapSize    = 1 << 20               // up to which a file that is being written all the time goes out more often,
	cheapShare   = 5                     // by so much
	longestStay  = 5 * time.Minute       // between two looks at a file that went out while it was being written, and stays open
)

// A judge decides which dirty paths have settled. It looks and never waits.
type judge struct {
	settle, maxWait time.Duration
	skip            func(path string, dir bool) bool
	repos           *repos
	began           time.Time // lock looks are at multiples of lockLook from here
	lease           func(*os.File) (writer, error)
}

// stamp is what of a file changes when it is written, also through mmap.
type stamp struct {
	size  int64
	mtime time.Time
	since time.Duration // the pause after which it is looked at next
}

func stampOf(fi fs.FileInfo) *stamp { return &stamp{size: fi.Size(), mtime: fi.ModTime()} }

func (s *stamp) same(o *stamp) bool { return s.size == o.size && s.mtime.Equal(o.mtime) }

// look sorts a round into what goes out and what is looked at again.
func (j *judge) look(root *os.Root, now time.Time, r *round) {
	locked := j.repos.look(root, now)
	for p, m := range r.marks {
		if locked(p) {
			m.due = j.lockLookAfter(now)
			r.back[p] = m
			continue
		}
		switch ready, due := j.one(root, now, p, m); {
		case ready:
			r.ready = append(r.ready, p)
			if m.sent != nil {
				r.back[p] = m
			}
		case !due.IsZero():
			m.due = due
			r.back[p] = m
		}
	}
	going := r.subtrees[:0]
	for _, p := range r.subtrees {
		if locked(p) {
			r.held[p] = j.lockLookAfter(now)
		} else {
			going = append(going, p)
		}
	}
	r.subtrees = going
}

// lockLookAfter is when what a lock holds back is looked at again: all of it at the same moments, whenever it changed, so
// that it goes out together.
func (j *judge) lockLookAfter(now time.Time) time.Time {
	return j.began.Add((now.Sub(j.began)/lockLook + 1) * lockLook)
}

// one looks at one path: it is ready, or to be looked at again when due, or, with a zero due, not worth reporting.
func (j *judge) one(root *os.Root, now time.Time, path string, m *mark) (ready bool, due time.Time) {
	m.busy = false
	sent := m.sent
	m.sent = nil
	fi, err := root.Lstat(path)
	switch {
	case err != nil && gone(err):
		if m.ops&(removed|moved) == 0 {
			// It came and went, or was written after its name was taken away. The event that says so has been seen already, or comes.
			return false, time.Time{}
		}
		if back := m.last.Add(unlinkGrace); m.ops&moved == 0 && back.After(now) {
			m.gone = true
			return false, back
		}
		return true, time.Time{}
	case err != nil:
		return true, time.Time{} // the caller finds out, and can say why
	case path != "." && j.skip(path, fi.IsDir()):
		return false, time.Time{}
	case !fi.Mode().IsRegular():
		return true, time.Time{}
	}
	who := j.writer(root, path)
	switch who {
	case writerGone:
		return sent == nil || !sent.same(stampOf(fi)), time.Time{}
	case writerUnknown:
		due = m.last.Add(j.settle)
	case writerThere:
		due = now.Add(min(max(now.Sub(m.first)/lookShare, shortestLook), longestLook))
	}
	due = earlier(due, m.first.Add(j.longest(fi.Size())))
	if due.After(now) {
		m.busy = true
		m.sent = sent
		return false, due
	}
	if who == writerThere {
		m.busy = true
		// It goes out as it is. What is written through mmap makes no event, so it is looked at again without one.
		j.stay(now, m, sent, stampOf(fi))
		if sent != nil && sent.same(m.sent) {
			return false, m.due
		}
	}
	return true, time.Time{}
}

// longest is how long a file of that size is kept back while it is being written.
func (j *judge) longest(size int64) time.Duration {
	if size <= cheapSize {
		return j.maxWait / cheapShare
	}
	return j.maxWait
}

// stay arranges that a file which goes out in the middle of being written is looked at again.
func (j *judge) stay(now time.Time, m *mark, before, is *stamp) {
	is.since = j.longest(is.size)
	if before != nil && before.same(is) {
		is.since = min(2*before.since, longestStay)
	}
	m.sent = is
	m.ops = 0
	m.first = now
	m.last = now
	m.due = now.Add(is.since)
}

// writer tells whether anybody has the file open for writing.
func (j *judge) writer(root *os.Root, path string) writer {
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return writerGone // as above: the caller finds out
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return writerGone
	}
	w, err := j.lease(f)
	if err != nil {
		return writerUnknown
	}
	return w
}

// A writer is what is known of a file's writer.
type writer uint8

const (
	writerUnknown writer = iota
	writerGone
	writerThere
)

// leaseWriter asks the kernel, through fcntl(2) F_SETLEASE: a read lease is granted only on a file that nobody has open, or
// mapped, for writing. It needs the file's owner or CAP_LEASE, and a file system that has leases. The lease is given
// back at once; a writer that comes in between waits for these microseconds (an open with O_NONBLOCK would fail), and
// the SIGIO it causes is ignored by the Go runtime.
func leaseWriter(f *os.File) (writer, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return writerUnknown, err
	}
	var granted error
	err = conn.Control(func(fd uintptr) {
		if _, granted = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); granted == nil {
			_, granted = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	switch {
	case err != nil:
		return writerUnknown, err
	case errors.Is(granted, syscall.EAGAIN):
		return writerThere, nil
	case granted != nil:
		return writerUnknown, granted
	}
	return writerGone, nil
}
