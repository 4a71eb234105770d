package sftpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
)

// Status codes of SSH_FXP_STATUS, draft-ietf-secsh-filexfer-02 §7.
const (
	StatusOK               uint32 = 0
	StatusEOF              uint32 = 1
	StatusNoSuchFile       uint32 = 2
	StatusPermissionDenied uint32 = 3
	StatusFailure          uint32 = 4
	StatusBadMessage       uint32 = 5
	StatusNoConnection     uint32 = 6
	StatusConnectionLost   uint32 = 7
	StatusUnsupported      uint32 = 8
)

// ErrConnectionLost is matched by the error of every call on a connection that
// has ended, for whatever reason, [Client.Close] included. The cause is wrapped
// beside it.
var ErrConnectionLost = errors.New("sftp connection lost")

// StatusError is a request the server refused.
//
// OpenSSH has few codes: a full disk, an existing file and a directory that is
// not empty are all [StatusFailure].
type StatusError struct {
	Op      string // "open", "rename", …
	Path    string // the (first) path of the request, or that of its open file
	Code    uint32
	Message string // the server's words, cut at 1 KiB
}

func (e *StatusError) Error() string {
	message := e.Message
	if message == "" {
		message = "refused"
	}
	return fmt.Sprintf("%s %q: %s (sftp status %d)", e.Op, e.Path, quoteIfOdd(message), e.Code)
}

// Is makes errors.Is work with [fs.ErrNotExist], [fs.ErrPermission], [io.EOF]
// and [errors.ErrUnsupported], where the code allows.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case StatusEOF:
		return target == io.EOF
	case StatusNoSuchFile:
		return target == fs.ErrNotExist
	case StatusPermissionDenied:
		return target == fs.ErrPermission
	case StatusUnsupported:
		return target == errors.ErrUnsupported
	}
	return false
}

// IsUnsupported reports whether the server does not know the request at all,
// as an older one answers to a newer extension.
func IsUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

// quoteIfOdd keeps a server's words from forging lines in a log.
func quoteIfOdd(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// lostError is the end of a connection.
type lostError struct{ cause error }

func (e *lostError) Error() string        { return ErrConnectionLost.Error() + ": " + e.cause.Error() }
func (e *lostError) Is(target error) bool { return target == ErrConnectionLost }
func (e *lostError) Unwrap() error        { return e.cause }

// protocolError is a server that does not keep to the protocol. Nothing it
// says can be trusted from there on, so it always ends the connection.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "server breaks the protocol: " + e.what }

func violation(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

// errClosed is the cause after Close; errHungUp that of an end between two
// packets. It is not io.EOF, which would pass for the end of a file.
var (
	errClosed = errors.New("closed by this side")
	errHungUp = errors.New("server ended the session")
)

// contextError gives both halves of what a context knows: the kind, which
// callers test for, and the cause, which people read.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
