package watch

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A kernel is what of the system the tests replace, to run out of things.
type kernel struct {
	instance func() (*fsnotify.Watcher, error)
	add      func(*fsnotify.Watcher, string) error
	open     func(string) (*os.File, error)
	lease    func(*os.File) (writer, error)
	mounts   string // mountinfo file
	now      func() time.Time
}

func system() kernel {
	return kernel{
		instance: fsnotify.NewWatcher,
		add:      func(f *fsnotify.Watcher, path string) error { return f.Add(path) },
		open:     os.Open,
		lease:    leaseWriter,
		mounts:   "/proc/self/mountinfo",
		now:      time.Now,
	}
}

var errNoInstance = errors.New("no inotify instance")

// An instance is one inotify instance with all its watches. A nil instance is one that could not be had. Its
// errors are read by a goroutine that does nothing else: fsnotify sends some of them while it holds the lock
// that Add, Remove and Close wait for.
type instance struct {
	fs     *fsnotify.Watcher
	addFn  func(*fsnotify.Watcher, string) error
	lost   chan struct{} // holds a token after events were lost
	reader sync.WaitGroup
}

func (k kernel) newInstance() (*instance, error) {
	f, err := k.instance()
	if err != nil {
		return nil, err
	}
	in := &instance{fs: f, addFn: k.add, lost: make(chan struct{}, 1)}
	in.reader.Go(func() {
		for err := range f.Errors {
			// Any other error is of a single watch, and has its event: "invalid argument" is a directory
			// that was moved and then deleted.
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				signal(in.lost)
			}
		}
	})
	return in, nil
}

func (in *instance) events() <-chan fsnotify.Event {
	if in == nil {
		return nil
	}
	return in.fs.Events
}

func (in *instance) overflowed() <-chan struct{} {
	if in == nil {
		return nil
	}
	return in.lost
}

func (in *instance) add(path string) error {
	if in == nil {
		return errNoInstance
	}
	return in.addFn(in.fs, path)
}

func (in *instance) remove(path string) {
	if in != nil {
		in.fs.Remove(path) // an error says that the watch is gone already, which is what is wanted
	}
}

func (in *instance) close() {
	if in == nil {
		return
	}
	in.fs.Close()
	in.reader.Wait()
}
