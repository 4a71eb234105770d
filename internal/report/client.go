package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotRunning means that no daemon answers on the socket.
var ErrNotRunning = errors.New("not running")

// A Client asks a running daemon over its socket. Its errors are sentences for the user.
type Client struct {
	Program string // "syncagent"
	Socket  string
}

const (
	fetchTimeout = 10 * time.Second
	maxAnswer    = 16 << 20
)

// Fetch reads the daemon's status into v: a pointer to a struct, or to a [json.RawMessage].
func (c Client) Fetch(ctx context.Context, v any) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	code, text, err := c.do(ctx, http.MethodGet, "/status.json", nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s answered %d: %s", c.Program, code, bytes.TrimSpace(text))
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("read status of %s (is it another version?): %w", c.Program, err)
	}
	return nil
}

// Call has the daemon carry out a command and returns what it says about it. It waits as long as ctx lets it.
func (c Client) Call(ctx context.Context, command string, args ...string) (string, error) {
	body, err := json.Marshal(question{Args: args})
	if err != nil {
		return "", fmt.Errorf("encode arguments: %w", err)
	}
	code, text, err := c.do(ctx, http.MethodPost, "/control/"+url.PathEscape(command), body)
	if err != nil {
		return "", err
	}
	var a answer
	switch err := json.Unmarshal(text, &a); {
	case code == http.StatusNotFound:
		return "", fmt.Errorf("the running %s does not know the command %q (is it another version?)", c.Program, command)
	case err != nil:
		return "", fmt.Errorf("%s answered %d: %s", c.Program, code, bytes.TrimSpace(text))
	case a.Error != "":
		return a.Output, errors.New(a.Error)
	}
	return a.Output, nil
}

func (c Client) do(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Socket)
		},
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", c.Program, err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, nil, c.explain(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, c.explain(ctx, err)
	}
	return response.StatusCode, text, nil
}

func (c Client) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%s is %w (no answer on %s); start it with: systemctl start %s", c.Program, ErrNotRunning, c.Socket, c.Program)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s must not be asked by this user (%s); use sudo", c.Program, c.Socket)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s runs but does not answer on %s: %w", c.Program, c.Socket, ctx.Err())
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	// The socket was there: net/http has a different error for each moment at which the other side may hang up.
	return fmt.Errorf("%s hung up before it had answered: it is stopping, or this user may not ask it (%w)", c.Program, err)
}
