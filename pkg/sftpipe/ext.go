package sftpipe

import (
	"context"
	"math/bits"
)

// Lstat gives the attributes of path itself, also of a symbolic link.
func (c *Client) Lstat(ctx context.Context, path string) (Attrs, error) {
	return c.attrs(ctx, opLstat, path)
}

// Stat gives the attributes of what path leads to.
func (c *Client) Stat(ctx context.Context, path string) (Attrs, error) {
	return c.attrs(ctx, opStat, path)
}

func (c *Client) attrs(ctx context.Context, op op, path string) (Attrs, error) {
	v, err := c.one(ctx, c.urgent, Request{op: op, path: path})
	a, _ := v.(Attrs)
	return a, err
}

// Readlink gives what the symbolic link path holds.
func (c *Client) Readlink(ctx context.Context, path string) (string, error) {
	return c.name(ctx, opReadlink, path)
}

// Realpath gives the absolute form of path, with symbolic links resolved where
// the server can.
func (c *Client) Realpath(ctx context.Context, path string) (string, error) {
	return c.name(ctx, opRealpath, path)
}

func (c *Client) name(ctx context.Context, op op, path string) (string, error) {
	v, err := c.one(ctx, c.urgent, Request{op: op, path: path})
	if err != nil {
		return "", err
	}
	return v.([]DirEntry)[0].Name, nil
}

// StatVFS describes a file system, as statvfs(3) does.
type StatVFS struct {
	BlockSize       uint64 // f_bsize, bytes
	FragmentSize    uint64 // f_frsize, bytes: the unit of the three block counts
	Blocks          uint64
	BlocksFree      uint64
	BlocksAvailable uint64 // to users without privileges
	Files           uint64 // inodes
	FilesFree       uint64
	FilesAvailable  uint64
	ID              uint64
	Flags           uint64 // bit 0: read only, bit 1: no setuid
	NameMax         uint64 // bytes of the longest name
}

// Available is how many bytes a user without privileges may still write.
func (s StatVFS) Available() uint64 {
	high, low := bits.Mul64(s.BlocksAvailable, s.FragmentSize)
	if high != 0 {
		return 1<<64 - 1
	}
	return low
}

// StatVFS describes the file system that path is on (statvfs@openssh.com).
func (c *Client) StatVFS(ctx context.Context, path string) (StatVFS, error) {
	v, err := c.one(ctx, c.urgent, Request{op: opStatVFS, path: path})
	if err != nil {
		return StatVFS{}, err
	}
	f := v.([]uint64)
	return StatVFS{f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10]}, nil
}
