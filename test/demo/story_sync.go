package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"releve/internal/pairing"
)

// soon is how long a change may take to the replica before the story fails. It is usual to take some milliseconds.
const soon = 30 * time.Second

// firstSync starts the agent beside an empty replica.
func (s *story) firstSync(ctx context.Context) error {
	s.say.heading("The first synchronisation")
	files, bytes, err := measure(filepath.Dir(s.w.webroot))
	if err != nil {
		return err
	}
	s.say.command("syncagent run &")
	began := time.Now()
	if err := s.agent.start(); err != nil {
		return err
	}
	var st agentStatus
	err = s.await(ctx, "both folders to be in sync", time.Minute, 25*time.Millisecond, func() (bool, string) {
		if err := s.agent.status(ctx, &st); err != nil {
			return false, err.Error()
		}
		for _, f := range st.Folders {
			if f.State != "in_sync" {
				return false, fmt.Sprintf("%+v", st)
			}
		}
		return len(st.Folders) == 2, fmt.Sprintf("%+v", st)
	})
	if err != nil {
		return err
	}
	s.say.timed(time.Since(began), "%d files, %s, through the bastion; from the start of the process to “in sync”", files, humanize.Bytes(uint64(bytes)))
	for _, folder := range []string{"webroot", "letsencrypt"} {
		if err := s.identical(ctx, folder); err != nil {
			return err
		}
	}
	s.say.good("an independent comparison finds both folders identical: type, bytes, mode, mtime, link target")
	return s.word(ctx)
}

// word waits for what the agent leaves on the backup for the watchdog to read: how its replicas are.
func (s *story) word(ctx context.Context) error {
	began := time.Now()
	err := s.await(ctx, "the agent to leave word that both replicas are complete", soon, 20*time.Millisecond, func() (bool, string) {
		word, _, err := pairing.ReadAgent(filepath.Join(s.w.replica, ".releve"))
		if err != nil {
			return false, err.Error()
		}
		for _, f := range word.Folders {
			if f.State != pairing.InSync || f.AsOf == nil {
				return false, fmt.Sprintf("%+v", word.Folders)
			}
		}
		return len(word.Folders) == 2, fmt.Sprintf("%+v", word.Folders)
	})
	if err == nil {
		s.say.timed(time.Since(began), "the agent has left word of that on the backup, for the watchdog")
	}
	return err
}

// edit does what people do to a web site, and waits for each to arrive.
func (s *story) edit(ctx context.Context) error {
	s.say.heading("Small changes: how long until they are on the replica")
	www, replica := s.w.webroot, filepath.Join(s.w.replica, "webroot")
	picture := "uploads/2001/picture-001.jpg"
	gone := func(path string) func() bool {
		return func() bool { _, err := os.Lstat(filepath.Join(replica, path)); return errors.Is(err, fs.ErrNotExist) }
	}
	holds := func(path string) func() bool {
		return func() bool { return sameContent(filepath.Join(www, path), filepath.Join(replica, path)) }
	}
	both := func(a, b func() bool) func() bool { return func() bool { return a() && b() } }
	for _, c := range []struct {
		what    string
		change  func() error
		arrived func() bool
	}{
		{"index.html edited", func() error { return put(filepath.Join(www, "index.html"), []byte(page("second")), 0o644) }, holds("index.html")},
		{"a file in a new directory", func() error { return put(filepath.Join(www, "blog/2026/november.html"), []byte(page("blog")), 0o644) },
			holds("blog/2026/november.html")},
		{"blog renamed to journal", func() error { return os.Rename(filepath.Join(www, "blog"), filepath.Join(www, "journal")) },
			both(gone("blog"), holds("journal/2026/november.html"))},
		{picture + " deleted", func() error { return os.Remove(filepath.Join(www, picture)) }, gone(picture)},
	} {
		began := time.Now()
		if err := c.change(); err != nil {
			return err
		}
		took, err := s.arrives(ctx, c.what, began, c.arrived)
		if err != nil {
			return err
		}
		s.say.timed(took, "%s", c.what)
	}
	if err := s.identical(ctx, "webroot"); err != nil {
		return err
	}
	s.say.good("identical again")
	return nil
}

// arrives waits for a change that was made since began.
func (s *story) arrives(ctx context.Context, what string, began time.Time, arrived func() bool) (time.Duration, error) {
	err := s.await(ctx, what+", to arrive on the replica", soon, time.Millisecond, func() (bool, string) {
		return arrived(), "it did not"
	})
	return time.Since(began), err
}

func sameContent(a, b string) bool {
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// deploy brings a new release out, as deployment tools do: whole in a directory of its own, then the link is replaced.
func (s *story) deploy(ctx context.Context) error {
	s.say.heading("An atomic deploy")
	began := time.Now()
	if err := writeRelease(s.w.webroot, 2); err != nil {
		return err
	}
	written := time.Now()
	if err := replaceLink(filepath.Join(s.w.webroot, "app"), releaseDir(2)); err != nil {
		return err
	}
	there := filepath.Join(s.w.replica, "webroot")
	took, err := s.arrives(ctx, "the link app -> releases/2", written, func() bool {
		to, err := os.Readlink(filepath.Join(there, "app"))
		return err == nil && to == releaseDir(2)
	})
	if err != nil {
		return err
	}
	files, _, err := measure(filepath.Join(there, releaseDir(2)))
	if err != nil {
		return err
	}
	if files != appFiles {
		return fmt.Errorf("expected: %d files of the release where the link leads to; instead: %d when the link was replaced", appFiles, files)
	}
	s.say.timed(took, "release 2, %d files written in %s, is live on the replica", appFiles, short(written.Sub(began)))
	s.say.good("when the link was replaced there, all %d files were in place: nobody saw half a release", files)
	return s.identical(ctx, "webroot")
}

// watcher looks at a pair of certificate and key, all the time.
type watcher struct {
	dir     string
	looks   int
	mixed   int           // looks at which they did not belong together
	longest time.Duration // that lasted
}

func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var since time.Time
	for {
		w.looks++
		_, err := loadPair(w.dir)
		switch now := time.Now(); {
		case err == nil:
			since = time.Time{}
		case since.IsZero():
			w.mixed, since = w.mixed+1, now
		default:
			w.mixed++
			w.longest = max(w.longest, now.Sub(since))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renew renews the certificate at certbot's pace, while both ends are watched.
func (s *story) renew(ctx context.Context) error {
	s.say.heading("A certificate is renewed, in certbot's order")
	old, err := s.w.standbySerial(ctx)
	if err != nil {
		return fmt.Errorf("ask the standby for its certificate: %w", err)
	}
	here, there := &watcher{dir: s.w.letsencrypt}, &watcher{dir: filepath.Join(s.w.replica, "letsencrypt")}
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { here.run(watching) })
	wg.Go(func() { there.run(watching) })
	defer wg.Wait()
	defer stop()

	step := time.NewTicker(150 * time.Millisecond)
	defer step.Stop()
	if err := issue(s.w.ca, s.w.letsencrypt, 2, func() {
		select {
		case <-step.C:
		case <-ctx.Done():
		}
	}); err != nil {
		return err
	}
	renewed := time.Now()
	pair, err := loadPair(s.w.letsencrypt)
	if err != nil {
		return err
	}
	s.serial = pair.Leaf.SerialNumber.Text(16)
	serial := ""
	took, err := s.arrives(ctx, "the new certificate, served by the standby", renewed, func() bool {
		serial, err = s.w.standbySerial(ctx)
		return err == nil && serial == s.serial
	})
	if err != nil {
		return err
	}
	if err := s.identical(ctx, "letsencrypt"); err != nil {
		return err
	}
	stop()
	wg.Wait()
	s.say.timed(took, "the standby serves certificate %s… in place of %s…", serial[:8], old[:8])
	// Four renames cannot be one: a look that falls between them is possible, a state that lasts is not.
	if there.longest > here.longest/2 || here.mixed == 0 {
		return fmt.Errorf("expected: certificate and key that belong together on the replica, while they do not on production\n"+
			"instead: mixed for %s on the replica, for %s on production", short(there.longest), short(here.longest))
	}
	s.say.good("while production's own files were mixed for %s, the replica's were %s", short(here.longest), there)
	return nil
}

func (w *watcher) String() string {
	if w.mixed == 0 {
		return fmt.Sprintf("a pair at each of %d looks", w.looks)
	}
	return fmt.Sprintf("a pair but at %d of %d looks, for %s at most", w.mixed, w.looks, strings.TrimSpace(short(w.longest)))
}
