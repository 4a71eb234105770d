package syncagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"releve/internal/push"
	"releve/pkg/sftpipe"
	"releve/pkg/sshjump"
)

const (
	// dialTimeout bounds one attempt to connect: about 18 round trips over two hops.
	dialTimeout = 40 * time.Second
	// penalty is the least pause after a refused login: OpenSSH's PerSourcePenalties locks an address out that keeps
	// failing, the bastion's other users included.
	penalty = 30 * time.Second
)

// session is one live connection to a backup.
type session struct {
	conn  *sshjump.Conn
	lanes push.Lanes
	rtt   time.Duration
	more  *chains
}

// connect dials the backup through its bastion and opens the SFTP channels.
func connect(ctx context.Context, b Backup) (_ *session, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no answer within %v", dialTimeout))
	defer cancel()
	conn, err := sshjump.Dial(ctx, b.Hops...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	s := &session{conn: conn}
	var opening errgroup.Group // not one after the other: each takes four round trips
	for _, lane := range []**sftpipe.Client{&s.lanes.Small, &s.lanes.Bulk} {
		opening.Go(func() (err error) {
			*lane, err = subsystem(ctx, conn)
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		return nil, err
	}
	s.rtt = max(s.lanes.Small.RoundTrip(), s.lanes.Bulk.RoundTrip())
	s.lanes.Near = s.rtt < near
	s.lanes.Parallel = parallel(s.rtt, s.lanes.Small.Limits().MaxHandles)
	s.more = newChains(b.Hops, s.rtt)
	s.lanes.More = s.more.get
	return s, nil
}

// parallel is how many files to keep in flight. At a long round-trip time their number sets the rate; beyond what
// keeps the server busy it only costs the server's time.
func parallel(rtt time.Duration, handles uint64) int {
	n := 256
	if rtt < near {
		n = 96
	}
	const spare = 16 // for listings and probes on the same channel
	if handles > 2*spare {
		n = min(n, int(handles-spare))
	}
	return n
}

func subsystem(ctx context.Context, conn *sshjump.Conn) (*sftpipe.Client, error) {
	channel, err := conn.Subsystem(ctx, "sftp")
	if err != nil {
		return nil, fmt.Errorf("open SFTP: %w", err)
	}
	client, err := sftpipe.NewClient(ctx, channel)
	if err != nil {
		channel.Close()
		return nil, fmt.Errorf("open SFTP: %w", err)
	}
	return client, nil
}

// close ends the session; the outermost connection goes first, which unblocks everything above it.
func (s *session) close() {
	s.conn.Close()
	s.more.close()
	s.lanes.Small.Close()
	s.lanes.Bulk.Close()
}

// link keeps a connection to one backup for as long as the agent runs. Its methods are safe for concurrent use.
type link struct {
	backup Backup
	log    *slog.Logger
	pace   pace
	word   *word

	mu      sync.Mutex
	session *session
	err     error     // why there is no session, once that is known
	since   time.Time // of the present state
	changed chan struct{}
}

func newLink(b Backup, log *slog.Logger) *link {
	log = log.With("backup", b.Name)
	pace := normalPace()
	return &link{backup: b, log: log, pace: pace, word: newWord(b, log, pace.word), since: time.Now(), changed: make(chan struct{})}
}

// run connects, holds the connection until it ends, and connects again, for ever. The bastion's name is resolved at
// each attempt: it follows a changing address.
func (l *link) run(ctx context.Context) error {
	pause := l.pace.retry
	for {
		s, err := l.open(ctx)
		if err == nil {
			l.set(s, nil)
			l.log.Info("connected", "rtt", s.rtt.Round(time.Millisecond/10), "parallel", s.lanes.Parallel)
			began := time.Now()
			err = hold(ctx, s)
			s.close()
			if time.Since(began) > l.pace.retry {
				pause = l.pace.retry // it worked; what broke it may be gone at once
			}
		}
		if ctx.Err() != nil {
			l.set(nil, context.Cause(ctx))
			return nil
		}
		wait := backoff(pause, err)
		l.set(nil, err)
		l.log.Warn("not connected", "err", err, "retry", wait.Round(time.Second/10))
		if !sleep(ctx, wait) {
			return nil
		}
		pause = min(2*pause, l.pace.retryMax)
	}
}

// backoff is pause with jitter, so that a bastion that comes back is not met by everybody at once.
func backoff(pause time.Duration, err error) time.Duration {
	wait := pause/2 + rand.N(pause/2+1)
	var e *sshjump.Error
	if errors.As(err, &e) && (e.Kind == sshjump.Auth || e.Kind == sshjump.HostKey) {
		wait = max(wait, penalty)
	}
	return wait
}

// hold waits for the end of a session and says why it came. A channel that has ended ends the session too: the
// server's process was killed, or its idle limit struck.
func hold(ctx context.Context, s *session) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.conn.Done():
		return s.conn.Err()
	case <-s.lanes.Small.Done():
		return s.lanes.Small.Err()
	case <-s.lanes.Bulk.Done():
		return s.lanes.Bulk.Err()
	}
}

func (l *link) set(s *session, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (s == nil) != (l.session == nil) {
		l.since = time.Now()
	}
	l.session, l.err = s, err
	close(l.changed)
	l.changed = make(chan struct{})
}

// await returns a live session as soon as there is one.
func (l *link) await(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		s, changed := l.session, l.changed
		l.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// awaitEnd returns when s is no longer the link's session.
func (l *link) awaitEnd(ctx context.Context, s *session) error {
	for {
		l.mu.Lock()
		same, changed := l.session == s, l.changed
		l.mu.Unlock()
		if !same {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// state reports whether there is a connection, since when that is so, and why there is none.
func (l *link) state() (connected bool, since time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != nil, l.since, l.err
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
