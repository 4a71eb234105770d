package syncagent

import (
	"time"

	"releve/internal/notify"
	"releve/internal/probe"
	"releve/internal/strictconf"
	"releve/internal/tree"
	"releve/pkg/sshjump"
)

// build turns the file into values, and complains to doc about each rule that it breaks. What it gives is of use
// only if nobody complained.
func (f *configFile) build(doc *strictconf.Doc) *Config {
	doc.Path("state_dir", f.StateDir)
	doc.Path("status.socket", f.Status.Socket)
	doc.Listen("status.listen", f.Status.Listen)
	notify.ValidateAll(f.Notify, Events(), doc)
	f.Deadman.Validate(doc, "deadman")
	cfg := &Config{StateDir: f.StateDir, Status: Status(f.Status), Notify: f.Notify, Deadman: f.Deadman}

	if len(f.Folders) == 0 {
		doc.Complain("folder", "is missing; write a [[folder]] with name, source and target")
	}
	names := strictconf.Names{}
	for i, t := range f.Folders {
		key := strictconf.Index("folder", i)
		names.Add(doc, key+".name", t.Name)
		cfg.Folders = append(cfg.Folders, t.build(doc, key))
	}
	if len(f.Backups) == 0 {
		doc.Complain("backup", "is missing; write a [[backup]] that says where to push to")
	}
	names = strictconf.Names{}
	for i, t := range f.Backups {
		key := strictconf.Index("backup", i)
		names.Add(doc, key+".name", t.Name)
		cfg.Backups = append(cfg.Backups, t.build(doc, key))
	}
	f.checkPaths(doc)
	return cfg
}

// checkPaths looks at paths that are good each by itself but not together.
func (f *configFile) checkPaths(doc *strictconf.Doc) {
	var sources, targets []strictconf.KeyedPath
	for i, t := range f.Folders {
		key := strictconf.Index("folder", i)
		sources = append(sources, strictconf.KeyedPath{Key: key + ".source", Path: t.Source})
		targets = append(targets, strictconf.KeyedPath{Key: key + ".target", Path: t.Target})
		if strictconf.Within(f.StateDir, t.Source) {
			doc.Complain("state_dir", "must not lie in %s.source: the agent would push its own records for ever", key)
		}
	}
	doc.Apart(sources, "its files would be pushed twice")
	doc.Apart(targets, "each folder would delete what the other pushed")
	for i, b := range f.Backups {
		control := strictconf.KeyedPath{Key: strictconf.Index("backup", i) + ".control", Path: b.Control}
		for _, t := range targets {
			doc.Apart([]strictconf.KeyedPath{t, control}, "the word of the two daemons and the replica must lie side by side")
		}
	}
}

func (t folderTable) build(doc *strictconf.Doc, key string) Folder {
	if t.Kind != Files && t.Kind != LetsEncrypt {
		doc.Complain(key+".kind", "%q is not a kind; one of %q, %q", t.Kind, Files, LetsEncrypt)
	}
	doc.Path(key+".source", t.Source)
	doc.Path(key+".target", t.Target)
	for i, pattern := range t.Exclude {
		if _, err := tree.ParseFilter([]string{pattern}); err != nil {
			doc.Complain(strictconf.Index(key+".exclude", i), "%v", err)
		}
	}
	filter, _ := tree.ParseFilter(t.Exclude) // good if each pattern is
	strictconf.AtLeast(doc, key+".settle", t.Settle, 0)
	// 100m is soon written for 100ms.
	strictconf.AtMost(doc, key+".settle", t.Settle, strictconf.Duration(time.Minute))
	strictconf.AtLeast(doc, key+".keep", t.Keep, 0)
	strictconf.AtLeast(doc, key+".max_delete", t.MaxDelete, 0)
	strictconf.AtLeast(doc, key+".max_delete_percent", t.MaxDeletePercent, 0)
	strictconf.AtMost(doc, key+".max_delete_percent", t.MaxDeletePercent, 100)
	return Folder{
		Name: t.Name, Kind: t.Kind, Source: t.Source, Target: t.Target, Filter: filter, Settle: t.Settle.D(), Keep: t.Keep.D(),
		MaxDelete: t.MaxDelete, MaxDeletePercent: t.MaxDeletePercent,
	}
}

func (t backupTable) build(doc *strictconf.Doc, key string) Backup {
	b := Backup{Name: t.Name, Control: t.Control}
	doc.Path(key+".control", t.Control)
	if t.Bastion != nil {
		b.Hops = append(b.Hops, t.Bastion.build(doc, key+".bastion", "bastion"))
	}
	b.Hops = append(b.Hops, t.hostTable.build(doc, key, "backup "+t.Name))
	if t.Probe != nil {
		b.Probe = t.Probe.build(doc, key+".probe")
	}
	return b
}

func (t hostTable) build(doc *strictconf.Doc, key, name string) sshjump.Hop {
	hop := sshjump.Hop{
		Name: name, Address: doc.Address(key+".address", t.Address, "22"), User: t.User,
		KeyFile: t.Key, PassphraseFile: t.PassphraseFile, KnownHosts: []string{t.KnownHosts},
	}
	if t.User == "" {
		doc.Complain(key+".user", "is missing; give the account to log in to")
	}
	doc.Path(key+".key", t.Key)
	doc.OptionalPath(key+".key_passphrase_file", t.PassphraseFile)
	doc.Path(key+".known_hosts", t.KnownHosts)
	return hop
}

func (t probeTable) build(doc *strictconf.Doc, key string) *Probe {
	u := doc.URL(key+".url", t.URL)
	const least = strictconf.Duration(100 * time.Millisecond)
	strictconf.AtLeast(doc, key+".interval", t.Interval, least)
	if !doc.Has(key + ".timeout") {
		t.Timeout = min(defaultTimeout, t.Interval)
	} else {
		doc.Timeout(key+".timeout", t.Timeout, t.Interval, least)
	}
	strictconf.AtLeast(doc, key+".failures", t.Failures, 1)
	doc.OptionalPath(key+".ca_file", t.CAFile)
	return &Probe{
		Target: probe.Target{
			URL: u, Address: doc.Address(key+".address", t.Address, strictconf.URLPort(u)), Timeout: t.Timeout.D(),
		},
		CAFile: t.CAFile, Interval: t.Interval.D(), Failures: t.Failures,
	}
}
