package push

import (
	"os"
	"path"
	"sync/atomic"

	"releve/internal/tree"
)

// opener opens a source file by its path in the folder, as [tree.Root.OpenFile] does.
type opener func(path string) (*os.File, tree.Entry, error)

// cursor goes through files in the order of their paths, and opens the directory of each once for as many of them as
// follow one another. It belongs to one goroutine; what it gives to others, they give back.
type cursor struct {
	src *tree.Root
	at  *openDir // nil before the first, and where a directory could not be opened
	dir string
}

// to moves on to the file at p. open is for that file alone, and done ends its use.
func (c *cursor) to(p string) (open opener, done func()) {
	if dir := tree.Parent(p); c.at == nil || c.dir != dir {
		c.close()
		c.dir = dir
		if d, err := c.src.OpenDir(dir); err == nil {
			c.at = &openDir{d: d}
			c.at.users.Store(1)
		}
	}
	if c.at == nil {
		return c.src.OpenFile, func() {} // which says what is wrong
	}
	c.at.users.Add(1)
	return c.at.open, c.at.release
}

func (c *cursor) close() {
	if c.at != nil {
		c.at.release()
		c.at = nil
	}
}

// openDir is a directory that is closed when nobody uses it any more.
type openDir struct {
	d     *tree.Directory
	users atomic.Int32
}

func (o *openDir) open(p string) (*os.File, tree.Entry, error) { return o.d.OpenFile(path.Base(p)) }

func (o *openDir) release() {
	if o.users.Add(-1) == 0 {
		o.d.Close()
	}
}
