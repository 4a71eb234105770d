package report

import (
	"crypto/sha256"
	_ "embed" // for the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"
)

// A State is how a daemon fares as a whole.
type State string

const (
	OK       State = "ok"
	Degraded State = "degraded" // works, with something for the owner to look at
	Failing  State = "failing"  // does not do its job
)

// A Tone colours a value. It never says more than the text does: colours are not seen by everybody.
type Tone string

const (
	Plain Tone = ""
	Good  Tone = "good"
	Warn  Tone = "warn"
	Bad   Tone = "bad"
	Quiet Tone = "quiet" // of no interest as long as all is well
)

// A Page is what the web page shows. All texts are plain.
type Page struct {
	Title    string   // "syncagent on prod.example.net"
	State    State    //
	Headline string   // one sentence that answers the only question asked at night
	Problems []string // sentences, the worst first
	Facts    []Fact   // few figures worth a large print
	Sections []Section
	Version  string
	Time     time.Time // as of when
}

// A Fact is one figure.
type Fact struct {
	Label string // "Pending"
	Value string // "12 files"
	Note  string // small print, if any
	Tone  Tone
}

// A Section is a table. Rows shorter than Columns are filled up.
type Section struct {
	Title   string
	Columns []string // the first names the row
	Rows    [][]Cell
	Empty   string // said in place of a table without rows
}

// A Cell is one value of a table.
type Cell struct {
	Text string
	Note string // small print, if any
	Tone Tone
}

// refresh is how often a browser asks again, in seconds: the page needs no script for it.
const refresh = 5

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// A view is what the template sees.
type view struct {
	Page
	CSS     template.CSS
	Icon    template.URL
	Refresh int
}

// A renderer writes pages.
type renderer struct {
	page *template.Template
	csp  string
}

func newRenderer() *renderer {
	sum := sha256.Sum256([]byte(pageCSS))
	return &renderer{
		page: template.Must(template.New("page").Funcs(template.FuncMap{
			"mark":   func(t Tone) string { return t.mark() },
			"word":   func(s State) string { return s.word() },
			"column": column,
			"fill":   fill,
			"zone":   func(t time.Time) string { return t.Format("2 January 2006, 15:04:05 MST") },
			"iso":    func(t time.Time) string { return t.Format(time.RFC3339) },
		}).Parse(pageHTML)),
		csp: "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

func (r *renderer) render(w io.Writer, p Page) error {
	if err := r.page.Execute(w, view{Page: p, CSS: template.CSS(pageCSS), Icon: p.State.icon(), Refresh: refresh}); err != nil {
		return fmt.Errorf("render status page: %w", err)
	}
	return nil
}

// mark is a sign beside coloured text, for those who do not see the colour.
func (t Tone) mark() string {
	switch t {
	case Good:
		return "✓"
	case Warn:
		return "!"
	case Bad:
		return "✗"
	}
	return ""
}

func (s State) word() string {
	switch s {
	case OK:
		return "OK"
	case Degraded:
		return "Degraded"
	case Failing:
		return "Failing"
	}
	return "Unknown"
}

// icon is a dot in the colour of the state: it shows in the browser's tab.
func (s State) icon() template.URL {
	colour := map[State]string{OK: "2e9e5b", Degraded: "d98a00", Failing: "d6342c"}[s]
	if colour == "" {
		colour = "808080"
	}
	return template.URL("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E" +
		"%3Ccircle cx='8' cy='8' r='7' fill='%23" + colour + "'/%3E%3C/svg%3E")
}

// column is the name of column i, which a narrow screen shows beside each value.
func column(s Section, i int) string {
	if i < len(s.Columns) {
		return s.Columns[i]
	}
	return ""
}

// fill makes row as long as the table is wide.
func fill(s Section, row []Cell) []Cell {
	if missing := len(s.Columns) - len(row); missing > 0 {
		return append(row[:len(row):len(row)], make([]Cell, missing)...)
	}
	return row
}
