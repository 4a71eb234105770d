package sshworld_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"releve/pkg/sftpipe"
	"releve/test/sshworld"
)

// What a client that pipelines does must come out alike on both servers: among
// them the extensions of which pkg/sftp's client knows nothing.
func TestPipelined(t *testing.T) {
	for name, command := range map[string][]string{"builtin": nil, "openssh": {sshworld.SFTPServer}} {
		t.Run(name, func(t *testing.T) {
			if command != nil {
				if _, err := os.Stat(command[0]); err != nil {
					t.Skipf("needs OpenSSH's SFTP server: %v", err)
				}
			}
			w := start(t, sshworld.Options{Command: command})
			ctx := t.Context()
			channel, err := dial(t, w).Subsystem(ctx, "sftp")
			if err != nil {
				t.Fatal(err)
			}
			c, err := sftpipe.NewClient(ctx, channel)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if l := c.Limits(); l.MaxWrite != 261120 {
				t.Errorf("limits %+v", l)
			}
			text := bytes.Repeat([]byte("relief"), 100_000)
			attrs := sftpipe.Attrs{Has: sftpipe.HasMode | sftpipe.HasTimes, Mode: 0o2751, Atime: 1, Mtime: 1234567890}
			if n, err := c.Upload(ctx, w.Remote("temp"), bytes.NewReader(text), attrs); n != int64(len(text)) || err != nil {
				t.Fatal(n, err)
			}
			for i, err := range c.Do(ctx,
				sftpipe.Symlink("gone", w.Remote("link")),
				sftpipe.Lsetstat(w.Remote("link"), sftpipe.Attrs{Has: sftpipe.HasTimes, Mtime: 42}),
				sftpipe.Hardlink(w.Remote("temp"), w.Remote("kept")),
				sftpipe.Rename(w.Remote("temp"), w.Remote("final")),
			) {
				if err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			}
			for _, name := range []string{"final", "kept"} {
				info, err := os.Lstat(filepath.Join(w.Root, name))
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode() != 0o751|os.ModeSetgid || info.ModTime().Unix() != 1234567890 || info.Size() != int64(len(text)) {
					t.Errorf("%s: %v %v %d", name, info.Mode(), info.ModTime(), info.Size())
				}
			}
			from, err := c.OpenFile(ctx, w.Remote("final"), sftpipe.OpenRead, sftpipe.Attrs{})
			if err != nil {
				t.Fatal(err)
			}
			to, err := c.Create(ctx, w.Remote("copy"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.CopyData(ctx, from, 6, 12, to, 3); err != nil {
				t.Fatal(err)
			}
			if err := c.CopyData(ctx, from, 599_990, 0, to, 15); err != nil { // to the end
				t.Fatal(err)
			}
			if text, err := os.ReadFile(filepath.Join(w.Root, "copy")); string(text) != "\x00\x00\x00reliefrelief"+"liefrelief" || err != nil {
				t.Errorf("copied %q, %v", text, err)
			}
			info, err := os.Lstat(filepath.Join(w.Root, "link"))
			if err != nil {
				t.Fatal(err)
			}
			if info.ModTime().Unix() != 42 {
				t.Errorf("link: %v", info.ModTime())
			}
		})
	}
}
