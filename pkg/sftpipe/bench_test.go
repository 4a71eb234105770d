package sftpipe_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"releve/pkg/sftpipe"
)

// BenchmarkSmallFiles uploads files of 6 KiB, renames each into place and, not
// to fill the disk, always over the same few.
func BenchmarkSmallFiles(b *testing.B) {
	for _, workers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			c, dir := openSSH(b), b.TempDir()
			data := content(6<<10, 1)
			attrs := sftpipe.Attrs{Has: sftpipe.HasMode | sftpipe.HasTimes, Mode: 0o644, Mtime: 1_700_000_000}
			var next atomic.Int64
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			work(b, workers, func(ctx context.Context) error {
				i := next.Add(1)
				temp := filepath.Join(dir, fmt.Sprint("t", i))
				if _, err := c.Upload(ctx, temp, bytes.NewReader(data), attrs); err != nil {
					return err
				}
				return c.Do(ctx, sftpipe.Rename(temp, filepath.Join(dir, fmt.Sprint("f", i%1000))))[0]
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}

// work shares b.N calls out to so many goroutines.
func work(b *testing.B, workers int, call func(context.Context) error) {
	b.SetParallelism((workers + 1) / 2) // times GOMAXPROCS
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(b.Context()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkClient is the client's own share of a small upload: the server does nothing.
func BenchmarkClient(b *testing.B) {
	_, c := fakeClient(b, nil)
	data := content(6<<10, 1)
	b.ReportAllocs()
	work(b, 64, func(ctx context.Context) error {
		_, err := c.Upload(ctx, "/f", bytes.NewReader(data), sftpipe.Attrs{Has: sftpipe.HasMode})
		return err
	})
}

// BenchmarkLargeFile writes one large file, over pipes and over SSH.
func BenchmarkLargeFile(b *testing.B) {
	const size = 256 << 20
	for _, over := range []string{"pipes", "ssh"} {
		for _, target := range []string{"file", "null"} {
			b.Run(over+"/"+target, func(b *testing.B) {
				var rwc io.ReadWriteCloser
				if over == "ssh" {
					rwc, _ = viaOpenSSH(b)
				} else {
					rwc = serverPipes(b)
				}
				c, path := connect(b, rwc), filepath.Join(b.TempDir(), "f")
				b.SetBytes(size)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					var f *sftpipe.File
					var err error
					if target == "null" {
						f, err = c.OpenFile(b.Context(), "/dev/null", sftpipe.OpenWrite, sftpipe.Attrs{})
					} else {
						os.Remove(path)
						f, err = c.Create(b.Context(), path)
					}
					if err != nil {
						b.Fatal(err)
					}
					if _, err := f.WriteFrom(b.Context(), io.LimitReader(zeros{}, size), 0); err != nil {
						b.Fatal(err)
					}
					if err := f.Close(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReadDir lists a directory of ten names, from many goroutines.
func BenchmarkReadDir(b *testing.B) {
	c, dir := openSSH(b), b.TempDir()
	for i := range 10 {
		os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600)
	}
	b.ReportAllocs()
	work(b, 64, func(ctx context.Context) error {
		_, err := c.ReadDir(ctx, dir)
		return err
	})
}
