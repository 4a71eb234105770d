package sftpipe_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"

	"releve/pkg/sftpipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sftpServer is where Debian puts it; other systems differ.
var sftpServers = []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server"}

// pipes joins the two ends of a process into one connection.
type pipes struct {
	io.Reader
	io.Writer
	close func() error
}

func (p pipes) Close() error { return p.close() }

// serverPipes starts OpenSSH's sftp-server and gives its ends.
func serverPipes(t testing.TB, args ...string) io.ReadWriteCloser {
	t.Helper()
	var path string
	for _, p := range sftpServers {
		if _, err := os.Stat(p); err == nil {
			path = p
		}
	}
	if path == "" {
		t.Skip("OpenSSH's sftp-server is not installed (Debian: openssh-sftp-server)")
	}
	cmd := exec.Command(path, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return pipes{out, in, func() error { return errors.Join(in.Close(), out.Close()) }}
}

// openSSH is a client of OpenSSH's sftp-server.
func openSSH(t testing.TB, args ...string) *sftpipe.Client {
	t.Helper()
	return connect(t, serverPipes(t, args...))
}

// pkgSFTP is a client of the server half of github.com/pkg/sftp.
func pkgSFTP(t testing.TB) *sftpipe.Client {
	t.Helper()
	ours, stop := exampleServer()
	t.Cleanup(stop)
	return connect(t, ours)
}

// exampleServer runs the server half of github.com/pkg/sftp.
func exampleServer() (channel io.ReadWriteCloser, stop func()) {
	ours, theirs := net.Pipe()
	server, err := sftp.NewServer(theirs)
	if err != nil {
		panic(err)
	}
	ended := make(chan struct{})
	go func() { server.Serve(); close(ended) }()
	return ours, func() { theirs.Close(); <-ended }
}

func connect(t testing.TB, rwc io.ReadWriteCloser) *sftpipe.Client {
	t.Helper()
	c, err := sftpipe.NewClient(t.Context(), rwc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// soon is a context that ends long after anything that works has happened.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
