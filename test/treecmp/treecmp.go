// Package treecmp compares two real folders, independently of the code under test: it uses path/filepath and package os
// and nothing of ours.
package treecmp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Compare lists how b differs from a: type, bytes, permission, setuid, setgid and sticky bits, modification time in whole
// seconds, link target, and which paths are hard links of one another. Each difference is one line, `"PATH": what`, in the
// order of the paths. What skip says of a name (the last component of a path) is left out with everything below it; a nil skip skips nothing. The error is about
// folders that could not be read.
func Compare(a, b string, skip func(name string) bool) ([]string, error) {
	left, err := read(a, skip)
	if err != nil {
		return nil, err
	}
	right, err := read(b, skip)
	if err != nil {
		return nil, err
	}
	var paths []string
	for p := range left {
		paths = append(paths, p)
	}
	for p := range right {
		if _, both := left[p]; !both {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	linksA, linksB := hardLinks(left), hardLinks(right)
	var diffs []string
	for _, p := range paths {
		l, inLeft := left[p]
		r, inRight := right[p]
		switch {
		case !inRight:
			diffs = append(diffs, fmt.Sprintf("%q: only in %s", p, a))
		case !inLeft:
			diffs = append(diffs, fmt.Sprintf("%q: only in %s", p, b))
		default:
			what, err := differ(filepath.Join(a, p), l, filepath.Join(b, p), r)
			if err != nil {
				return nil, err
			}
			if linked := unlike(linksA[p], linksB[p]); linked != "" {
				what = strings.TrimPrefix(what+", "+linked, ", ")
			}
			if what != "" {
				diffs = append(diffs, fmt.Sprintf("%q: %s", p, what))
			}
		}
	}
	return diffs, nil
}

func read(root string, skip func(string) bool) (map[string]fs.FileInfo, error) {
	found := map[string]fs.FileInfo{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel != "." && skip != nil && skip(d.Name()) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		found[rel], err = d.Info()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read folder: %w", err)
	}
	return found, nil
}

// hardLinks gives, for each file with several names in the folder, all of them in order.
func hardLinks(found map[string]fs.FileInfo) map[string][]string {
	type inode struct{ dev, ino uint64 }
	names := map[inode][]string{}
	for p, info := range found {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
			id := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // narrower on some architectures
			names[id] = append(names[id], p)
		}
	}
	links := map[string][]string{}
	for _, all := range names {
		if len(all) < 2 {
			continue
		}
		slices.Sort(all)
		for _, p := range all {
			links[p] = all
		}
	}
	return links
}

// unlike says how two sets of names of one file differ, if they do.
func unlike(want, have []string) string {
	words := func(names []string) string {
		if len(names) == 0 {
			return "alone"
		}
		return fmt.Sprintf("linked as %q", names)
	}
	if slices.Equal(want, have) {
		return ""
	}
	return words(have) + ", not " + words(want)
}

func differ(a string, l fs.FileInfo, b string, r fs.FileInfo) (string, error) {
	if l.Mode().Type() != r.Mode().Type() {
		return fmt.Sprintf("type %v, not %v", r.Mode().Type(), l.Mode().Type()), nil
	}
	var what []string
	link := l.Mode().Type() == fs.ModeSymlink
	// On Linux a link has no mode of its own.
	if !link && l.Mode() != r.Mode() {
		what = append(what, fmt.Sprintf("mode %v, not %v", r.Mode(), l.Mode()))
	}
	if lt, rt := l.ModTime().Unix(), r.ModTime().Unix(); lt != rt {
		what = append(what, fmt.Sprintf("mtime %d, not %d", rt, lt))
	}
	switch {
	case link:
		lt, err := os.Readlink(a)
		if err != nil {
			return "", err
		}
		rt, err := os.Readlink(b)
		if err != nil {
			return "", err
		}
		if lt != rt {
			what = append(what, fmt.Sprintf("target %q, not %q", rt, lt))
		}
	case l.Mode().IsRegular() && l.Size() != r.Size():
		what = append(what, fmt.Sprintf("size %d, not %d", r.Size(), l.Size()))
	case l.Mode().IsRegular():
		at, err := firstDifference(a, b)
		if err != nil {
			return "", err
		}
		if at >= 0 {
			what = append(what, fmt.Sprintf("content from byte %d on", at))
		}
	}
	return strings.Join(what, ", "), nil
}

// firstDifference is where two files begin to differ, -1 if they do not.
func firstDifference(a, b string) (int64, error) {
	fa, err := os.Open(a)
	if err != nil {
		return 0, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return 0, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for offset := int64(0); ; {
		n, errA := io.ReadFull(fa, bufA)
		m, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			for i := range min(n, m) {
				if bufA[i] != bufB[i] {
					return offset + int64(i), nil
				}
			}
			return offset + int64(min(n, m)), nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, err
			}
		}
		if errA != nil {
			return -1, nil
		}
		offset += int64(n)
	}
}
