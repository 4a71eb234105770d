package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// width is the column that times are aligned to.
const width = 100

// narrator prints the story. It is safe for concurrent use.
type narrator struct {
	mu      sync.Mutex
	out     io.Writer
	live    bool // a terminal: a line may be overwritten
	colour  bool
	chapter int
	pending bool // a line is there that is to be overwritten
}

func newNarrator(out io.Writer, live, colour bool) *narrator {
	return &narrator{out: out, live: live, colour: colour}
}

// The colours, as parameters of SGR (ECMA-48).
const (
	bold  = "1"
	dim   = "2"
	red   = "31;1"
	green = "32"
)

func (n *narrator) paint(colour, text string) string {
	if !n.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (n *narrator) print(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pending {
		fmt.Fprint(n.out, "\r\x1b[K")
		n.pending = false
	}
	fmt.Fprintln(n.out, text)
}

// progress shows what is waited for, on a terminal, until the next line is printed.
func (n *narrator) progress(what string, since time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.live {
		return
	}
	fmt.Fprint(n.out, "\r\x1b[K", n.paint(dim, fmt.Sprintf("  … %s  %d s", what, int(since.Seconds()))))
	n.pending = true
}

func (n *narrator) title(text string) { n.print(n.paint(bold, text)) }

// heading begins the next chapter.
func (n *narrator) heading(text string) {
	n.chapter++
	n.print("")
	n.print(n.paint(bold, fmt.Sprintf("%d. %s", n.chapter, text)))
}

// text prints a plain line of the story.
func (n *narrator) text(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if line != "" {
		line = "  " + line
	}
	n.print(line)
}

// aside prints what explains the line before, or is honest about the demo.
func (n *narrator) aside(format string, args ...any) {
	n.print("    " + n.paint(dim, fmt.Sprintf(format, args...)))
}

// command shows what is typed.
func (n *narrator) command(line string) { n.print("  " + n.paint(dim, "$ ") + line) }

// quote shows the output of a command.
func (n *narrator) quote(output string) {
	for line := range strings.Lines(output) {
		n.print("    " + n.paint(dim, strings.TrimRight(line, "\n")))
	}
}

// good prints what held.
func (n *narrator) good(format string, args ...any) {
	n.print("  " + n.paint(green, "✓") + " " + fmt.Sprintf(format, args...))
}

// timed prints what held, and how long it took, in the last column.
func (n *narrator) timed(took time.Duration, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	clock := short(took)
	fill := width - 4 - utf8.RuneCountInString(text) - utf8.RuneCountInString(clock)
	n.print("  " + n.paint(green, "✓") + " " + text + strings.Repeat(" ", max(2, fill)) + n.paint(bold, clock))
}

// fail prints what did not hold.
func (n *narrator) fail(err error) {
	for i, line := range strings.Split(err.Error(), "\n") {
		mark := "  "
		if i == 0 {
			mark = n.paint(red, "✗") + " "
		}
		n.print("  " + mark + line)
	}
}

// short is a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
