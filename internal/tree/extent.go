package tree

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// An Extent is a part of a file that holds data, from its first byte to the one after its last.
type Extent struct{ From, To int64 }

// Extents lists the parts of an open file of that size that hold data, by SEEK_DATA and SEEK_HOLE of lseek(2); what lies
// between them reads as zeros and takes up no room. Holes of less than least bytes count as data, and so does all of a file
// whose file system does not tell, or that has more parts than most. The file's offset is 0 afterwards.
//
// What it tells is of the moment: a file that is written to meanwhile shows that as any other does, see [Stat].
func Extents(f *os.File, size, least int64, most int) ([]Extent, error) {
	var all []Extent
	for at := int64(0); at < size; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // none follows
			break
		}
		if err != nil {
			return whole(f, size)
		}
		to, err := f.Seek(from, unix.SEEK_HOLE)
		if err != nil || to <= from {
			return whole(f, size)
		}
		at, to = to, min(to, size)
		switch n := len(all); {
		case from >= size:
		case n > 0 && from-all[n-1].To < least:
			all[n-1].To = to
		case n == most:
			return whole(f, size)
		case from < least:
			all = append(all, Extent{0, to})
		default:
			all = append(all, Extent{from, to})
		}
	}
	if n := len(all); n > 0 && size-all[n-1].To < least {
		all[n-1].To = size
	}
	_, err := f.Seek(0, io.SeekStart)
	return all, err
}

func whole(f *os.File, size int64) ([]Extent, error) {
	_, err := f.Seek(0, io.SeekStart)
	return []Extent{{0, size}}, err
}
