package report

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// Metrics gathers samples and writes them in the Prometheus text exposition format, version 0.0.4: those of one name
// together, under one HELP and TYPE line. Names and label names are the caller's constants and are not checked; label
// values may be anything. The zero Metrics is ready for use.
type Metrics struct {
	families []*family
	byName   map[string]*family
}

type family struct {
	name, help, kind string
	samples          []string // labels and value
}

// ContentType is that of what [Metrics.WriteTo] writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Gauge adds a value that goes up and down. Labels are pairs of name and value. The help of the first sample counts.
func (m *Metrics) Gauge(name, help string, value float64, labels ...string) {
	m.add("gauge", name, help, value, labels)
}

// Counter adds a value that only ever grows; its name ends in _total.
func (m *Metrics) Counter(name, help string, value float64, labels ...string) {
	m.add("counter", name, help, value, labels)
}

// Bool adds a gauge that is 1 or 0.
func (m *Metrics) Bool(name, help string, value bool, labels ...string) {
	number := 0.0
	if value {
		number = 1
	}
	m.Gauge(name, help, number, labels...)
}

func (m *Metrics) add(kind, name, help string, value float64, labels []string) {
	f := m.byName[name]
	if f == nil {
		f = &family{name: name, help: help, kind: kind}
		if m.byName == nil {
			m.byName = map[string]*family{}
		}
		m.byName[name] = f
		m.families = append(m.families, f)
	}
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		if i == 0 {
			b.WriteByte('{')
		} else {
			b.WriteByte(',')
		}
		b.WriteString(labels[i] + `="` + escapeLabel(labels[i+1]) + `"`)
	}
	if b.Len() > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64)) // infinities and NaN as the format spells them
	f.samples = append(f.samples, b.String())
}

func escapeHelp(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}

func escapeLabel(s string) string {
	return strings.ReplaceAll(escapeHelp(s), `"`, `\"`)
}

// WriteTo writes all samples, families in the order of their first ones.
func (m *Metrics) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	b := bufio.NewWriter(counted)
	for _, f := range m.families {
		_, _ = b.WriteString("# HELP " + f.name + " " + escapeHelp(f.help) + "\n# TYPE " + f.name + " " + f.kind + "\n")
		for _, s := range f.samples {
			_, _ = b.WriteString(f.name + s + "\n")
		}
	}
	err := b.Flush() // gives the first error of the writes above as well
	return counted.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
