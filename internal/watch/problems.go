package watch

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const limitsDir = "/proc/sys/fs/inotify/"

// problems is what keeps the folder from being watched as it should.
type problems struct {
	root     error // there is no folder
	instance error // there is no inotify
	limit    bool  // there are no watches left
	aliases  int   // directories that are known under another path
	first    error // the first directory that cannot be watched for another reason
	others   int   // and how many there are
}

// unwatched notes why a directory is polled.
func (w *Watcher) unwatched(path string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch p := &w.problems; {
	case errors.Is(err, errNoInstance):
	case errors.Is(err, errAlias):
		p.aliases++
	case errors.Is(err, unix.ENOSPC):
		p.limit = true
	default:
		if p.others == 0 {
			p.first = fmt.Errorf("%q: %w", path, err)
		}
		p.others++
	}
}

// sentences tells the owner what is wrong and what to do about it.
func (p *problems) sentences(s Status, cfg Config) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if p.root != nil {
		say("the folder %s cannot be watched: %v", cfg.Root, p.root)
		return out
	}
	pace := max(cfg.PollInterval, pollLeast*time.Duration(s.Polled))
	if p.instance != nil {
		say("no inotify instance can be had (%v): raise the sysctl fs.inotify.max_user_instances, now %s; until then all %d directories of %s are read every %v instead",
			p.instance, sysctl("max_user_instances"), s.Polled, cfg.Root, pace)
		return out
	}
	if p.limit && s.Polled > p.aliases {
		now := sysctl("max_user_watches")
		say("inotify has no watches left: raise the sysctl fs.inotify.max_user_watches, now %s, by at least %d; until then %d directories of %s are read every %v instead",
			now, s.Polled, s.Polled, cfg.Root, pace)
	}
	if p.others > 0 && s.Polled > 0 {
		say("%d directories of %s cannot be watched, the first is %v; they are read every %v instead", p.others, cfg.Root, p.first, pace)
	}
	return out
}

func sysctl(name string) string {
	text, err := os.ReadFile(limitsDir + name)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
