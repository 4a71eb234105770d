// Package syncagent is the daemon on prod: it watches folders, and pushes every change at once over SSH and SFTP to
// the backup, whose owner it warns when the standby there is in trouble. It is the orchestrator of the sync half: it
// alone knows the stages (watch, tree, plan, push), turns their words into each other's, and logs.
//
// Read run.go for the daemon as a whole, engine.go for one folder's loop, round.go for one turn of it.
package syncagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"releve/internal/daemon"
)

// Env is what the program gets from the world: arguments, standard streams, environment.
type Env = daemon.Env

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something went wrong, or is wrong in the world
	exitUsage  = 2 // the command line or the configuration is wrong
)

// version may be set by the linker.
var version = ""

// commands is the command line.
type commands struct {
	Config string `help:"The configuration file (${default})." default:"/etc/releve/syncagent.toml" placeholder:"FILE" type:"path"`

	Run        runCmd        `cmd:"" help:"Watch and push, until a signal comes."`
	Check      checkCmd      `cmd:"" help:"Try everything a push needs, and say what to do about what is wrong."`
	Sync       syncCmd       `cmd:"" help:"Make the replicas equal once, showing the progress."`
	Status     statusCmd     `cmd:"" help:"Show what the running agent is doing."`
	Approve    approveCmd    `cmd:"" help:"Let the held deletions of a folder through."`
	NotifyTest notifyTestCmd `cmd:"" name:"notify-test" help:"Send a test message through every channel."`
	Version    versionCmd    `cmd:"" help:"Show the version."`
}

// app is what commands run with.
type app struct {
	env    Env
	ctx    context.Context
	config string
	log    *slog.Logger
}

// Main runs the program and returns its exit code.
func Main(env Env) int {
	ctx, stop := daemon.Signals(context.Background())
	defer stop()
	return mainContext(ctx, env)
}

// mainContext is Main for tests, which end it by ctx.
func mainContext(ctx context.Context, env Env) int {
	var cli commands
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("syncagent"),
		kong.Description("Replicates folders of this server to a standby, each change at once."),
		kong.Writers(env.Stdout, env.Stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		panic(err) // the struct tags above are wrong
	}
	parsed, err := parser.Parse(env.Args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "syncagent: %v\nRun \"syncagent --help\" for the commands.\n", err)
		return exitUsage
	}
	a := &app{env: env, ctx: ctx, config: cli.Config, log: slog.New(slog.NewTextHandler(env.Stderr, nil))}
	return a.exit(parsed.Run(a))
}

// silent is an error whose sentence has been printed already.
type silent struct{ code int }

func (s silent) Error() string { return fmt.Sprintf("exit code %d", s.code) }

// usage marks errors of the command line and the configuration.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

// exit prints err and returns the exit code that belongs to it.
func (a *app) exit(err error) int {
	if err == nil {
		return exitOK
	}
	if s, ok := errors.AsType[silent](err); ok {
		return s.code
	}
	fmt.Fprintf(a.env.Stderr, "syncagent: %s\n", strings.TrimSpace(err.Error()))
	if _, ok := errors.AsType[usage](err); ok {
		return exitUsage
	}
	return exitFailed
}

// load reads the configuration. Its complaints are complete sentences with their lines, one below the other.
func (a *app) load() (*Config, error) {
	cfg, err := LoadConfig(a.config)
	if err != nil {
		fmt.Fprintln(a.env.Stderr, err)
		return nil, silent{exitUsage}
	}
	return cfg, nil
}

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.env.Stdout, "syncagent", versionText())
	return err
}

// versionText is the version the binary was built from.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// printLines writes lines to w; a writer that is gone is nobody's to tell.
func printLines(w io.Writer, lines ...string) {
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}
