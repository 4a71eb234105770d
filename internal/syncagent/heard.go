package syncagent

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"releve/internal/pairing"
)

const (
	// staleAfter is how long the watchdog may say nothing new before its word is called old: it writes every 10 s.
	staleAfter = 2 * time.Minute
	// silentAfter is how long before the owner is told: a backup that restarts takes a few minutes.
	silentAfter = 5 * time.Minute
)

// heard is what is known of the watchdog from the word it left on a backup. The zero heard is that of a backup without
// a watchdog.
//
// Whether the word is fresh is judged by whether it has changed since we looked last, by our own clock. The times in
// it are the backup's, and its clock may be wrong by hours.
type heard struct {
	file string // for people
	text []byte // of the word that was understood last; nil if there is none
	word pairing.Watchdog
	err  error     // why the file as it is now cannot be understood
	news time.Time // when a word was last understood that differed from the one before
}

// heldError is why nothing may be pushed to a backup just now (S8). It is a complete sentence but for its full stop.
type heldError struct{ why string }

func (e *heldError) Error() string { return e.why }

// read takes in the file as it is at the time now.
func (h heard) read(file string, text []byte, now time.Time) heard {
	if h.text != nil && bytes.Equal(text, h.text) {
		h.err = nil
		return h
	}
	word, err := pairing.DecodeWatchdog(text)
	if err != nil {
		return h.unreadable(file, err, now)
	}
	return heard{file: file, text: text, word: word, news: now}
}

// unreadable takes in that there is a file, and why it cannot be understood.
func (h heard) unreadable(file string, err error, now time.Time) heard {
	h.file, h.err = file, err
	if h.news.IsZero() {
		h.news = now
	}
	return h
}

// known reports whether there is a watchdog.
func (h heard) known() bool { return !h.news.IsZero() }

// serving is who serves, as far as is known.
func (h heard) serving() string {
	switch {
	case h.text == nil:
		return ""
	case len(h.word.StandbyServes()) > 0:
		return string(pairing.Standby)
	}
	return string(pairing.Prod)
}

// quiet is for how long the watchdog has said nothing that is new and can be understood.
func (h heard) quiet(now time.Time) time.Duration {
	if !h.known() {
		return 0
	}
	return now.Sub(h.news)
}

// holds is why nothing may be pushed, or nil.
//
// The last word stands, however old: that the watchdog died does not mean that prod serves again. One that cannot be
// understood may say that the standby serves. So both hold, and both have a way out that takes the owner's own hand on
// the backup; there is none on prod, which is the machine that is not trusted here.
func (h heard) holds(now time.Time) error {
	remove := fmt.Sprintf("if prod's files are to win and the watchdog is gone for good, remove %s on the backup", h.file)
	if h.err != nil {
		return &heldError{fmt.Sprintf("the watchdog's word cannot be understood and may say that the standby serves, so nothing is pushed (%v); mend that, or, %s",
			h.err, remove)}
	}
	sites := h.word.StandbyServes()
	if len(sites) == 0 {
		return nil
	}
	names := make([]string, len(sites))
	for i, s := range sites {
		names[i] = s.Name
	}
	why := fmt.Sprintf("the standby serves %s, so nothing is pushed over what it serves; when prod is good again, run \"watchdog failback %s\" on the backup",
		strings.Join(names, ", "), names[0])
	if quiet := h.quiet(now); quiet > staleAfter {
		why += fmt.Sprintf("; the watchdog that said so has said nothing for %v: start it, or, %s", quiet.Round(time.Minute), remove)
	}
	return &heldError{why}
}
