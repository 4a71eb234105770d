package syncagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
	"releve/internal/tree"
	"releve/internal/watch"
	"releve/pkg/sftpipe"
)

const (
	// fullEvery is the pause between two comparisons of everything, whatever the events said: some changes make no
	// event (mmap, another mount), and a replica may be changed behind our back.
	fullEvery = time.Hour
	// recordEvery bounds how much a crash makes the agent forget.
	recordEvery = 30 * time.Second
	// pruneEvery is the pause between two looks into the trash.
	pruneEvery = time.Hour
)

// errDue ends a session's following when the replica has to be listed and compared as after a reconnection: see relistAt.
var errDue = errors.New("a full comparison is due")

// errReread asks for the replica to be listed again: it is not what it was known to be.
var errReread = errors.New("the replica has to be read again")

// engine keeps one folder's replica on one backup equal to its source. Everything but its status belongs to the
// goroutine of run.
type engine struct {
	folder  Folder
	link    *link
	log     *slog.Logger
	memory  *memory
	blocks  blockStore
	id      string // of this process, for temporary names
	pace    pace
	follows int // how often the folder was begun to be followed

	root       *tree.Root
	remembered *plan.Known // what is remembered of the replica, until it is listed
	known      *plan.Known // what it holds, while there is a session
	dirty      bool        // known differs from the record's file
	polled     bool        // some directories cannot be watched: of them a change names the directory alone
	saved      time.Time
	full       time.Time // of the last comparison of everything
	relaxed    time.Time // that comparison's, when its memory was given back
	pruned     time.Time
	busy       bool        // requests may be under way that change the replica
	cutOff     bool        // the last session, or the last process, ended while that was so
	doubts     []time.Time // when to list the replica again because of that
	guard      guard
	notices    notices
	short      uint64   // bytes for which there was no room
	carrier    *carrier // nil where one plan after the other is carried out
	ahead      *ahead   // a look at the source that is under way
	todo       todo
	looked     time.Time        // when the last round began to look at the source
	failed     map[string]error // by path, since it was last tried
	unsettled  map[string]int   // how often in turn a file has changed while it was read

	done progressCount // of the push under way
	wake chan struct{} // an approval is waiting, or a large file has arrived
	beat func()        // a turn of the loop has been completed

	mu       sync.Mutex // guards what other goroutines ask for
	status   folderStatus
	approved []plan.Delete
}

func newEngine(f Folder, l *link, stateDir, id string, log *slog.Logger) *engine {
	e := &engine{
		folder: f,
		link:   l,
		log:    log.With("folder", f.Name, "backup", l.backup.Name),
		memory: newMemory(filepath.Join(stateDir, "record-"+f.Name+"-"+l.backup.Name), f.Source+"\x00"+l.backup.Name+"\x00"+f.Target),
		blocks: blockStore{filepath.Join(stateDir, "blocks-"+f.Name+"-"+l.backup.Name), log.With("folder", f.Name, "backup", l.backup.Name)},
		id:     id,
		pace:   normalPace(),
		failed: map[string]error{}, unsettled: map[string]int{},
		guard: guard{limits: plan.Limits{Count: f.MaxDelete, Percent: f.MaxDeletePercent}},
		wake:  make(chan struct{}, 1),
		beat:  func() {},
	}
	e.status = folderStatus{name: f.Name, backup: l.backup.Name, state: stateWaiting, since: time.Now()}
	return e
}

// run follows the folder for as long as ctx lives. Nothing that happens to the source, the link or the replica ends it.
func (e *engine) run(ctx context.Context) error {
	remembered, err := e.load()
	if err != nil {
		e.log.Warn("starting without a record of the last run; the first comparison goes by size and time", "err", err)
	}
	e.remembered, e.cutOff = remembered, remembered != nil // how the last process ended is not known
	defer e.keep()

	if err := e.reopen(); err != nil { // said before there is any backup to say it to
		e.waiting(err)
		e.log.Error("the source cannot be replicated", "err", err)
	}
	watcher, stop := e.watch(ctx)
	if watcher == nil {
		return nil
	}
	defer stop()

	pause := e.pace.fail
	for ctx.Err() == nil {
		s, err := e.link.await(ctx)
		if err != nil {
			return nil
		}
		began := time.Now()
		err = e.follow(ctx, s, watcher)
		if ctx.Err() != nil {
			return nil
		}
		e.forget()
		if _, held := errors.AsType[*heldError](err); held {
			e.waiting(err)
			e.stand(ctx, s)
			continue
		}
		if errors.Is(err, sftpipe.ErrConnectionLost) {
			e.cutOff = e.cutOff || e.busy
			e.waiting(fmt.Errorf("the connection was lost: %w", err))
			s.conn.Close() // whatever of it is still alive
			if e.link.awaitEnd(ctx, s) != nil {
				return nil
			}
			continue
		}
		if errors.Is(err, errDue) {
			continue
		}
		if time.Since(began) > e.pace.failMax {
			pause = e.pace.fail
		}
		if !errors.Is(err, errReread) {
			e.waiting(err)
		}
		e.log.Warn("comparing everything again", "why", err, "in", pause)
		if !sleep(ctx, pause) {
			return nil
		}
		pause = min(2*pause, e.pace.failMax)
	}
	return nil
}

// load reads what earlier runs have left: of the replica, and of the source.
func (e *engine) load() (*plan.Known, error) {
	remembered, err := e.memory.load()
	e.guard.trusted = e.memory.root
	return remembered, err
}

// watch starts the watcher, as soon as there is a source folder to watch.
func (e *engine) watch(ctx context.Context) (*watch.Watcher, func()) {
	for {
		w, err := watch.New(watch.Config{Root: e.folder.Source, Skip: e.skip, Settle: e.folder.Settle})
		if err == nil {
			ctx, cancel := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() { done <- w.Run(ctx) }()
			return w, func() {
				cancel()
				<-done
				w.Close()
			}
		}
		e.waiting(fmt.Errorf("watch source: %w", err))
		if !sleep(ctx, e.pace.failMax) {
			return nil, nil
		}
	}
}

func (e *engine) skip(p string, dir bool) bool { return e.folder.Filter.Prunes(p, dir) }

// forget keeps of what is known only what a listing can bear out.
func (e *engine) forget() {
	if e.known == nil {
		return
	}
	e.save(time.Now())
	e.remembered = e.known
	e.remembered.Observe(nil)
	e.known = nil
}

// follow makes the replica equal once, by comparing everything, and then carries over each change as it comes. It
// begins nothing while the watchdog's word is that the standby serves.
func (e *engine) follow(ctx context.Context, s *session, watcher *watch.Watcher) error {
	if err := e.link.word.holds(); err != nil {
		return err
	}
	e.doubt(time.Now())
	e.follows++
	r := push.New(s.lanes, e.folder.Target, e.id+"-"+strconv.Itoa(e.follows), e.folder.Keep)
	defer r.Close(ctx)
	e.carrier = newCarrier(ctx, r, e.nudge)
	defer e.carrier.close()
	defer e.dropAhead()
	if err := e.begin(ctx, r); err != nil {
		return err
	}
	for {
		if err := e.link.word.holds(); err != nil {
			return err
		}
		e.takeApproved()
		if err := e.takeCarried(r); err != nil {
			return err
		}
		if err := e.round(ctx, r); err != nil {
			return err
		}
		if err := e.upkeep(ctx, r); err != nil {
			return err
		}
		if e.todo.due(time.Now()) {
			continue
		}
		e.busy = e.carrier.pending() > 0
		if err := e.wait(ctx, s, watcher); err != nil {
			return err
		}
		e.busy = true
	}
}

// begin opens the source and learns what the replica holds.
func (e *engine) begin(ctx context.Context, r *push.Replica) (err error) {
	e.set(stateSyncing)
	e.busy = true
	defer func() {
		if err != nil {
			e.dropAhead()
		}
	}()
	if err := e.lookAhead(ctx); err != nil {
		return err
	}
	if err := r.Check(ctx); err != nil {
		return err
	}
	if e.remembered != nil {
		r.Adopt(e.remembered.Laid())
	}
	listed, err := r.Read(ctx, e.folder.Filter)
	if err != nil {
		return err
	}
	if e.remembered != nil {
		e.remembered.Recall(listed)
	}
	e.remembered = nil
	e.known = plan.NewKnown(listed)
	if err := e.memory.follow(e.known); err != nil {
		e.log.Warn("after a crash the first comparison will be slow", "err", err)
	}
	r.Adopted(e.known)
	r.Before(e.memory.flush)
	r.Remember(e.blocks)
	e.full = time.Time{}
	e.todo.everything()
	return nil
}

// reopen opens the source folder anew: its path may lead to another directory now.
func (e *engine) reopen() error {
	root, err := tree.Open(e.folder.Source)
	if err != nil {
		return err
	}
	if e.root != nil {
		e.root.Close()
	}
	e.root = root
	resolved, err := filepath.EvalSymlinks(e.folder.Source)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	dev, ino := root.ID()
	e.guard.rootSeen(rootID{resolved, dev, ino, root.Born()})
	return nil
}

// wait blocks until something has changed, something is due, or the session has ended.
func (e *engine) wait(ctx context.Context, s *session, watcher *watch.Watcher) error {
	status := watcher.Status()
	e.polled = status.Polled > 0
	e.watched(status)
	next := e.todo.next(e.relistAt(time.Now()))
	if again := time.Now().Add(e.pace.failMax); e.status.unkept && again.Before(next) {
		next = again
	}
	waiting, cancel := context.WithDeadline(ctx, next)
	defer cancel()
	stop := make(chan struct{})
	var interrupt sync.WaitGroup // or it would take an approval with it
	defer interrupt.Wait()
	defer close(stop)
	interrupt.Go(func() {
		select {
		case <-s.conn.Done():
		case <-s.lanes.Small.Done():
		case <-s.lanes.Bulk.Done():
		case <-e.wake:
		case <-e.link.word.whenHeld():
		case <-stop:
		}
		cancel()
	})
	began := time.Now()
	changes, err := e.next(waiting, watcher)
	e.waited(began, time.Now())
	if err == nil {
		e.todo.add(changes)
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if waiting.Err() == nil {
		return fmt.Errorf("watch source: %w", err)
	}
	if lost := sessionError(s); lost != nil {
		return lost
	}
	return nil
}

// sessionError says why s has ended, or nil while it lives.
func sessionError(s *session) error {
	for _, end := range []struct {
		done <-chan struct{}
		err  func() error
	}{{s.conn.Done(), s.conn.Err}, {s.lanes.Small.Done(), s.lanes.Small.Err}, {s.lanes.Bulk.Done(), s.lanes.Bulk.Err}} {
		select {
		case <-end.done:
			return fmt.Errorf("%w: %w", sftpipe.ErrConnectionLost, end.err())
		default:
		}
	}
	return nil
}

// upkeep saves the record and prunes the trash from time to time.
func (e *engine) upkeep(ctx context.Context, r *push.Replica) error {
	now := time.Now()
	if now.Sub(e.saved) > recordEvery {
		e.save(now)
	}
	if err := e.makeRoom(ctx, r, now); err != nil {
		return err
	}
	if now.Sub(e.pruned) < pruneEvery {
		return nil
	}
	e.pruned = now
	if err := e.blocks.prune(e.known, now); err != nil {
		e.log.Warn("could not remove old block hashes", "err", err)
	}
	if err := r.Prune(ctx, now); err != nil {
		if errors.Is(err, sftpipe.ErrConnectionLost) {
			return err
		}
		e.log.Warn("could not prune the trash", "err", err)
	}
	return nil
}

// save writes the record, if anything has changed.
func (e *engine) save(now time.Time) {
	if e.known == nil || !e.dirty && len(e.known.Expected())+len(e.known.Laid()) == 0 && e.memory.root.same(e.guard.trusted) {
		return
	}
	e.saved = now
	if err := e.memory.save(e.guard.trusted, e.known); err != nil {
		e.log.Warn("could not save the record; after a restart the first comparison goes by size and time", "err", err)
		return
	}
	e.dirty = false
}

// keep saves what is known at the end of a run.
func (e *engine) keep() {
	e.save(time.Now())
	if err := e.memory.close(); err != nil {
		e.log.Warn("could not keep the journal", "err", err)
	}
}
