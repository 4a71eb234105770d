package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// webTree makes a tree like a web site's: files of log-normal sizes, a tenth as many directories, some links.
func webTree(root string, files int, median, sigma float64) error {
	r := rand.New(rand.NewPCG(1, uint64(files)))
	dirs := []string{root}
	for i := range max(files/10, 1) {
		dir := filepath.Join(dirs[r.IntN(min(len(dirs), 1+files/40))], fmt.Sprintf("d%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		dirs = append(dirs, dir)
	}
	noise := make([]byte, 1<<22)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	const largest = 2 << 20
	for i := range files {
		size := min(int(median*math.Exp(sigma*r.NormFloat64())), largest)
		at := r.IntN(len(noise) - size)
		path := filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprintf("f%d.html", i))
		if err := os.WriteFile(path, noise[at:at+size], 0o644); err != nil {
			return err
		}
		if i%100 == 0 {
			if err := os.Symlink(filepath.Base(path), path+".link"); err != nil {
				return err
			}
		}
	}
	return aged(dirs)
}

// aged gives directories a time in the past, deepest first.
func aged(dirs []string) error {
	for i := len(dirs) - 1; i >= 0; i-- {
		when := time.Unix(1_700_000_000+int64(i), 0)
		if err := os.Chtimes(dirs[i], when, when); err != nil {
			return err
		}
	}
	return nil
}

// flat makes a directory of files that are all of one size.
func flat(dir string, files, size int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(2, uint64(files)))
	data := make([]byte, size)
	for i := range files {
		for j := range data {
			if j%8 == 0 || i == 0 {
				data[j] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// largeFile makes a file that no two MiB of are alike.
func largeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := rand.NewChaCha8([32]byte{byte(size)})
	if _, err := io.CopyN(f, r, size); err != nil {
		return err
	}
	return f.Close()
}
