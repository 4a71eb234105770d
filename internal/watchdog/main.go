package watchdog

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"

	"releve/internal/daemon"
	"releve/internal/strictconf"
)

// The exit codes.
const (
	exitGood   = 0
	exitFailed = 1
	exitUsage  = 2 // of the command line, or a bad config
)

type commands struct {
	Config string `default:"/etc/releve/watchdog.toml" placeholder:"FILE" help:"Configuration file (${default})."`

	Run    struct{} `cmd:"" help:"Keep watch until a signal comes."`
	Check  struct{} `cmd:"" help:"Say, line by line, whether all is in place for a fail-over."`
	Status struct {
		JSON bool `name:"json" help:"As JSON."`
	} `cmd:"" help:"Show what the running watchdog sees and does."`
	Failover   orderArgs   `cmd:"" help:"Give the name to the standby, until failback."`
	Failback   orderArgs   `cmd:"" help:"Give the name back to prod."`
	Prepare    prepareArgs `cmd:"" help:"Lower the TTLs of prod's records to the configured one, so that a fail-over is quick."`
	DynDNS     dynDNSArgs  `cmd:"" name:"dyndns" help:"Lead the name of [dyndns] home now, and wait until it does."`
	Pause      pauseArgs   `cmd:"" help:"Switch nothing unasked for a while, say while prod is being worked on."`
	Resume     siteArg     `cmd:"" help:"End a pause, or a hold after too many switches."`
	NotifyTest struct{}    `cmd:"" name:"notify-test" help:"Send a test message through every channel."`
	Version    struct{}    `cmd:"" help:"Print the version."`
}

type siteArg struct {
	Site string `arg:"" help:"Name of the site, as in the configuration."`
}

type orderArgs struct {
	siteArg
	Force bool `help:"Even toward a machine that does not answer, or over records of unknown origin."`
}

type prepareArgs struct {
	siteArg
	DryRun bool `help:"Only say what would be written."`
}

type dynDNSArgs struct {
	Force bool `help:"Even over records of unknown origin."`
}

type pauseArgs struct {
	siteArg
	Duration strictconf.Duration `arg:"" help:"How long, such as 30m or 1d."`
}

// Env is what the program gets from the world: arguments, standard streams, environment.
type Env = daemon.Env

// Main is the program watchdog: it does what env.Args say and returns the exit code.
func Main(env Env) int {
	ctx, stop := daemon.Signals(context.Background())
	defer stop()
	return run(ctx, env)
}

func run(ctx context.Context, env Env) int {
	var args commands
	helped := false
	parser, err := kong.New(&args,
		kong.Name("watchdog"),
		kong.Description("Points a site's DNS records at the standby when prod is down, and back."),
		kong.Writers(env.Stdout, env.Stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(env.Stderr, "watchdog:", err)
		return exitUsage
	}
	cmd, err := parser.Parse(env.Args)
	switch {
	case helped:
		return exitGood
	case err != nil:
		fmt.Fprintf(env.Stderr, "watchdog: %v; see watchdog --help\n", err)
		return exitUsage
	}
	if cmd.Command() == "version" {
		fmt.Fprintln(env.Stdout, "watchdog", versionText())
		return exitGood
	}
	err = perform(ctx, env, cmd.Command(), args)
	var usage *usageError
	var config *strictconf.Error
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &config):
		fmt.Fprintln(env.Stderr, err)
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintln(env.Stderr, "watchdog:", err)
		return exitUsage
	}
	fmt.Fprintln(env.Stderr, "watchdog:", err)
	return exitFailed
}

// errSaid means failure that was explained already.
var errSaid = errors.New("failed")

// usageError is a mistake on the command line.
type usageError struct{ what string }

func (e *usageError) Error() string { return e.what }

func perform(ctx context.Context, env daemon.Env, command string, args commands) error {
	cfg, err := LoadConfig(args.Config)
	if err != nil {
		return err
	}
	remote := remote{env: env, cfg: cfg}
	switch command {
	case "run":
		return serve(ctx, env, cfg)
	case "check":
		return check(ctx, env, cfg, args.Config)
	case "status":
		return remote.status(ctx, args.Status.JSON)
	case "failover <site>":
		return remote.move(ctx, "failover", args.Failover)
	case "failback <site>":
		return remote.move(ctx, "failback", args.Failback)
	case "prepare <site>":
		return remote.prepare(ctx, args.Prepare)
	case "dyndns":
		return remote.dyndns(ctx, args.DynDNS.Force)
	case "pause <site> <duration>":
		if args.Pause.Duration <= 0 {
			return &usageError{"a pause must be longer than nothing"}
		}
		_, err = remote.say(ctx, "pause", args.Pause.Site, time.Duration(args.Pause.Duration).String())
		return err
	case "resume <site>":
		_, err = remote.say(ctx, "resume", args.Resume.Site)
		return err
	case "notify-test":
		return notifyTest(ctx, env, cfg)
	}
	return &usageError{"unknown command " + command}
}

// version may be set by the linker.
var version = ""

// versionText is the version set by the linker, or of the module, or of the commit it was built from.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") && len(s.Value) >= 12 {
			v = "commit " + s.Value[:12]
		}
	}
	if v == "" {
		return "(devel)"
	}
	return v
}
