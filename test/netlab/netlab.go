// Package netlab builds the network of a small self-hoster out of network namespaces, see ip-netns(8), and runs real
// servers in them: OpenSSH's sshd, nginx and whatever else. It is for the end-to-end tests and the benchmarks, and needs
// no testing.TB.
//
//	prod ------- internet ==WAN== home ------- backup
//	203.0.113.10                  5.39.80.7    192.168.1.20
//	2001:db8::10                  192.168.1.1
//
// home is the box and the bastion. It alone knows the name backup.lan, and forwards no packet, unless [Options.NAT]
// makes it an ordinary home router: everything out by address translation, and nothing in but ports 80 and 443, which
// go to backup. prod never reaches backup directly. The internet routes, and has room for the servers of a test on
// addresses of its own, see [Options.Addresses].
package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"releve/test/netlab/wanlink"
)

// The addresses of the laboratory. Home's is none that the world could not reach: the watchdog would refuse it.
const (
	ProdIPv4   = "203.0.113.10"
	ProdIPv6   = "2001:db8::10"
	HomeIPv4   = "5.39.80.7"
	BastionLAN = "192.168.1.1"
	BackupIPv4 = "192.168.1.20"
	BackupName = "backup.lan"       // known on home alone
	HomeName   = "home.example.net" // known on prod
	prefix     = "releve-lab-"      // of everything of ours that has a name outside; our process id follows
)

// ErrUnavailable is what New's error matches where this machine cannot have a laboratory; its text says why.
var ErrUnavailable = errors.New("no network laboratory")

// Unavailable says why this machine cannot have a laboratory, or returns nil.
func Unavailable() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: no root, so no network namespaces", ErrUnavailable)
	}
	for program, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: no %s(8) (package %s)", ErrUnavailable, program, pkg)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("%w: no /dev/net/tun", ErrUnavailable)
	}
	// A container's root may not be allowed to.
	probe := own("probe")
	if out, err := exec.Command("ip", "netns", "add", probe).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: no network namespaces: %s", ErrUnavailable, strings.TrimSpace(string(out)))
	}
	// In one of its own the root directory may be no mount, which ip needs.
	if out, err := exec.Command("ip", "-n", probe, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%w: no use of network namespaces: %s", ErrUnavailable, strings.TrimSpace(string(out))), remove(probe))
	}
	return remove(probe)
}

// Options shape a laboratory. The zero value is a home that forwards nothing and a WAN without delay.
type Options struct {
	RTT time.Duration // of the WAN
	NAT bool          // home is a router for backup
	// Resolver is the address of the name server of prod, backup and the internet; "" = none.
	Resolver string
	// Account counts the processor time of each host, where the kernel can; see [Host.CPU].
	Account bool
	// Addresses are more addresses of the internet, for the test's servers.
	Addresses []string
}

// Lab is a laboratory that stands until Close.
type Lab struct {
	Prod, Internet, Home, Backup *Host
	WAN                          *wanlink.Link
	hosts                        []*Host
}

// New builds a laboratory. name distinguishes it from others at the same time: a few letters and digits.
func New(ctx context.Context, name string, opts Options) (_ *Lab, err error) {
	l := &Lab{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("build laboratory %s: %w", name, err), l.Close())
		}
	}()
	for _, h := range []struct {
		host **Host
		name string
	}{{&l.Prod, "prod"}, {&l.Internet, "internet"}, {&l.Home, "home"}, {&l.Backup, "backup"}} {
		*h.host = &Host{Name: h.name, netns: own(name + "-" + h.name)}
		if err := run(ctx, "ip netns add "+(*h.host).netns); err != nil {
			return nil, err
		}
		l.hosts = append(l.hosts, *h.host)
		if err := run(ctx, "ip -n "+(*h.host).netns+" link set lo up"); err != nil {
			return nil, err
		}
	}
	for _, h := range l.hosts {
		if opts.Account {
			_ = h.account() // its CPU says that it is not
		}
	}
	if err := l.wire(ctx); err != nil {
		return nil, err
	}
	l.WAN.SetDelay(opts.RTT / 2)
	for _, a := range opts.Addresses {
		if err := run(ctx, "ip -n "+l.Internet.netns+" address add "+a+"/32 dev lo"); err != nil {
			return nil, err
		}
	}
	if opts.NAT {
		if err := l.translate(ctx); err != nil {
			return nil, err
		}
	}
	return l, l.names(opts.Resolver)
}

// wire makes the links and the routes.
func (l *Lab) wire(ctx context.Context) error {
	prod, internet, home, backup := l.Prod.netns, l.Internet.netns, l.Home.netns, l.Backup.netns
	var ends [2]*os.File
	for i, h := range []*Host{l.Internet, l.Home} {
		err := h.Do(func() (err error) {
			ends[i], err = wanlink.Open("wan")
			return err
		})
		if err != nil {
			if i == 1 {
				ends[0].Close()
			}
			return err
		}
	}
	l.WAN = wanlink.Join(ends[0], ends[1])
	return run(ctx,
		"ip link add net0 netns "+prod+" type veth peer name prod netns "+internet,
		"ip -n "+prod+" address add "+ProdIPv4+"/24 dev net0",
		"ip -n "+prod+" address add "+ProdIPv6+"/64 dev net0 nodad",
		"ip -n "+prod+" link set net0 up",
		"ip -n "+internet+" address add 203.0.113.1/24 dev prod",
		"ip -n "+internet+" address add 2001:db8::1/64 dev prod nodad",
		"ip -n "+internet+" link set prod up",
		"ip -n "+prod+" route add default via 203.0.113.1",
		"ip -n "+prod+" route add default via 2001:db8::1",

		"ip -n "+internet+" link set wan up mtu 1500",
		"ip -n "+internet+" route add "+HomeIPv4+"/32 dev wan",
		"ip -n "+home+" address add "+HomeIPv4+"/32 dev wan",
		"ip -n "+home+" link set wan up mtu 1500",
		"ip -n "+home+" route add default dev wan",

		"ip link add lan0 netns "+home+" type veth peer name net0 netns "+backup,
		"ip -n "+home+" address add "+BastionLAN+"/24 dev lan0",
		"ip -n "+home+" link set lan0 up",
		"ip -n "+backup+" address add "+BackupIPv4+"/24 dev net0",
		"ip -n "+backup+" link set net0 up",
		"ip -n "+backup+" route add default via "+BastionLAN,

		"ip netns exec "+internet+" sysctl -q -w net.ipv4.ip_forward=1",
		"ip netns exec "+home+" sysctl -q -w net.ipv4.ip_forward=0",
	)
}

// translate makes home the router of its LAN.
func (l *Lab) translate(ctx context.Context) error {
	cmd := l.Home.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`
table ip box {
	chain in  { type nat hook prerouting priority dstnat; iifname "wan" tcp dport { 80, 443 } dnat to ` + BackupIPv4 + `; }
	chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
	chain through {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "lan0" oifname "wan" accept
		iifname "wan" ct status dnat accept
	}
}
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return run(ctx, "ip netns exec "+l.Home.netns+" sysctl -q -w net.ipv4.ip_forward=1")
}

// MoveHome gives home another public address, as a provider does over night: what goes to the old one is lost.
func (l *Lab) MoveHome(ctx context.Context, from, to string) error {
	return run(ctx,
		"ip -n "+l.Home.netns+" address add "+to+"/32 dev wan",
		"ip -n "+l.Home.netns+" address del "+from+"/32 dev wan",
		"ip -n "+l.Home.netns+" route replace default dev wan",
		"ip -n "+l.Internet.netns+" route add "+to+"/32 dev wan",
		"ip -n "+l.Internet.netns+" route del "+from+"/32 dev wan",
	)
}

// CutLAN pulls backup's cable: what home sends there is lost, without a word to anybody.
func (l *Lab) CutLAN(ctx context.Context) error {
	return run(ctx, "ip -n "+l.Backup.netns+" link set net0 down")
}

// MendLAN ends CutLAN.
func (l *Lab) MendLAN(ctx context.Context) error {
	return run(ctx,
		"ip -n "+l.Backup.netns+" link set net0 up",
		"ip -n "+l.Backup.netns+" route replace default via "+BastionLAN,
	)
}

// names gives every host its idea of who is who.
func (l *Lab) names(resolver string) error {
	const local = "127.0.0.1 localhost\n::1 localhost\n"
	for _, h := range l.hosts {
		hosts, resolv := local, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
		if resolver != "" {
			resolv = "nameserver " + resolver + "\noptions timeout:1 attempts:2\n"
		}
		switch h {
		case l.Prod:
			hosts += HomeIPv4 + " " + HomeName + "\n"
		case l.Home:
			hosts += BackupIPv4 + " " + BackupName + "\n"
		}
		if err := errors.Join(h.etc("hosts", hosts), h.etc("resolv.conf", resolv)); err != nil {
			return err
		}
	}
	return nil
}

// Close ends every process of the laboratory and leaves nothing behind.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, remove(h.netns), h.uncount())
	}
	l.hosts = nil
	if l.WAN != nil {
		errs = append(errs, l.WAN.Close())
	}
	return errors.Join(errs...)
}

// run runs commands whose words no blank is part of.
func run(ctx context.Context, commands ...string) error {
	for _, c := range commands {
		words := strings.Fields(c)
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
