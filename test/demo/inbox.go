package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"
)

// iftttKey is the owner's key at IFTTT.
const iftttKey = "demo-ifttt-key"

// message is what reached the owner.
type message struct {
	Via     string // "IFTTT" or "mail"
	From    string // of a mail: which daemon
	Subject string
}

// inbox is the owner's mail server, and IFTTT. Safe for concurrent use.
type inbox struct {
	mailAddr string
	iftttURL string

	ifttt *http.Server
	mail  net.Listener
	wg    sync.WaitGroup

	mu       sync.Mutex
	messages []message
	conns    map[net.Conn]struct{}
	closed   bool
}

func newInbox(ctx context.Context) (*inbox, error) {
	b := &inbox{conns: map[net.Conn]struct{}{}}
	var lc net.ListenConfig
	web, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if b.mail, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		web.Close()
		return nil, err
	}
	b.mailAddr, b.iftttURL = b.mail.Addr().String(), "http://"+web.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /trigger/{event}/with/key/"+iftttKey, b.trigger)
	b.ifttt = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	b.wg.Go(func() { _ = b.ifttt.Serve(web) })
	b.wg.Go(b.acceptMail)
	return b, nil
}

func (b *inbox) close() {
	b.ifttt.Close()
	b.mail.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// all returns what came so far, in the order of arrival.
func (b *inbox) all() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.messages)
}

func (b *inbox) add(m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, m)
}

// trigger answers as https://ifttt.com/maker_webhooks does.
func (b *inbox) trigger(rw http.ResponseWriter, r *http.Request) {
	var values struct{ Value1 string }
	if err := json.NewDecoder(r.Body).Decode(&values); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	b.add(message{Via: "IFTTT", Subject: values.Value1})
	rw.Write([]byte("Congratulations! You've fired the " + r.PathValue("event") + " event"))
}

func (b *inbox) acceptMail() {
	for {
		conn, err := b.mail.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.closed {
			conn.Close()
		}
		b.conns[conn] = struct{}{}
		b.mu.Unlock()
		b.wg.Go(func() {
			defer func() {
				b.mu.Lock()
				delete(b.conns, conn)
				b.mu.Unlock()
				conn.Close()
			}()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			b.receiveMail(textproto.NewConn(conn))
		})
	}
}

// receiveMail is a server of SMTP (RFC 5321) that takes everything.
func (b *inbox) receiveMail(c *textproto.Conn) {
	answer := c.PrintfLine("220 mail.example.net ESMTP")
	for answer == nil {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			answer = c.PrintfLine("250-mail.example.net\r\n250 8BITMIME")
		case "DATA":
			if c.PrintfLine("354 go ahead") != nil {
				return
			}
			m, err := readMail(c.DotReader())
			if err != nil {
				answer = c.PrintfLine("554 %v", err)
				continue
			}
			b.add(m)
			answer = c.PrintfLine("250 taken")
		case "QUIT":
			_ = c.PrintfLine("221 bye")
			return
		default: // HELO, MAIL, RCPT, RSET, NOOP
			answer = c.PrintfLine("250 ok")
		}
	}
}

// readMail reads a mail (RFC 5322) to its end.
func readMail(r io.Reader) (message, error) {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return message{}, fmt.Errorf("read mail: %w", err)
	}
	if _, err := io.Copy(io.Discard, m.Body); err != nil {
		return message{}, fmt.Errorf("read mail: %w", err)
	}
	from, err := mail.ParseAddress(m.Header.Get("From"))
	if err != nil {
		return message{}, fmt.Errorf("read mail: from: %w", err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	return message{Via: "mail", From: from.Address, Subject: subject}, err
}
