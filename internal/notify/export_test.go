package notify

import (
	"context"
	"crypto/x509"
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
