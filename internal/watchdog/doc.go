// Package watchdog is the daemon on the standby: it probes prod, and when prod is down it points the site's DNS records
// at home, follows the home address while the standby serves, tells the owner, and brings the records back. It is the
// orchestrator of the fail-over half: it alone knows the stages (probe, failover, ovhdns, publicip, notify), turns their
// words into each other's, and logs.
//
// Read daemon.go for the daemon as a whole and site.go for the loop of one site, which is the pipeline: what round.go,
// standby.go, opinion.go, reader.go and home.go have seen goes to [failover.Next], its state goes to disk (store.go), and what it
// wants done goes to writer.go and messages.go. hook.go stands beside it. Only the loop touches the state, so that nothing needs a lock to be
// decided; before every write writer.go asks it once more, with what the zone holds at that moment.
//
// dyndns.go is a loop of its own beside the sites': it keeps a name at home. prepare.go lowers TTLs, by the same way as a
// switch; copies.go and delays.go keep what a write found and how long publishing it took.
//
// The other files are its face: check.go, remote.go and control.go for the command line, status.go, page.go and
// metrics.go for the status.
package watchdog
