package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"releve/test/netlab"
)

// filler is somebody else with files on the replica's disk.
type filler struct {
	dir string // not the replica's, on the same disk
}

// fill takes all the room there is but for so many bytes.
func (f filler) fill(leave int64) error {
	out, err := os.Create(filepath.Join(f.dir, "filler"))
	if err != nil {
		return err
	}
	defer out.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		switch _, err := out.Write(chunk); {
		case errors.Is(err, unix.ENOSPC):
			chunk = chunk[:len(chunk)/2]
		case err != nil:
			return err
		}
	}
	fi, err := out.Stat()
	if err != nil {
		return err
	}
	return out.Truncate(max(0, fi.Size()-leave))
}

// fillNames takes all the names there are, and leaves the room.
func (f filler) fillNames() error {
	dir := filepath.Join(f.dir, "names")
	err := os.Mkdir(dir, 0o755)
	for n := 0; err == nil; n++ {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o644)
	}
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	return err
}

func (f filler) free() error {
	return errors.Join(os.RemoveAll(filepath.Join(f.dir, "filler")), os.RemoveAll(filepath.Join(f.dir, "names")))
}

// small is a siege whose replica lies on a small disk, and somebody else who has files there.
func smallDisk(t *testing.T) (*siege, filler) {
	t.Helper()
	needLab(t)
	p := newPairOn(t, netlab.Options{RTT: 10 * time.Millisecond}, "size=64m,nr_inodes=12000")
	return newSiege(t, p, 60, 800, `keep = "0"`), filler{filepath.Dir(p.replica)}
}

// large has a file appear at once: nobody who writes one for seconds would expect it not to be seen before it is whole.
func (s *siege) large(t *testing.T, name string, size int) {
	t.Helper()
	write(t, s.path(name), string(content(s.r, 0o644, size)), 0o644)
	check(t, os.Rename(s.path(name), filepath.Join(s.source, name)))
}

// namesFull waits until the status names what is wrong.
func (p *pair) namesFull(t *testing.T) {
	t.Helper()
	const noSpace = "no space left on the replica's disk"
	eventually(t, 45*time.Second, 100*time.Millisecond, func() (bool, string) {
		st, err := p.status(t)
		if err != nil {
			return false, err.Error()
		}
		return st.State == "degraded" && strings.Contains(st.Folders[0].LastError, noSpace) &&
			strings.Contains(strings.Join(st.Problems, "\n"), noSpace), fmt.Sprintf("%+v", st)
	})
}

// toldOnce wants the owner to be told of a full disk, and not again while it stays full.
func (p *pair) toldOnce(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, 100*time.Millisecond, func() (bool, string) {
		return p.told("replica_full") > 0, "the owner was not told that the disk is full"
	})
	<-time.After(11 * time.Second) // two more looks of the alarms
	if n := p.told("replica_full"); n != 1 {
		t.Errorf("the owner was told %d times that the disk is full", n)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSiegeFullDisk: somebody else has filled the replica's disk, or fills it and frees it again and again in the midst
// of changes. The status says so, the owner is told once, nothing is torn or lost, and when there is room again
// everything arrives without help.
func TestSiegeFullDisk(t *testing.T) {
	t.Parallel()
	s, other := smallDisk(t)
	check(t, other.fill(0))
	s.change(t, 300)
	s.large(t, "several-megabytes", 3<<20)
	s.namesFull(t)
	s.toldOnce(t)
	check(t, other.free())
	took := s.settles(t, 60*time.Second)
	t.Logf("settled %v after there was room", took.Round(time.Millisecond))

	refused := func() int { return strings.Count(s.agent.Output(), "msg=\"could not push\"") }
	for left := siegeSize("SIEGE_FILLS", 4); left > 0; {
		before := refused()
		changed := s.beside(t, -1, 5*time.Millisecond)
		n := min(left, 10)
		left -= n
		for range n {
			<-time.After(time.Duration(s.between(0.05, 1) * float64(time.Second)))
			check(t, other.fill(int64(s.between(1, 2<<20))))
			<-time.After(time.Duration(s.between(0.05, 1) * float64(time.Second)))
			check(t, other.free())
		}
		changed()
		took = s.settles(t, 90*time.Second)
		t.Logf("filled up and freed %d times in the midst of changes, into which %d files ran: settled after %v", n,
			refused()-before, took.Round(time.Millisecond))
	}
}

// TestSiegeNoNames: there is room on the replica's disk, but not for one more file.
func TestSiegeNoNames(t *testing.T) {
	t.Parallel()
	s, other := smallDisk(t)
	check(t, other.fillNames())
	s.change(t, 300)
	s.namesFull(t)
	s.toldOnce(t)
	check(t, other.free())
	took := s.settles(t, 60*time.Second)
	t.Logf("settled %v after there was room", took.Round(time.Millisecond))
}

// TestSiegeFileTooLarge: a file that does not fit on the replica's disk keeps nothing else away.
func TestSiegeFileTooLarge(t *testing.T) {
	t.Parallel()
	s, _ := smallDisk(t)
	s.large(t, "too-large", 80<<20)
	s.namesFull(t)
	check(t, s.tree.create("small", 100))
	eventually(t, 15*time.Second, 100*time.Millisecond, func() (bool, string) {
		_, err := os.Stat(filepath.Join(s.replica, "small"))
		return err == nil, "what fits does not arrive beside what does not"
	})
	s.toldOnce(t)
	check(t, os.Remove(filepath.Join(s.source, "too-large")))
	took := s.settles(t, 60*time.Second)
	t.Logf("settled %v after it was gone", took.Round(time.Millisecond))
}
