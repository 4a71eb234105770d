package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"releve/internal/strictconf"
)

// smtpSender makes the sender of mail (RFC 5321). With tls "auto", port 465 is TLS from the first byte; elsewhere
// STARTTLS is demanded, and its certificate verified, when a password has to go over the network. Without one it is
// used where it is offered, verified or not: whoever could forge the certificate could as well leave the offer out.
// A server on this machine is spoken to without. No roots means the system's.
func smtpSender(c Config, roots *x509.CertPool) (sendFunc, error) {
	host, portText, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("server: port %q is not a number", portText)
	}
	options := []gomail.Option{gomail.WithPort(port), gomail.WithTimeout(sendTimeout)}
	local := strictconf.IsLoopback(host)
	mode := c.TLS
	if mode == "" || mode == "auto" {
		switch {
		case port == 465:
			mode = "tls"
		case local:
			mode = "none"
		case c.User != "":
			mode = "starttls"
		default:
			mode = "offered"
		}
	}
	var implicit *tls.Config
	switch mode {
	case "starttls":
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory),
			gomail.WithTLSConfig(&tls.Config{ServerName: host, RootCAs: roots}))
	case "none":
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	case "tls":
		implicit = &tls.Config{ServerName: host, RootCAs: roots}
		options = append(options, gomail.WithSSL())
	case "offered":
		options = append(options, gomail.WithTLSPolicy(gomail.TLSOpportunistic),
			gomail.WithTLSConfig(&tls.Config{ServerName: host, InsecureSkipVerify: true})) // as said above
	default:
		return nil, fmt.Errorf("tls: %q is not one of auto, starttls, tls, none", c.TLS)
	}
	if c.User != "" {
		options = append(options, gomail.WithUsername(c.User), gomail.WithPassword(c.Password.Reveal()))
		switch {
		case mode == "none" && local:
			options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthPlainNoEnc))
		case implicit != nil: // the library does not know that the connection it was handed is encrypted
			options = append(options, gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1,
				gomail.SMTPAuthPlain, gomail.SMTPAuthLogin))
		default:
			options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover))
		}
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	to, err := mail.ParseAddressList(c.To)
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	return func(ctx context.Context, m Message) error {
		msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
		msg.FromMailAddress(from)
		msg.ToMailAddress(to...)
		msg.Subject(oneLine(m.Subject))
		msg.SetDateWithValue(m.Time)
		// The same for every attempt, so that a mail whose receipt was lost is recognised when it comes again.
		_, domain, _ := strings.Cut(from.Address, "@")
		msg.SetMessageIDWithValue(fmt.Sprintf("%x@%s", sha256.Sum256([]byte(m.Key)), domain))
		msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no reply by a machine, please
		if m.Severity == Critical {
			msg.SetImportance(gomail.ImportanceUrgent)
		}
		msg.SetBodyString(gomail.TypeTextPlain, m.Text)
		return talk(ctx, host, implicit, options, msg)
	}, nil
}

// talk has one conversation with the server. The library knows deadlines but not the end of ctx, and forgets
// connections on which the conversation went wrong; so the connection is closed here.
func talk(ctx context.Context, host string, implicit *tls.Config, options []gomail.Option, msg *gomail.Msg) error {
	hangUp := func() {}
	defer func() { hangUp() }()
	dial := func(dialCtx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(dialCtx, network, address)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		hangUp = func() { stop(); conn.Close() }
		if implicit == nil {
			return conn, nil
		}
		secure := tls.Client(conn, implicit)
		return secure, secure.HandshakeContext(dialCtx)
	}
	client, err := gomail.NewClient(host, slices.Concat(options, []gomail.Option{
		gomail.WithDialContextFunc(dial), gomail.WithoutNoop(), gomail.WithoutRset(),
	})...)
	if err != nil {
		return fmt.Errorf("set up mail: %w", err)
	}
	conversation, err := client.DialToSMTPClientWithContext(ctx)
	if err == nil {
		err = client.SendWithSMTPClient(conversation, msg)
		// How the farewell goes is of no interest: the server has taken the mail, or has not.
		_ = client.CloseWithSMTPClient(conversation)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	said := fmt.Errorf("send mail by %s: %w", host, err)
	if refusedForGood(err) {
		return &refusal{said, 0}
	}
	return said
}

// refusedForGood reports whether the server said so: RFC 5321, 4.2.1, codes from 500 on.
func refusedForGood(err error) bool {
	code := 0
	if e, ok := errors.AsType[*gomail.SendError](err); ok {
		code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*textproto.Error](err); ok {
		code = e.Code
	}
	return code >= 500
}
