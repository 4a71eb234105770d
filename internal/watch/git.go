package watch

import (
	"os"
	"sync"
	"time"
)

const (
	lockName = ".git/index.lock"
	lockMax  = 30 * time.Second      // a lock that is older was left behind
	lockLook = 50 * time.Millisecond // between two looks at it
	maxRepos = 256
)

// repos are the git work trees that have been seen. While git changes one of them, half of its
// files are of one commit and half of another; they are kept back until git is done.
type repos struct {
	mu    sync.Mutex
	locks map[string]time.Time // work tree → since when it is locked; zero: it is not
}

func newRepos() *repos { return &repos{locks: map[string]time.Time{}} }

// found notes that a directory holds a ".git".
func (g *repos) found(dir string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.locks[dir]; !ok && len(g.locks) < maxRepos {
		g.locks[dir] = time.Time{}
	}
}

// lost notes that a directory is there no more.
func (g *repos) lost(dir string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.locks, dir)
}

// look returns a function that tells whether a path lies in a work tree git is working on.
func (g *repos) look(root *os.Root, now time.Time) func(path string) bool {
	known := map[string]bool{}
	locked := func(dir string) bool {
		is, asked := known[dir]
		if !asked {
			is = g.locked(root, dir, now)
			known[dir] = is
		}
		return is
	}
	return func(path string) bool {
		for dir := parent(path); ; dir = parent(dir) {
			if locked(dir) {
				return true
			}
			if dir == "." {
				return false
			}
		}
	}
}

func (g *repos) locked(root *os.Root, dir string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	since, ok := g.locks[dir]
	if !ok {
		return false
	}
	if _, err := root.Lstat(dir + "/" + lockName); err != nil {
		g.locks[dir] = time.Time{}
		return false
	}
	if since.IsZero() {
		since = now
		g.locks[dir] = now
	}
	return now.Sub(since) < lockMax
}
