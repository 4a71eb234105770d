package watch

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const secondLook = 50 // ms

// watchMounts wakes its owner whenever the mount table changes, until ctx ends. See proc_pid_mountinfo(5) and poll(2).
func watchMounts(ctx context.Context, file string, changed chan<- struct{}) {
	// Not an os.File: the Go runtime would poll it too, and whoever polls first takes the notice away.
	mounts, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // the guard's ticks remain
	}
	defer unix.Close(mounts)
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(stop)
	done := make(chan struct{})
	defer func() { <-done }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(done)
		<-ctx.Done()
		unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}()
	fds := []unix.PollFd{
		{Fd: int32(mounts), Events: unix.POLLPRI},
		{Fd: int32(stop), Events: unix.POLLIN},
	}
	signal(changed) // for what happened before the file was opened
	again := -1
	for {
		n, err := unix.Poll(fds, again)
		if err != nil && err != unix.EINTR {
			return
		}
		if ctx.Err() != nil {
			return
		}
		// The notice comes before the change can be seen everywhere, so another look is taken a little later.
		switch {
		case err != nil:
		case n == 0:
			again = -1
			signal(changed)
		case fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0:
			again = secondLook
			signal(changed)
		}
	}
}

// unescapeMount undoes what the kernel does to the white space in a mount point.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mountsBelow lists the mounts strictly below dir, a line each: mount id and mount point, as mountinfo writes them.
func mountsBelow(file, dir string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	prefix := strings.TrimSuffix(dir, "/") + "/"
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount.Replace(fields[4])
		if strings.HasPrefix(point, prefix) {
			out.WriteString(fields[0] + " " + fields[4] + "\n")
		}
	}
	return out.String()
}

// mountsChanged takes in again each directory on which something was mounted, or from which it was unmounted.
func (w *Watcher) mountsChanged() {
	at := w.here()
	if at.err != nil {
		return
	}
	is := mountsBelow(w.kernel.mounts, at.real)
	was := w.mounts
	w.mounts = is
	seen := map[string]int{}
	for line := range strings.Lines(was) {
		seen[line]--
	}
	for line := range strings.Lines(is) {
		seen[line]++
	}
	for line, n := range seen {
		if n == 0 {
			continue
		}
		_, point, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		path, ok := at.relative(unescapeMount.Replace(point))
		if !ok || w.dirs.lookup(parent(path)) == nil {
			continue
		}
		w.nameCame(w.kernel.now(), path)
	}
}
