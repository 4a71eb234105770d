package syncagent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"releve/internal/notify"
	"releve/internal/syncagent"
	"releve/pkg/sshjump"
	"releve/test/conftest"
)

func TestLoadConfig(t *testing.T) {
	path := conftest.Copy(t, "testdata/good-design.toml")
	etc := filepath.Dir(path)
	cfg, err := syncagent.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	web := cfg.Folders[0]
	if !web.Filter.Excluded("cache", true) || web.Filter.Excluded("sub/cache", true) || !web.Filter.Excluded("sub/x.swp", false) {
		t.Error("the filter is not that of exclude")
	}
	probe := cfg.Backups[0].Probe
	if probe == nil || probe.Target.URL.String() != "https://www.example.net/" || probe.Target.Address != "home.example.net:443" ||
		probe.Target.Timeout != 10*time.Second || probe.Interval != time.Minute || probe.Failures != 3 {
		t.Errorf("probe: %+v", probe)
	}
	cfg.Folders[0].Filter, cfg.Folders[1].Filter, cfg.Backups[0].Probe = nil, nil, nil
	want := &syncagent.Config{
		StateDir: "/var/lib/releve/syncagent",
		Folders: []syncagent.Folder{
			{
				Name: "webroot", Kind: syncagent.Files, Source: "/var/www/www.example.net", Target: "/srv/replica/webroot",
				Settle: 100 * time.Millisecond, Keep: 7 * 24 * time.Hour, MaxDelete: 100, MaxDeletePercent: 20,
			},
			{ // the same without saying so: these are the defaults
				Name: "letsencrypt", Kind: syncagent.LetsEncrypt, Source: "/etc/letsencrypt", Target: "/srv/replica/letsencrypt",
				Settle: 100 * time.Millisecond, Keep: 7 * 24 * time.Hour, MaxDelete: 100, MaxDeletePercent: 20,
			},
		},
		Backups: []syncagent.Backup{{
			Name: "home",
			Hops: []sshjump.Hop{
				{Name: "bastion", Address: "home.example.net:22", User: "linux", KeyFile: etc + "/bastion_ed25519", KnownHosts: []string{etc + "/known_hosts"}},
				{Name: "backup home", Address: "backup.lan:22", User: "backup", KeyFile: etc + "/backup_ed25519", KnownHosts: []string{etc + "/known_hosts"}},
			},
			Control: "/srv/replica/.releve",
		}},
		Status: syncagent.Status{Socket: "/run/releve/syncagent.sock", Listen: "127.0.0.1:9811"},
		Notify: []notify.Config{{Type: "smtp", To: "me@example.net", From: "syncagent@example.net", Server: "localhost:25"}},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got\n%+v\nwant\n%+v", cfg, want)
	}
}

// What is left out is as the samples say.
func TestConfigDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.toml")
	text := `
[[folder]]
name = "a"
source = "/a"
target = "/a"
[[backup]]
name = "direct"
address = "2001:db8::1"
user = "u"
key = "/k"
key_passphrase_file = "/p"
known_hosts = "/h"
control = "/c"
[backup.probe]
url = "http://www.example.net:8080/"
address = "192.0.2.1"
interval = "2s"
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := syncagent.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.StateDir != "/var/lib/releve/syncagent" || cfg.Status != (syncagent.Status{Socket: "/run/releve/syncagent.sock", Listen: "127.0.0.1:9811"}) ||
		cfg.Folders[0].Kind != syncagent.Files || cfg.Folders[0].Filter.Excluded("x", false) || len(cfg.Notify) != 0 {
		t.Errorf("%+v", cfg)
	}
	b := cfg.Backups[0]
	if len(b.Hops) != 1 || b.Hops[0].Address != "[2001:db8::1]:22" || b.Hops[0].PassphraseFile != "/p" {
		t.Errorf("%+v", b.Hops)
	}
	if b.Probe.Target.Address != "192.0.2.1:8080" || b.Probe.Target.Timeout != 2*time.Second || b.Probe.Failures != 3 {
		t.Errorf("%+v", b.Probe)
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	cfg, err := syncagent.LoadConfig(conftest.Copy(t, "../watchdog/testdata/good-design.toml"))
	if cfg != nil || err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("somebody else's config: %+v, %v", cfg, err)
	}
	path := filepath.Join(t.TempDir(), "x.toml")
	text, err := os.ReadFile(conftest.Copy(t, "testdata/good-design.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\n[[notify]]\ntype = 'webhook'\nurl = 'https://h/swordfish'\ntoken = 'swordfish'\nheaders = { X-Key = 'swordfish' }\n"...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err = syncagent.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Notify[1].Token.Reveal() != "swordfish" || cfg.Notify[1].Headers["X-Key"].Reveal() != "swordfish" {
		t.Error("the secrets were lost")
	}
	if shown := fmt.Sprintf("%+v %#v %v", cfg, cfg, cfg.Notify); strings.Contains(shown, "swordfish") {
		t.Error(shown)
	}
}
