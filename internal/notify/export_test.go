package notify

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"time"
)

// SMTPWith is an smtp channel that trusts other roots than the system's.
func SMTPWith(c Config, roots *x509.CertPool) (Channel, error) {
	send, err := smtpSender(c, roots)
	if err != nil {
		return Channel{}, err
	}
	return Channel{Name: c.ChannelName(), Send: redacted(send, c.secrets())}, nil
}

// Redacted is what a channel of this configuration makes of an error.
func Redacted(c Config, err error) error {
	return redacted(func(context.Context, Message) error { return err }, c.secrets())(context.Background(), Message{})
}

// Refusal tells whether err is one, and how long the service wants to be left alone.
func Refusal(err error) (bool, time.Duration) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return false, 0
	}
	return true, r.wait
}

// NewRefusal is what a service's answer becomes.
func NewRefusal(text string, wait time.Duration) error { return &refusal{errors.New(text), wait} }

// Through has the pings go through t.
func (d *Deadman) Through(t http.RoundTripper) { d.client.Transport = t }
