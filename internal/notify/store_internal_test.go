package notify

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzParseEntry: whatever lies in the outbox, reading it does not crash, and what is accepted is a message.
func FuzzParseEntry(f *testing.F) {
	e := entry{Version: entryVersion, Channel: "a", Posted: time.Unix(1, 0), Message: Message{Event: "e", Key: "k"}}
	text, err := json.Marshal(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fileName("a", "k"), text)
	f.Add("x", []byte(`{"version":1}{}`))
	f.Add("", []byte(`null`))
	f.Fuzz(func(t *testing.T, file string, text []byte) {
		e, err := parseEntry(file, text)
		if err != nil {
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseEntry(file, again); err != nil {
			t.Errorf("accepted once, refused when written again: %v\n%s\n%s", err, text, again)
		}
	})
}
