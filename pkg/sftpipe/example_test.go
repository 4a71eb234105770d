package sftpipe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"releve/pkg/sftpipe"
)

// Replace some files of a web site: upload all of them side by side under
// temporary names, then rename all of them in one flight.
func Example() {
	files := map[string]string{"index.html": "<h1>Hello</h1>", "style.css": "h1 { color: teal }"}
	replace := func(ctx context.Context, channel io.ReadWriteCloser, dir string) error {
		// channel is an SSH channel that runs the "sftp" subsystem.
		client, err := sftpipe.NewClient(ctx, channel)
		if err != nil {
			return err
		}
		defer client.Close()

		attrs := sftpipe.Attrs{Has: sftpipe.HasMode | sftpipe.HasTimes, Mode: 0o644, Mtime: 1_700_000_000}
		results := make(chan error)
		var renames []sftpipe.Request
		for name, text := range files {
			temp := path.Join(dir, ".new."+name)
			go func() {
				_, err := client.Upload(ctx, temp, strings.NewReader(text), attrs)
				results <- err
			}()
			renames = append(renames, sftpipe.Rename(temp, path.Join(dir, name)))
		}
		var errs []error
		for range files {
			errs = append(errs, <-results)
		}
		if err := errors.Join(errs...); err != nil {
			return err // nothing was published
		}
		return errors.Join(client.Do(ctx, renames...)...)
	}

	channel, stop := exampleServer()
	defer stop()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	if err := replace(context.Background(), channel, dir); err != nil {
		fmt.Println(err)
		return
	}
	names, _ := os.ReadDir(dir)
	for _, name := range names {
		info, _ := name.Info()
		fmt.Println(info.Mode(), name.Name(), info.Size(), "bytes")
	}
	// Output:
	// -rw-r--r-- index.html 14 bytes
	// -rw-r--r-- style.css 18 bytes
}
