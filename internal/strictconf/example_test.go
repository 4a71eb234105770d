package strictconf_test

import (
	"fmt"

	"releve/internal/strictconf"
)

// A program's own rules complain to the same document, so that one reading of the file says all that is wrong with it.
func Example() {
	var cfg struct {
		Interval strictconf.Duration `toml:"interval"`
		Servers  []struct {
			Address string            `toml:"address"`
			Token   strictconf.Secret `toml:"token"` // or token_file
		} `toml:"server"`
	}
	doc := strictconf.Parse("x.toml", []byte(`
Interval = "5s"

[[server]]
address = "one.example.net:443"
token   = "swordfish"

[[server]]
address = "two.example.net"
tokenn  = "swordfish"
`), &cfg)
	for i, s := range cfg.Servers {
		doc.Address(strictconf.Index("server", i)+".address", s.Address, "")
	}
	fmt.Println(doc.Err())
	fmt.Println(cfg.Servers[0])
	// Output:
	// x.toml:2: Interval: unknown key; did you mean "interval"?
	// x.toml:9: server[1].address: "two.example.net" is not HOST:PORT: it has no port
	// x.toml:10: server[1].tokenn: unknown key; did you mean "token"?
	// {one.example.net:443 (redacted)}
}
