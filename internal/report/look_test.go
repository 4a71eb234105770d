package report_test

import (
	"time"

	"releve/internal/report"
)

// night is a page with something of everything.
func night() report.Page {
	return report.Page{
		Title:    "watchdog on backup.example.net",
		State:    report.Failing,
		Headline: "www.example.net is served from here since 03:12: production does not answer.",
		Problems: []string{
			"Production does not answer: connection timed out on 203.0.113.10 and 2001:db8::10, 212 probes in a row.",
			"The certificate of www.example.net ends in 6 days and cannot be renewed while production is away.",
		},
		Facts: []report.Fact{
			{Label: "Serving", Value: "standby", Note: "term 7", Tone: report.Warn},
			{Label: "Production", Value: "down", Note: "for 14 min 12 s", Tone: report.Bad},
			{Label: "Home address", Value: "198.51.100.23", Note: "3 of 3 sources agree", Tone: report.Good},
			{Label: "Switches today", Value: "1 of 4"},
		},
		Sections: []report.Section{
			{Title: "Sites", Columns: []string{"Site", "State", "Serving", "Last probe", "Records"}, Rows: [][]report.Cell{
				{{Text: "www.example.net"}, {Text: "failed over", Tone: report.Warn, Note: "by itself, at 03:12:44"}, {Text: "standby"},
					{Text: "timeout", Tone: report.Bad, Note: "2.0 s, at 03:26:51"}, {Text: "A 198.51.100.23", Note: "TTL 60, published on 2 of 2 name servers"}},
				{{Text: "mail.example.net"}, {Text: "normal", Tone: report.Good}, {Text: "prod"}, {Text: "up", Tone: report.Good, Note: "41 ms"}, {Text: "A 203.0.113.11"}},
			}},
			{Title: "Ready to take over", Columns: []string{"Check", "Result", "Why"}, Rows: [][]report.Cell{
				{{Text: "Standby answers as production did"}, {Text: "yes", Tone: report.Good}, {Text: "200, certificate valid for 6 days"}},
				{{Text: "Replica is fresh"}, {Text: "yes", Tone: report.Good}, {Text: "identical at sequence 48211, 1.8 s old when production went away"}},
				{{Text: "Certificate lasts"}, {Text: "soon", Tone: report.Warn}, {Text: "6 days left", Tone: report.Plain}},
			}},
			{Title: "Messages not yet sent", Columns: []string{"Message"}, Empty: "All messages have been delivered."},
		},
		Version: "v1.0.0",
		Time:    time.Date(2026, 11, 22, 3, 26, 53, 0, time.UTC),
	}
}
