// Package arch holds no code: its tests are the house rules of this module. Which package may import which
// (the table in docs/architecture.md), that every package says what it is in exactly one place, and that no
// source file outgrows what a reader can keep in mind.
//
// The tests parse the sources themselves instead of asking `go list`: the go tool caches a test's result by the
// files the test opened, so an answer that came from a child process would be served stale.
package arch
