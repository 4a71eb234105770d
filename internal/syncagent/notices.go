package syncagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

// notices is what the owner should know of a folder and what is no fault of its replica: nothing is missing there, and
// nothing is tried again for it.
type notices struct {
	databases map[string]string // live SQLite databases, and what lies beside them
	refused   map[string]bool   // names that could not be made hard links
	apart     int               // names that were not tried, because the server offers none
	given     time.Time         // when something of the trash had to give way before its time; zero if nothing had
}

// What SQLite keeps beside a database while it is in use (https://www.sqlite.org/tempfiles.html), and how a database
// begins (https://www.sqlite.org/fileformat.html, section 1.3).
var besideDatabase = []string{"-wal", "-shm", "-journal"}

const databaseHeader = "SQLite format 3\x00"

// linked takes in which hard links a push has made, and which it could not.
func (n *notices) linked(p plan.Plan, out push.Outcome) {
	for _, put := range p.Files {
		for _, also := range put.Also {
			delete(n.refused, also.Path)
		}
	}
	for _, p := range out.Apart {
		if n.refused == nil {
			n.refused = map[string]bool{}
		}
		n.refused[p] = true
	}
}

// live takes in the databases of src, of which it finds all if whole is set, and returns those that are new. isFile
// tells what there is besides, and header how a file begins.
func (n *notices) live(src tree.Tree, whole bool, isFile func(p string) bool, header func(p string) string) []string {
	var fresh []string
	for p, e := range src {
		if e.Type != tree.File {
			continue
		}
		for _, suffix := range besideDatabase {
			base, ok := strings.CutSuffix(p, suffix)
			if !ok || n.databases[base] != "" || !isFile(base) || header(base) != databaseHeader {
				continue
			}
			if n.databases == nil {
				n.databases = map[string]string{}
			}
			n.databases[base] = path.Base(p)
			fresh = append(fresh, base)
		}
	}
	if whole {
		gone := func(p string) bool { _, there := src[p]; return !there }
		maps.DeleteFunc(n.databases, func(p, _ string) bool { return gone(p) })
		maps.DeleteFunc(n.refused, func(p string, _ bool) bool { return gone(p) })
	}
	slices.Sort(fresh)
	return fresh
}

// sentences are the notices of a folder on a backup, for a human.
func (n *notices) sentences(folder, backup string) []string {
	var all []string
	for _, p := range slices.Sorted(maps.Keys(n.databases)) {
		all = append(all, fmt.Sprintf(`The folder %s holds a live SQLite database, %s (%s lies beside it): a copy of one that is being written to need not be `+
			`a database. Replicate what "sqlite3 … .backup" or VACUUM INTO makes of it, and exclude the live one (docs/sync.md, "Databases").`,
			folder, printable(p), printable(n.databases[p])))
	}
	links := func(n int) string { return plural(n, "hard link", "hard links") }
	if n.apart > 0 {
		all = append(all, fmt.Sprintf("%s of the folder %s became files of their own on %s: its SFTP server does not offer to link.",
			links(n.apart), folder, backup))
	}
	if len(n.refused) > 0 {
		all = append(all, fmt.Sprintf("%s of the folder %s became files of their own on %s, where they were refused (%s).",
			links(len(n.refused)), folder, backup, printable(slices.Sorted(maps.Keys(n.refused))[0])))
	}
	if !n.given.IsZero() {
		all = append(all, fmt.Sprintf("What was replaced or deleted in the folder %s is not kept as long as it should be on %s: its disk is nearly full, and the oldest had to give way on %s.",
			folder, backup, clock(n.given)))
	}
	return all
}

// makeRoom has the trash give way to what there was no room for, and notes whether what is replaced and deleted is kept.
func (e *engine) makeRoom(ctx context.Context, r *push.Replica, now time.Time) error {
	kept, _ := r.Kept()
	if e.short > 0 || !kept || e.status.unkept || now.Sub(e.pruned) >= pruneEvery {
		err := r.MakeRoom(ctx, now, e.short)
		if errors.Is(err, sftpipe.ErrConnectionLost) {
			return err
		}
		if err != nil {
			e.log.Warn("could not make room on the backup's disk", "err", err)
		}
		e.short = 0
	}
	kept, given := r.Kept()
	if given.After(e.notices.given) {
		e.notices.given = given
	}
	if now.Sub(e.notices.given) > e.folder.Keep {
		e.notices.given = time.Time{}
	}
	if kept == e.status.unkept {
		e.log.Warn("whether what is replaced or deleted is kept depends on the backup's disk, which has or lacks room now", "kept", kept)
	}
	sentences := e.notices.sentences(e.folder.Name, e.link.backup.Name)
	e.update(func(s *folderStatus) { s.unkept, s.notices = !kept, sentences })
	return nil
}

// notice sees to the notices at the end of a round.
func (e *engine) notice(l view, p plan.Plan) {
	isFile := func(p string) bool {
		entry, ok := l.src[p]
		if !ok {
			entry, ok = e.known.Get(p)
		}
		return ok && entry.Type == tree.File
	}
	for _, p := range e.notices.live(l.src, l.scope.All, isFile, e.header) {
		e.log.Info("a live SQLite database, which cannot be replicated file by file", "path", fmt.Sprintf("%q", p))
	}
	if l.scope.All {
		e.notices.apart = p.Apart
	}
	sentences := e.notices.sentences(e.folder.Name, e.link.backup.Name)
	e.update(func(s *folderStatus) { s.notices = sentences })
}

// header is how a file of the source begins; "" where that cannot be told.
func (e *engine) header(p string) string {
	f, _, err := e.root.OpenFile(p)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, len(databaseHeader))
	n, _ := io.ReadFull(f, head)
	return string(head[:n])
}
