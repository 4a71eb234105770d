package notify

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// speaker is who tells: a program on a host.
type speaker struct{ program, host string }

// signature ends each text, for the owner of two daemons on two machines.
func (s speaker) signature(m Message) string {
	if s.program == "" {
		return ""
	}
	return fmt.Sprintf("\n\n%s on %s, %s", s.program, s.host, moment(m.Time))
}

// words is all that a template can reach. It is a copy: there is no way from it to the configuration.
type words struct {
	Event, Severity, About, Subject, Text, Time, Program, Host string

	Reminder bool
	Since    string // of a reminder, otherwise empty
}

func (s speaker) words(m Message) words {
	w := words{
		Event: m.Event, Severity: m.Severity.String(), About: m.About, Subject: m.Subject, Text: m.Text, Time: moment(m.Time),
		Program: s.program, Host: s.host, Reminder: m.Reminder,
	}
	if m.Reminder {
		w.Since = moment(m.Since)
	}
	return w
}

// moment is a time as people write it, where the machine is.
func moment(t time.Time) string { return t.Local().Format("2 Jan 2006 15:04:05 MST") }

// wording is how the channel words its messages: by its templates, or as they are and signed.
func (c Config) wording(from speaker) (func(Message) Message, error) {
	subject, err := parseTemplate("subject", c.Subject)
	if err != nil {
		return nil, err
	}
	text, err := parseTemplate("text", c.Text)
	if err != nil {
		return nil, err
	}
	return func(m Message) Message {
		w := from.words(m)
		// A template that fails, though it was tried, costs its wording and not the message.
		if said, err := execute(subject, w); err == nil && strings.TrimSpace(said) != "" {
			m.Subject = said
		}
		if said, err := execute(text, w); err == nil && strings.TrimSpace(said) != "" {
			m.Text = said
		} else {
			m.Text += from.signature(m)
		}
		return m.tidied(m.Time)
	}, nil
}

// parseTemplate reads a template (text/template), nil for none. It may use the fields of [words] and what the language
// has, except for loops and other templates: there is nothing to go over, and nothing to call.
func parseTemplate(name, text string) (*template.Template, error) {
	if text == "" {
		return nil, nil
	}
	t, err := template.New(name).Parse(text)
	if err != nil {
		return nil, bare(err)
	}
	if len(t.Templates()) > 1 || t.Tree == nil {
		return nil, errors.New("other templates cannot be defined")
	}
	if err := allowed(t.Root); err != nil {
		return nil, err
	}
	return t, nil
}

// tryTemplate words a message of each event, of each severity, as a reminder and not, and wants something to come of it.
func tryTemplate(name, text string, events []string) error {
	t, err := parseTemplate(name, text)
	if err != nil || t == nil {
		return err
	}
	from := speaker{"watchdog", "backup"}
	for _, event := range append([]string{"test"}, events...) {
		for _, severity := range []Severity{Info, Warning, Critical} {
			for _, reminder := range []bool{false, true} {
				m := Message{Event: event, About: "www.example.net", Subject: "subject", Text: "text", Time: time.Unix(0, 0), Severity: severity, Reminder: reminder}
				said, err := execute(t, from.words(m))
				if err != nil {
					return err
				}
				if strings.TrimSpace(said) == "" {
					return fmt.Errorf("gives nothing for the event %s", event)
				}
			}
		}
	}
	return nil
}

var errNoTemplate = errors.New("there is no template")

// execute gives what a template makes of w.
func execute(t *template.Template, w words) (string, error) {
	if t == nil {
		return "", errNoTemplate
	}
	var b strings.Builder
	if err := t.Execute(&b, w); err != nil {
		return "", bare(err)
	}
	return b.String(), nil
}

// bare takes off what text/template puts before its errors.
func bare(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "template: "))
}

// allowed looks at every part of a template, for those that its trial does not come to.
func allowed(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		return firstBad(n.Nodes)
	case *parse.ActionNode:
		return allowed(n.Pipe)
	case *parse.IfNode:
		return allowedBranch(n.BranchNode)
	case *parse.WithNode:
		return allowedBranch(n.BranchNode)
	case *parse.PipeNode:
		return firstBad(n.Cmds)
	case *parse.CommandNode:
		return firstBad(n.Args)
	case *parse.FieldNode:
		return allowedField(n.Ident)
	case *parse.VariableNode:
		return allowedField(n.Ident[1:])
	case *parse.ChainNode:
		return allowedField(append([]string{"…"}, n.Field...))
	case *parse.RangeNode:
		return errors.New(`"range" has nothing to go over`)
	case *parse.TemplateNode:
		return fmt.Errorf("there is no template %q", n.Name)
	}
	return nil
}

func allowedBranch(n parse.BranchNode) error {
	return cmp.Or(allowed(n.Pipe), allowed(n.List), allowed(n.ElseList))
}

func firstBad[N parse.Node](nodes []N) error {
	for _, n := range nodes {
		if err := allowed(n); err != nil {
			return err
		}
	}
	return nil
}

// allowedField wants the path of one field. None of them has fields itself.
func allowedField(path []string) error {
	known := reflect.TypeFor[words]()
	if len(path) == 0 {
		return nil
	}
	if _, ok := known.FieldByName(path[0]); ok && len(path) == 1 {
		return nil
	}
	var names []string
	for f := range known.Fields() {
		names = append(names, "."+f.Name)
	}
	return fmt.Errorf(".%s is no field; they are %s", strings.Join(path, "."), strings.Join(names, " "))
}
