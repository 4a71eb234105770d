package syncagent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"releve/internal/pairing"
	"releve/internal/tree"
	"releve/pkg/sftpipe"
)

const (
	// wordTimeout bounds one look at the watchdog's word, or one writing of ours. Both may have to wait for what a
	// slow line has under way; a server that takes longer is of no use for pushing either.
	wordTimeout = time.Minute

	wordTemp, wordTempEnd = tree.Prefix + "-tmp-", "-agent"
)

// word is what the agent and the watchdog of one backup say to each other, through two files in its control folder
// (package pairing). The agent says how its replicas are, and listens whether it may push to them at all (S8).
//
// It listens before the first push over each connection and every pace.word from then on. When the standby begins to
// serve, a batch that is under way is finished: it is what prod held when prod was last believed in, and half of it
// would be worse. Nothing is begun after that.
//
// Its methods are safe for concurrent use.
type word struct {
	control string
	log     *slog.Logger
	pace    time.Duration
	id      string                               // of this process, for temporary names
	folders func(now time.Time) []pairing.Folder // on this backup; set before anything runs
	pushed  chan struct{}                        // a batch has been finished

	// The talking task's own, and before it the connecting link's.
	sequence uint64
	resumed  bool
	earlier  map[string]time.Time // what an earlier process knew of each folder: Folder.AsOf

	mu     sync.Mutex
	heard  heard
	unsaid error         // why our own word could not be left
	held   chan struct{} // closed while nothing may be pushed
	free   chan struct{} // closed while something may
}

func newWord(b Backup, log *slog.Logger, pace time.Duration) *word {
	w := &word{
		control: b.Control, log: log, pace: pace, id: strings.ToLower(rand.Text()[:8]), pushed: make(chan struct{}, 1),
		folders: func(time.Time) []pairing.Folder { return nil },
		held:    make(chan struct{}), free: make(chan struct{}),
	}
	close(w.free)
	return w
}

// open connects and listens: who gets the session knows that the watchdog's word is known.
func (l *link) open(ctx context.Context) (*session, error) {
	s, err := connect(ctx, l.backup)
	if err != nil {
		return nil, err
	}
	if err := l.word.begin(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin listens over a new session, and finds out what an earlier process has said.
func (w *word) begin(ctx context.Context, s *session) error {
	if err := w.listen(ctx, s); err != nil {
		return err
	}
	if err := w.resume(ctx, s); fatal(ctx, err) {
		return err
	}
	return nil
}

// talk speaks and listens over each session in turn, until ctx ends.
func (l *link) talk(ctx context.Context) error {
	for {
		s, err := l.await(ctx)
		if err != nil {
			return nil
		}
		err = l.word.exchange(ctx, s)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, sftpipe.ErrConnectionLost) {
			l.log.Warn("closing a connection over which nothing can be said", "err", err)
		}
		s.conn.Close()
		if l.awaitEnd(ctx, s) != nil {
			return nil
		}
	}
}

// exchange speaks and listens until s is of no use any more, and says why.
func (w *word) exchange(ctx context.Context, s *session) error {
	for heard := time.Now(); ; {
		if time.Since(heard) >= w.pace {
			if err := w.listen(ctx, s); err != nil {
				return err
			}
			heard = time.Now()
		}
		if err := w.speak(ctx, s); fatal(ctx, err) {
			return err
		}
		due := time.NewTimer(w.pace - time.Since(heard))
		select {
		case <-ctx.Done():
		case <-due.C:
		case <-s.conn.Done():
			return fmt.Errorf("%w: %w", sftpipe.ErrConnectionLost, s.conn.Err())
		case <-w.pushed:
			sleep(ctx, w.pace/10) // a busy source has many batches a second
		}
		due.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// fatal reports whether err means that nothing more will come over the session.
func fatal(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, sftpipe.ErrConnectionLost) || errors.Is(err, context.DeadlineExceeded))
}

// file is the watchdog's file, as the SFTP server shows it.
func (w *word) file() string { return path.Join(w.control, pairing.WatchdogFile) }

// listen reads the watchdog's word. Its error is fatal to the session; what is wrong with the word is no error.
func (w *word) listen(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	text, err := s.lanes.Small.ReadFile(ctx, w.file(), pairing.MaxSize)
	switch {
	case fatal(ctx, err):
		return fmt.Errorf("read the watchdog's word: %w", err)
	case err == nil:
		w.hear(func(h heard, now time.Time) heard { return h.read(w.file(), text, now) })
	case errors.Is(err, fs.ErrNotExist):
		// No watchdog, or none any more. But a disk that is not mounted has not said so.
		if _, err := s.lanes.Small.Stat(ctx, w.control); fatal(ctx, err) {
			return fmt.Errorf("look at the control folder: %w", err)
		} else if err == nil {
			w.hear(func(heard, time.Time) heard { return heard{} })
		}
	default:
		w.hear(func(h heard, now time.Time) heard { return h.unreadable(w.file(), err, now) })
	}
	return nil
}

// hear takes in news, and opens or closes the gate.
func (w *word) hear(news func(heard, time.Time) heard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	before := w.heard.holds(now)
	w.heard = news(w.heard, now)
	after := w.heard.holds(now)
	switch {
	case before == nil && after != nil:
		w.log.Warn("nothing is pushed from now on", "why", after)
		close(w.held)
		w.free = make(chan struct{})
	case before != nil && after == nil:
		w.log.Info("the standby does not serve; pushing again")
		close(w.free)
		w.held = make(chan struct{})
	}
}

// holds is why nothing may be pushed just now, a *heldError, or nil.
func (w *word) holds() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.holds(time.Now())
}

// whenHeld is closed while nothing may be pushed.
func (w *word) whenHeld() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

// awaitFree returns when something may be pushed again, or the session or ctx has ended.
func (l *link) awaitFree(ctx context.Context, s *session) {
	l.word.mu.Lock()
	free := l.word.free
	l.word.mu.Unlock()
	select {
	case <-free:
	case <-ctx.Done():
	case <-s.conn.Done():
		_ = l.awaitEnd(ctx, s)
	}
}

// state is what is known of the watchdog, and why our own word could not be left.
func (w *word) state() (heard, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard, w.unsaid
}

// finished says that a batch has been.
func (w *word) finished() {
	select {
	case w.pushed <- struct{}{}:
	default:
	}
}

// resume finds out, once, what an earlier process said, for the sequence to go on and for the age of replicas that
// have not been compared yet. What processes and sessions that died left half written is removed.
func (w *word) resume(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	if !w.resumed {
		text, err := s.lanes.Small.ReadFile(ctx, path.Join(w.control, pairing.AgentFile), pairing.MaxSize)
		if err == nil {
			var a pairing.Agent
			if a, err = pairing.DecodeAgent(text); err == nil {
				w.remember(a)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if fatal(ctx, err) {
				return fmt.Errorf("read our earlier word: %w", err)
			}
			w.log.Warn("the age of the replicas is not known until they have been compared", "err", err)
		}
		w.resumed = true
	}
	list, err := s.lanes.Small.ReadDir(ctx, w.control)
	if err != nil {
		return fmt.Errorf("list control folder: %w", err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name, wordTemp) && strings.HasSuffix(e.Name, wordTempEnd) {
			s.lanes.Small.Do(ctx, sftpipe.Remove(path.Join(w.control, e.Name)))
		}
	}
	return nil
}

func (w *word) remember(a pairing.Agent) {
	w.sequence, w.earlier = a.Sequence, map[string]time.Time{}
	for _, f := range a.Folders {
		if f.AsOf != nil {
			w.earlier[f.Name] = *f.AsOf
		}
	}
}

// speak leaves our word. Its failure is remembered for the status, and is an error for the caller to see whether it is
// fatal to the session.
func (w *word) speak(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	err := w.leave(ctx, s.lanes.Small, time.Now().UTC().Round(0))
	w.mu.Lock()
	defer w.mu.Unlock()
	if (err == nil) != (w.unsaid == nil) && !fatal(ctx, err) {
		w.log.Info("word for the watchdog", "left", err == nil, "err", err)
	}
	w.unsaid = err
	return err
}

// leave writes our file. The watchdog may run as any user: the file is for all to read, and holds no secret.
func (w *word) leave(ctx context.Context, c *sftpipe.Client, now time.Time) error {
	w.sequence++
	text, err := pairing.Agent{Sequence: w.sequence, Time: now, Folders: w.say(now)}.Encode()
	if err != nil {
		return err
	}
	// A name of its own each time: what a dying session still does to an earlier one does nothing to this.
	temp := path.Join(w.control, fmt.Sprintf("%s%s-%d%s", wordTemp, w.id, w.sequence, wordTempEnd))
	_, err = c.Upload(ctx, temp, bytes.NewReader(text), sftpipe.Attrs{Has: sftpipe.HasMode, Mode: 0o644})
	if err == nil {
		err = c.Do(ctx, sftpipe.Rename(temp, path.Join(w.control, pairing.AgentFile)))[0]
	}
	if err != nil {
		if !fatal(ctx, err) {
			c.Do(ctx, sftpipe.Remove(temp))
		}
		return fmt.Errorf("leave word for the watchdog: %w", err)
	}
	return nil
}

// say is how the replicas are at the time now. A clock that was set back leaves no time in the future.
func (w *word) say(now time.Time) []pairing.Folder {
	folders := w.folders(now)
	for i, f := range folders {
		if earlier, ok := w.earlier[f.Name]; ok && f.AsOf == nil {
			folders[i].AsOf = &earlier
		}
		for _, t := range []*time.Time{folders[i].AsOf, f.LastChange, f.InSyncSince, f.Compared} {
			if t != nil && t.After(now) {
				*t = now
			}
		}
	}
	return folders
}
