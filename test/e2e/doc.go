// Package e2e proves the promises of docs/architecture.md from outside: the two built binaries, with real configuration
// files, between real servers (OpenSSH's sshd, nginx), in the network of package netlab. What is asserted is what an
// owner would see: files, DNS answers, pages, messages, exit codes.
//
// The tests of a siege (TestSiege…) go on for as long as one lets them: `make siege`.
//
// A machine that cannot have that network says so, test by test; the way through a real bastion to a real backup is then
// tested on loopback ports, by the ordinary user.
package e2e
