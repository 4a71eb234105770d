package watchdog

import (
	"time"

	"releve/internal/failover"
	"releve/internal/probe"
	"releve/internal/strictconf"
)

// Opinion is whether others are asked what they see of prod before a switch, and whom. The zero Opinion asks nobody.
type Opinion struct {
	Mode    failover.Outside
	Outside probe.Outside // without Roots: the system's
}

type opinionTable struct {
	Mode    string              `toml:"mode"`
	URL     string              `toml:"url"`
	Points  int                 `toml:"points"`
	Timeout strictconf.Duration `toml:"timeout"`
}

func defaultOpinion() opinionTable {
	return opinionTable{Mode: "off", URL: probe.DefaultOutside, Points: 5, Timeout: strictconf.Duration(15 * time.Second)}
}

func (t opinionTable) build(doc *strictconf.Doc, key string) Opinion {
	if t.Mode != "off" && t.Mode != "prefer" && t.Mode != "require" {
		doc.Complain(key+".mode", `%q is not a mode; write "off", "prefer" or "require"`, t.Mode)
	}
	u := doc.URL(key+".url", t.URL)
	switch {
	case u == nil:
	case u.Scheme == "http" && !strictconf.IsLoopback(u.Hostname()):
		doc.Complain(key+".url", "must begin with https://; plain http is for a loopback address only")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "":
		doc.Complain(key+".url", "must end with the host or its port; the rest is the API's")
	}
	strictconf.AtLeast(doc, key+".points", t.Points, 3)
	strictconf.AtMost(doc, key+".points", t.Points, 20)
	strictconf.AtLeast(doc, key+".timeout", t.Timeout, strictconf.Duration(time.Second))
	strictconf.AtMost(doc, key+".timeout", t.Timeout, strictconf.Duration(time.Minute))
	if t.Mode == "off" {
		return Opinion{}
	}
	return Opinion{failover.Outside(t.Mode), probe.Outside{Base: u, Points: t.Points, Timeout: t.Timeout.D()}}
}
