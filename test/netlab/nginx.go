package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Nginx is an nginx on a host that serves a folder over HTTPS. It may be killed and started again.
type Nginx struct {
	Host             *Host
	Listen           []string // HOST:PORT, "[v6]:PORT"
	Dir              string   // for its configuration, log and temporary files
	Name             string   // of the site
	Root             string   // folder with the content
	Certificate, Key string   // PEM files

	process *Process
}

// NoNginx says why no nginx can be run here, or returns nil.
func NoNginx() error {
	if _, err := exec.LookPath("nginx"); err != nil {
		return errors.New("no nginx (package nginx-light)")
	}
	return nil
}

// Start starts the server.
func (n *Nginx) Start(ctx context.Context) error {
	var listen strings.Builder
	for _, address := range n.Listen {
		fmt.Fprintf(&listen, "\t\tlisten %s ssl;\n", address)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the replica may be for its owner alone
	}
	config := filepath.Join(n.Dir, "nginx.conf")
	text := fmt.Sprintf(`%sdaemon off;
worker_processes 1;
pid %[2]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
	server {
%[3]s		server_name %[4]s;
		root %[5]s;
		ssl_certificate %[6]s;
		ssl_certificate_key %[7]s;
	}
}
`, user, n.Dir, listen.String(), n.Name, n.Root, n.Certificate, n.Key)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	var err error
	if n.process, err = n.Host.Start(ctx, filepath.Join(n.Dir, "nginx.log"), "nginx", "-e", "stderr", "-p", n.Dir, "-c", config); err != nil {
		return err
	}
	if err := n.Host.answers(ctx, n.Listen[0], n.process.Exited()); err != nil {
		return errors.Join(fmt.Errorf("start nginx on %s: %w: %s", n.Host.Name, err, n.process.Output()), n.Kill())
	}
	return nil
}

// Reload tests the configuration and the certificate, and has a running server read them anew: what a hook on the
// standby does.
func (n *Nginx) Reload(ctx context.Context) error {
	if _, err := n.Host.Run(ctx, "nginx", "-t", "-q", "-e", "stderr", "-p", n.Dir, "-c", filepath.Join(n.Dir, "nginx.conf")); err != nil {
		return err
	}
	return n.process.Signal(syscall.SIGHUP)
}

// Kill ends the server at once, its workers too.
func (n *Nginx) Kill() error {
	if n.process == nil {
		return nil
	}
	err := n.process.Kill()
	<-n.process.Exited()
	return err
}
