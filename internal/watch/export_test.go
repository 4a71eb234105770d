package watch

import (
	"os"

	"github.com/fsnotify/fsnotify"
)

// A Trick makes the system look poorer than it is.
type Trick func(*kernel)

// NewWith is New on a system that was tampered with.
func NewWith(cfg Config, tricks ...Trick) (*Watcher, error) {
	k := system()
	for _, t := range tricks {
		t(&k)
	}
	return newWatcher(cfg, k)
}

// WithAdd decides which watches can be had.
func WithAdd(allow func(path string) error) Trick {
	return func(k *kernel) {
		k.add = func(f *fsnotify.Watcher, path string) error {
			if err := allow(path); err != nil {
				return err
			}
			return f.Add(path)
		}
	}
}

// WithInstance decides whether an inotify instance can be had.
func WithInstance(allow func() error) Trick {
	return func(k *kernel) {
		k.instance = func() (*fsnotify.Watcher, error) {
			if err := allow(); err != nil {
				return nil, err
			}
			return fsnotify.NewWatcher()
		}
	}
}

// WithoutLeases is a file system that knows none, or a process that may not ask.
func WithoutLeases(err error) Trick {
	return func(k *kernel) {
		k.lease = func(*os.File) (writer, error) { return writerUnknown, err }
	}
}

// WithOpen decides which directories can be read.
func WithOpen(allow func(path string) error) Trick {
	return func(k *kernel) {
		k.open = func(path string) (*os.File, error) {
			if err := allow(path); err != nil {
				return nil, &os.PathError{Op: "open", Path: path, Err: err}
			}
			return os.Open(path)
		}
	}
}

// WithNothing changes nothing.
func WithNothing(*kernel) {}
