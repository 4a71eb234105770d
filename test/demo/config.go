package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// The configurations hold what this world makes necessary: places, addresses, keys. Everything else, above all every
// interval and limit, is left at its default.

const syncagentTOML = `# What the demo's agent runs with. Everything that is not here has its default.
state_dir = "{dir}/prod/syncagent"

[[folder]]
name   = "webroot"
source = "{webroot}"
target = "/replica/webroot"

[[folder]]
name   = "letsencrypt"
kind   = "letsencrypt"
source = "{letsencrypt}"
target = "/replica/letsencrypt"

[[backup]]
name        = "home"
address     = "{backup}"
user        = "{backup_user}"
key         = "{backup_key}"
known_hosts = "{known_hosts}"
control     = "/replica/.releve"

[backup.bastion]
address     = "{bastion}"
user        = "{bastion_user}"
key         = "{bastion_key}"
known_hosts = "{known_hosts}"

[backup.probe]
url     = "{url}"
address = "{standby}"
ca_file = "{dir}/ca.pem"

[status]
socket = "{dir}/syncagent.sock"
listen = "{syncagent_page}"

[[notify]]
type   = "smtp"
to     = "owner@example.net"
from   = "syncagent@example.net"
server = "{mail}"
`

const watchdogTOML = `# What the demo's watchdog runs with. Everything that is not here has its default.
state_dir = "{dir}/home/watchdog"

[[site]]
name = "www.example.net"
zone = "example.net"
folders = ["webroot", "letsencrypt"]
nameservers = ["{name_server}"]

[site.probe]
url     = "{url}"
prod    = [{prod}]
ca_file = "{dir}/ca.pem"

[site.standby]
address = "{standby}"

[ovh]
endpoint = "{ovh}"
application_key = "{application_key}"
application_secret_file = "{dir}/home/ovh_secret"
consumer_key_file = "{dir}/home/ovh_consumer"

[home]
sources = [{sources}]

[uplink]
references = [{references}]

[replica]
control = "{replica}/.releve"

[[replica.folder]]
name = "webroot"
path = "{replica}/webroot"

[[replica.folder]]
name = "letsencrypt"
path = "{replica}/letsencrypt"

[status]
socket = "{dir}/watchdog.sock"
listen = "{watchdog_page}"

[[notify]]
type     = "ifttt"
event    = "prod_down"
key_file = "{dir}/home/ifttt_key"
url      = "{ifttt}"

[[notify]]
type   = "smtp"
to     = "owner@example.net"
from   = "{watchdog_mail}"
server = "{mail}"
`

// watchdogMail is the sender of the watchdog's mails.
const watchdogMail = "watchdog@example.net"

// pages are where the two status pages are served, HOST:PORT.
type pages struct{ syncagent, watchdog string }

// writeConfigs writes both configuration files and the secrets they name.
func (w *world) writeConfigs() (pages, error) {
	var p pages
	var err error
	if p.syncagent, err = freeAddress(); err != nil {
		return p, err
	}
	if p.watchdog, err = freeAddress(); err != nil {
		return p, err
	}
	if err := os.MkdirAll(w.path("home"), 0o700); err != nil {
		return p, err
	}
	places := strings.NewReplacer(
		"{dir}", w.dir, "{webroot}", w.webroot, "{letsencrypt}", w.letsencrypt, "{replica}", w.replica,
		"{backup}", w.ssh.BackupName, "{backup_user}", w.ssh.BackupUser, "{backup_key}", w.ssh.BackupKey,
		"{bastion}", w.ssh.BastionAddr, "{bastion_user}", w.ssh.BastionUser, "{bastion_key}", w.ssh.BastionKey,
		"{known_hosts}", w.ssh.KnownHosts, "{url}", w.url("/"), "{standby}", w.standby.Addr(),
		"{name_server}", w.nsAddr, "{prod}", quoted(w.prodAddrs()), "{ovh}", w.endpoint, "{application_key}", applicationKey,
		"{sources}", quoted(w.echoes), "{references}", quoted(w.refs), "{ifttt}", w.inbox.iftttURL, "{mail}", w.inbox.mailAddr,
		"{watchdog_mail}", watchdogMail, "{syncagent_page}", p.syncagent, "{watchdog_page}", p.watchdog,
	)
	for name, text := range map[string]string{
		"ca.pem": string(w.ca.PEM()), "home/ovh_secret": applicationSecret, "home/ovh_consumer": consumerKey,
		"home/ifttt_key": iftttKey, "syncagent.toml": places.Replace(syncagentTOML), "watchdog.toml": places.Replace(watchdogTOML),
	} {
		if err := put(w.path(name), []byte(text), 0o600); err != nil {
			return p, err
		}
	}
	return p, nil
}

// url is where visitors find something.
func (w *world) url(path string) string {
	return "https://" + net.JoinHostPort(siteName, w.port) + path
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}

// freeAddress is a free port of this machine. The daemons say which they listen on only in their configuration.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
