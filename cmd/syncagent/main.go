// Command syncagent replicates folders of the production server to the standby, each change at once.
package main

import (
	"os"

	"releve/internal/syncagent"
)

func main() {
	os.Exit(syncagent.Main(syncagent.Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}))
}
