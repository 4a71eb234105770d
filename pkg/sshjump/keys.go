package sshjump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/crypto/ssh"
)

// signers returns the keys of a hop in the order in which they are to be tried.
func (h Hop) signers() ([]ssh.Signer, error) {
	var keys []ssh.Signer
	for _, s := range h.Signers {
		keys = append(keys, withoutSHA1(s))
	}
	if h.KeyFile == "" {
		if len(keys) == 0 {
			return nil, errors.New("no key was given")
		}
		return keys, nil
	}
	text, err := readPrivate(h.KeyFile)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(h.KeyFile, text, h.PassphraseFile)
	if err != nil {
		return nil, err
	}
	return append(keys, withoutSHA1(key)), nil
}

func parseKey(name string, text []byte, passphraseFile string) (ssh.Signer, error) {
	key, err := ssh.ParsePrivateKey(text)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); !encrypted {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		return key, nil
	}
	if passphraseFile == "" {
		return nil, fmt.Errorf("%s is encrypted, and no passphrase file was given", name)
	}
	passphrase, err := readPrivate(passphraseFile)
	if err != nil {
		return nil, err
	}
	key, err = ssh.ParsePrivateKeyWithPassphrase(text, bytes.TrimRight(passphrase, "\r\n"))
	if err != nil {
		return nil, fmt.Errorf("decrypt %s with the passphrase in %s: %w", name, passphraseFile, err)
	}
	return key, nil
}

// maxSecret bounds what is read of a key or passphrase file; an RSA key of
// 16384 bits takes 13 KB.
const maxSecret = 64 << 10

// readPrivate reads a file that holds a secret, and refuses one that others
// than its owner can get at, as ssh(1) does.
func readPrivate(name string) ([]byte, error) {
	// Stat first: opening a FIFO would wait for a writer.
	if info, err := os.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if open := info.Mode().Perm() & 0o077; open != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s is open to others than its owner (mode %04o): run: chmod 600 %s", name, info.Mode().Perm(), shellQuote(name))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSecret {
		return nil, fmt.Errorf("%s is too large to be a key or a passphrase", name)
	}
	return text, nil
}

// withoutSHA1 keeps an RSA key from signing with SHA-1, which x/crypto/ssh falls
// back to when a server does not list its signature algorithms.
func withoutSHA1(key ssh.Signer) ssh.Signer {
	if key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key
	}
	if s, ok := key.(ssh.AlgorithmSigner); ok {
		if limited, err := ssh.NewSignerWithAlgorithms(s, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err == nil {
			return limited
		}
	}
	return key
}

// describeKeys names the keys that were tried, for an error.
func describeKeys(h Hop, keys []ssh.Signer) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = fingerprint(k.PublicKey())
	}
	if h.KeyFile != "" {
		names[len(names)-1] += " (" + h.KeyFile + ")"
	}
	return strings.Join(names, ", ")
}
