package syncagent

import (
	"time"

	"releve/internal/pairing"
)

// idle is how long the watcher must have had nothing to say for that to mean that nothing had happened. What happens
// during a round comes out of it at once when the round is over.
const idle = time.Second

// complete reports whether nothing is missing on the replica, as last looked at, that could be there. Deletions that
// are held are not missing: that they are not carried out is meant. Nor is a file that cannot be read, or changes each
// time it is read: a standby without it is better than none, and it does not get older by waiting for it.
func (s folderStatus) complete() bool {
	return s.state == stateInSync || s.state == stateHeld || s.state == stateSyncing && s.tried
}

// waited takes in that the watcher was waited for. If that took long enough, nothing had changed until then.
func (e *engine) waited(began, now time.Time) {
	e.update(func(s *folderStatus) {
		if s.complete() && now.Sub(began) > idle {
			s.asOf = now
		}
	})
}

// word is what there is to say of the folder to the watchdog.
func (s folderStatus) word(now time.Time) pairing.Folder {
	asOf := s.asOf
	if s.complete() && now.Sub(s.since) > idle {
		asOf = now
	}
	return pairing.Folder{
		Name: s.name, State: pairing.FolderState(s.state), AsOf: timeOrNil(asOf.UTC().Round(0)), Pending: s.pending, Held: heldEntries(s.held),
		LastChange: timeOrNil(s.lastPush.UTC().Round(0)), InSyncSince: timeOrNil(s.inSyncSince.UTC().Round(0)),
		Compared: timeOrNil(s.compared.UTC().Round(0)),
	}
}

// wordOf is what there is to say of the folders on one backup.
func (g *agent) wordOf(l *link) func(time.Time) []pairing.Folder {
	return func(now time.Time) []pairing.Folder {
		var folders []pairing.Folder
		for _, e := range g.engines {
			if e.link == l {
				folders = append(folders, e.snapshot().word(now))
			}
		}
		return folders
	}
}
