package main

import (
	"net/smtp"
	"slices"
	"testing"
)

// A mail server that the demo's owner could not read would make a false witness.
func TestInboxTakesMail(t *testing.T) {
	b, err := newInbox(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, subject := range []string{"plain", "=?utf-8?q?d=C3=A9j=C3=A0_vu?="} {
		text := "From: Someone <a@example.net>\r\nSubject: " + subject + "\r\n\r\nText\r\n.. with dots\r\n"
		if err := smtp.SendMail(b.mailAddr, nil, "a@example.net", []string{"b@example.net"}, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.all(), []message{{"mail", "a@example.net", "plain"}, {"mail", "a@example.net", "déjà vu"}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
