// Command watchdog keeps a web site up: it runs on the standby, and points the site's DNS records there when the
// production server is down.
package main

import (
	"os"

	"releve/internal/watchdog"
)

func main() {
	os.Exit(watchdog.Main(watchdog.Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}))
}
