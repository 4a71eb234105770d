// Package watch turns inotify noise into "these paths may have changed".
//
// A [Watcher] follows one folder, recursively. What it hands out are hints, never facts: each path it names
// must be looked at by the caller, and whenever it cannot be sure of the details (inotify's queue overflowed, the
// folder was swapped for another one, far too much is waiting) it says so by naming a whole subtree, or everything.
// What it promises is that nothing is forgotten: a directory is named only after its watch stands, so that
// whatever the caller then fails to see is reported again.
//
// It follows inotify(7), through fsnotify, and fcntl_locking(2)'s leases, by which Linux tells that a file has no writer left.
package watch

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to watch.
type Config struct {
	// Root is the folder, as an absolute path. It may be, or lead through, symbolic links;
	// when one of them changes its target, the new folder is watched.
	Root string

	// Skip tells what not to watch or report; nil skips nothing. The path is relative to Root. It is called by several
	// goroutines at once. A skipped directory costs no watch, and nothing below it is asked about. Of a path that
	// has vanished the type is not known any more: it is reported unless both answers are yes.
	Skip func(path string, dir bool) bool

	// Settle is how long a file must have been left alone where the kernel cannot
	// tell whether its writer is done (default 100 ms).
	Settle time.Duration

	// MaxWait bounds how long a file that is being written all the time is kept back (default 10 s). Of one of up to
	// 1 MiB, which costs less to read and send, it is a fifth.
	MaxWait time.Duration

	// PollInterval is the pause between two readings of a directory that could not be watched (default 5 s;
	// longer when there are very many).
	PollInterval time.Duration

	// GuardInterval is the pause between two checks that Root still is the folder being watched (default 2 s).
	GuardInterval time.Duration
}

// Changes names what may have changed. Paths are relative to the root, slash-separated, raw bytes; "." is the root itself.
type Changes struct {
	// All says that anything may have changed; the other lists, but for Busy, are empty then. Reason says why, for a human.
	All    bool
	Reason string

	// Paths have changed, appeared or vanished: each itself, not what lies below it. Of a directory that may be
	// its attributes, and what lies directly in it. One that has vanished, or is no directory any more, has taken along what was below it.
	Paths []string

	// Subtrees have changed, appeared or vanished: each and anything below it. None lies within another.
	Subtrees []string

	// Busy are files, at or below Subtrees or anywhere under All, that somebody was writing when they were last
	// looked at. Each is named again when its writer is done, and may be left alone until then.
	Busy []string
}

// Status tells how well the folder is watched.
type Status struct {
	Watches  int      // directories watched by inotify
	Polled   int      // directories read from time to time instead
	Problems []string // sentences for the owner
}

// ErrClosed is what Next returns once the Watcher is closed.
var ErrClosed = errors.New("watch: closed")

const (
	defaultSettle        = 100 * time.Millisecond
	defaultMaxWait       = 10 * time.Second
	defaultPollInterval  = 5 * time.Second
	defaultGuardInterval = 2 * time.Second
)

// A Watcher follows one folder. Run must be running for it to notice anything; Next and Status may be called from other
// goroutines.
type Watcher struct {
	cfg    Config
	kernel kernel
	queue  *queue
	judge  *judge

	// Only the goroutine in New, and then Run's, touches these.
	inotify *instance
	dirs    *dirs
	polled  pollList
	rebuilt time.Time     // when the watches were last set up from nothing
	took    time.Duration // and how long that took
	mounts  string        // the mounts at or below the root

	watches, polls atomic.Int64
	check          chan struct{} // Next doubts that the folder is still the same

	mu       sync.Mutex
	root     root // what is being watched
	problems problems

	running atomic.Bool // or closed: the watches belong to somebody else than the caller of Close
	closing sync.Once
	closed  chan struct{}
}

// New sets the watches up. When it returns without error, whatever happens from now on will be reported, so that a caller
// who reads the folder once after New, and then what Next names, misses nothing. A folder that is not
// there yet is waited for. Errors mean that cfg is wrong.
func New(cfg Config) (*Watcher, error) { return newWatcher(cfg, system()) }

func newWatcher(cfg Config, k kernel) (*Watcher, error) {
	if !filepath.IsAbs(cfg.Root) {
		return nil, errors.New("watch " + cfg.Root + ": not an absolute path")
	}
	cfg.Root = filepath.Clean(cfg.Root)
	if cfg.Skip == nil {
		cfg.Skip = func(string, bool) bool { return false }
	}
	orDefault(&cfg.Settle, defaultSettle)
	orDefault(&cfg.MaxWait, defaultMaxWait)
	orDefault(&cfg.PollInterval, defaultPollInterval)
	orDefault(&cfg.GuardInterval, defaultGuardInterval)
	w := &Watcher{
		cfg:    cfg,
		kernel: k,
		queue:  newQueue(maxPaths, maxSubtrees),
		check:  make(chan struct{}, 1),
		closed: make(chan struct{}),
	}
	w.judge = &judge{settle: cfg.Settle, maxWait: cfg.MaxWait, skip: cfg.Skip, repos: newRepos(), began: time.Now(), lease: k.lease}
	w.setUp()
	return w, nil
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Next waits until something has settled and returns all that has. One quiet file comes at once; a burst of changes comes
// together, when it is over. The error is that of ctx, or [ErrClosed].
func (w *Watcher) Next(ctx context.Context) (Changes, error) {
	return w.queue.next(ctx, w.closed, w.look)
}

// look judges one round of dirty paths against the folder as it is now.
func (w *Watcher) look(now time.Time, r *round) {
	w.mu.Lock()
	was := w.root
	w.mu.Unlock()
	at, err := was.open()
	if err != nil {
		// The folder is not the one that was watched: its paths mean nothing. Run will say All.
		r.postpone(now.Add(w.cfg.GuardInterval))
		signal(w.check)
		return
	}
	defer at.Close()
	w.judge.look(at, now, r)
}

// Status may be called at any time.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{Watches: int(w.watches.Load()), Polled: int(w.polls.Load())}
	s.Problems = w.problems.sentences(s, w.cfg)
	return s
}

// Close ends Run and Next, and gives the watches back. It always returns nil. A Watcher whose Run has ended is closed.
func (w *Watcher) Close() error {
	w.closing.Do(func() { close(w.closed) })
	if w.running.CompareAndSwap(false, true) {
		w.inotify.close()
	}
	return nil
}

// signal wakes the receiver of a channel that holds one token, unless it is already being woken.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
