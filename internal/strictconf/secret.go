package strictconf

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// fileSuffix makes the key that names the file which holds the secret of another key.
const fileSuffix = "_file"

const redacted = "(redacted)"

// maxSecret bounds the size of a secret's file.
const maxSecret = 64 << 10

// Secret is a text that nothing prints: every way of formatting, logging or marshalling it gives "(redacted)", or
// nothing at all when it is empty. The zero value is the empty secret. In a file, the secret of KEY may instead be
// given as KEY_file, the path of a file that holds it.
type Secret struct {
	// A pointer, because fmt does not ask unexported fields of other structs how they want to be printed: it would
	// print a string.
	text *string
}

// NewSecret makes a secret of text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal gives the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether the secret is empty.
func (s Secret) IsZero() bool { return s.text == nil }

// String is "(redacted)", or empty when the secret is.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format prints String whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is String between quotes.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// readSecret reads the file of a secret, without the line end that editors leave. Its errors are sentences that name
// neither the path nor the content: a secret written into KEY_file by mistake must not be shown either.
func readSecret(path string) (Secret, error) {
	if !filepath.IsAbs(path) {
		return Secret{}, errors.New("must be the absolute path of a file that holds the secret")
	}
	// A FIFO would block an ordinary open.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Secret{}, fmt.Errorf("this file cannot be opened: %w", cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Secret{}, fmt.Errorf("this file cannot be examined: %w", cause(err))
	}
	if !info.Mode().IsRegular() {
		return Secret{}, errors.New("this is not a regular file")
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return Secret{}, fmt.Errorf("this file is open to others than its owner (mode %04o); chmod 600 it", info.Mode().Perm())
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return Secret{}, fmt.Errorf("this file cannot be read: %w", cause(err))
	}
	if len(content) > maxSecret {
		return Secret{}, errors.New("this file is larger than 64 KiB: that is no secret")
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if text == "" {
		return Secret{}, errors.New("this file is empty")
	}
	return NewSecret(text), nil
}
