package notify

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/wneessen/go-mail"
)

// smtpSender makes the sender of mail (RFC 5321). tls "auto" uses STARTTLS where the server offers it, and demands it
// where a password has to go over the network; "tls" is TLS from the first byte (port 465).
func smtpSender(c Config) (func(context.Context, Message) error, error) {
	host, portText, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("server: port %q is not a number", portText)
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(sendTimeout)}
	switch c.TLS {
	case "tls":
		options = append(options, mail.WithSSL())
	case "starttls":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if c.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(c.User), mail.WithPassword(c.Password.Reveal()))
	}
	return func(ctx context.Context, m Message) error {
		msg := mail.NewMsg()
		if err := msg.From(c.From); err != nil {
			return fmt.Errorf("from: %w", err)
		}
		if err := msg.To(c.To); err != nil {
			return fmt.Errorf("to: %w", err)
		}
		msg.Subject(m.Subject)
		msg.SetDateWithValue(m.Time)
		msg.SetBodyString(mail.TypeTextPlain, m.Text)
		client, err := mail.NewClient(host, options...)
		if err != nil {
			return fmt.Errorf("set up mail: %w", err)
		}
		if err := client.DialAndSendWithContext(ctx, msg); err != nil {
			return fmt.Errorf("send mail by %s: %w", c.Server, err)
		}
		return nil
	}, nil
}
