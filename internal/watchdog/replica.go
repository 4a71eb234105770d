package watchdog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/pairing"
)

// replicaCheckName begins the names of the checks that are about the replica.
const replicaCheckName = "replica of "

// agentWord is what lies in the control folder.
type agentWord struct {
	pairing.Agent
	Written time.Time // by this machine's clock
	Err     error
}

func readAgentWord(control string) agentWord {
	a, written, err := pairing.ReadAgent(control)
	return agentWord{a, written, err}
}

// judgedAt is the moment at which the age of a replica counts.
//
// While prod lives that is now: a replica that nobody brings up to date grows old. When prod dies, the agent's
// heartbeat dies with it, as a rule, and what prod had not sent by then it never will: from then on the age of the
// replica is what it was at that moment, however long the outage lasts. Or else a standby that was fresh when it was
// needed would be refused max_lag later, for no other reason than that it could not be switched to before.
//
// Prod died at the first failed probe of the present run; or, if it has counted as down since before that run
// without counting as up again, when it began to: one good answer in an outage of an hour is no sign of life. Both
// are part of the state that is on disk, so that a restart in the middle of an outage does not change the answer.
// Rounds without a verdict change nothing. Where our own line was cut before prod died, prod is dead from the first
// failure that we can tell, and the time of the cut counts as age: it may have lived, and changed, all that while.
func judgedAt(st failover.State, now time.Time) time.Time {
	at := now
	outage := !st.Confirmed.IsZero()
	if (outage || st.Failures > 0) && !st.DownSince.IsZero() && st.DownSince.Before(at) {
		at = st.DownSince
	}
	if outage && st.Confirmed.Before(at) {
		at = st.Confirmed
	}
	return at
}

// replicaChecks goes through the folders that the site needs: each known to the agent, complete once, and no older
// than max_lag when prod was last alive. While the standby serves nothing is asked, for the agent holds then, and a
// replica that stands still is what is wanted.
func replicaChecks(c Site, control string, st failover.State, now time.Time) []failover.Check {
	if len(c.Folders) == 0 {
		return nil
	}
	word := agentWord{}
	serves := standbyServes(st)
	if !serves {
		word = readAgentWord(control)
	}
	checks := make([]failover.Check, 0, len(c.Folders))
	for _, f := range c.Folders {
		check := failover.Check{Name: replicaCheckName + f, OK: true, Why: "not asked while the standby serves: the agent holds"}
		if !serves {
			check.OK, check.Why = replicaCheck(f, c.MaxLag, control, word, judgedAt(st, now), now)
		}
		checks = append(checks, check)
	}
	return checks
}

// replicaCheck judges the replica of one folder as it was at the time at.
func replicaCheck(folder string, maxLag time.Duration, control string, word agentWord, at, now time.Time) (ok bool, why string) {
	switch {
	case errors.Is(word.Err, fs.ErrNotExist):
		return false, fmt.Sprintf("syncagent has left no word in %s; is it running on prod, and is that the control folder of its configuration?", control)
	case word.Err != nil:
		return false, fmt.Sprintf("the word of syncagent cannot be read: %v; is the disk mounted, and may this user read it?", word.Err)
	}
	f, known := word.Folder(folder)
	if !known {
		return false, fmt.Sprintf("syncagent knows no folder of that name; name it there, or correct folders here (it has %s)", folderNames(word.Agent))
	}
	doing := string(f.State)
	if f.Pending > 0 {
		doing += fmt.Sprintf(", %d entries to go", f.Pending)
	}
	lag, complete := word.Lag(f, word.Written, at)
	last := fmt.Sprintf("last word from syncagent %s ago: %s", short(max(0, now.Sub(word.Written))), doing)
	switch {
	case !complete:
		return false, "it was never complete; " + last
	case maxLag > 0 && lag > maxLag:
		age := short(lag) + " old"
		if at.Before(now) {
			age += " when prod was last seen"
		}
		return false, fmt.Sprintf("%s, and max_lag is %s; %s", age, short(maxLag), last)
	}
	return true, fmt.Sprintf("%s old", short(lag))
}

const (
	// agentSilence is how old the agent's word may be to count before a fail-back; it writes every 10 s.
	agentSilence = time.Minute
	// comparedFor is how old a comparison may be, by prod's clock. Of a large folder there is one in a few minutes.
	comparedFor = 15 * time.Minute
)

// returnChecks is what the agent must have said before the name may go back to prod unasked: of each folder that the
// site needs, that prod's files are those that the standby serves. A prod that came back half restored would else be
// shown to the world, and then be pushed over the only good copy.
func returnChecks(c Site, control string, now time.Time) []failover.Check {
	if !c.Failback.Auto || len(c.Folders) == 0 {
		return nil
	}
	word := readAgentWord(control)
	checks := make([]failover.Check, 0, len(c.Folders))
	for _, f := range c.Folders {
		check := failover.Check{Name: returnCheckName + f}
		check.OK, check.Why = returnCheck(f, control, word, now)
		checks = append(checks, check)
	}
	return checks
}

// returnCheckName begins the names of these checks.
const returnCheckName = "prod's files of "

// unasked stands for checks that nobody has gone through yet, so that none is taken to have passed.
func unasked(c Site) []failover.Check {
	if !c.Failback.Auto || len(c.Folders) == 0 {
		return nil
	}
	return []failover.Check{{Name: "prod's files", Why: "the word of syncagent has not been read yet"}}
}

func returnCheck(folder, control string, word agentWord, now time.Time) (ok bool, why string) {
	if word.Err != nil {
		return replicaCheck(folder, 0, control, word, now, now)
	}
	f, known := word.Folder(folder)
	silent := now.Sub(word.Written)
	switch {
	case !known:
		return replicaCheck(folder, 0, control, word, now, now)
	case silent > agentSilence:
		return false, fmt.Sprintf("syncagent on prod has said nothing for %s; is it running there, and does it reach this machine?", short(silent))
	case f.Compared == nil:
		return false, "syncagent has not compared them yet with those that are served here"
	case word.Time.Sub(*f.Compared) > comparedFor:
		return false, fmt.Sprintf("syncagent compared them with those that are served here %s ago, and not since", short(word.Time.Sub(*f.Compared)))
	case f.Pending > 0:
		return false, fmt.Sprintf("they differ from those that are served here in %s (\"syncagent sync --dry-run\" on prod lists them); if they are the right ones: watchdog failback", entries(f.Pending))
	}
	return true, "the same as those that are served here"
}

func folderNames(a pairing.Agent) string {
	var names []string
	for _, f := range a.Folders {
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// onlyReplicaFails reports whether it is the replica alone that keeps the standby from being ready. The owner is then
// told so, under a name of its own: another machine is to blame.
func onlyReplicaFails(checks []failover.Check) bool {
	isFine := func(c failover.Check) bool { return c.OK || strings.HasPrefix(c.Name, replicaCheckName) }
	failing := func(c failover.Check) bool { return !c.OK }
	return slices.ContainsFunc(checks, failing) && !slices.ContainsFunc(checks, func(c failover.Check) bool { return !isFine(c) })
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
