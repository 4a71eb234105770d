package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// What is piped is plain text, whatever is waited for; a terminal gets the same words.
func TestNarratorPlain(t *testing.T) {
	play := func(live, colour bool) string {
		var out bytes.Buffer
		n := newNarrator(&out, live, colour)
		n.title("Title")
		n.heading("Chapter")
		n.progress("something", 3*time.Second)
		n.timed(1500*time.Millisecond, "done: é")
		n.fail(errors.New("expected: this\ninstead: that"))
		return out.String()
	}
	const want = "Title\n\n1. Chapter\n  ✓ done: é"
	plain := play(false, false)
	if !strings.HasPrefix(plain, want) || !strings.HasSuffix(plain, "1.5 s\n  ✗ expected: this\n    instead: that\n") || strings.ContainsAny(plain, "\x1b\r") {
		t.Errorf("piped: %q", plain)
	}
	if terminal := play(true, false); !strings.Contains(terminal, "… something  3 s\r\x1b[K  ✓ done") {
		t.Errorf("on a terminal: %q", terminal)
	}
	if coloured := play(true, true); !strings.Contains(coloured, "\x1b[32m✓\x1b[0m") {
		t.Errorf("coloured: %q", coloured)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 ms", 1234 * time.Microsecond: "1.2 ms", 999 * time.Millisecond: "999 ms", 1234 * time.Millisecond: "1.2 s", 59900 * time.Millisecond: "59.9 s", 65 * time.Second: "1 min 5 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
