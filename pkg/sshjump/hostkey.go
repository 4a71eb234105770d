package sshjump

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys is what the known_hosts files say about one hop.
type hostKeys struct {
	address    string
	files      []string
	callback   ssh.HostKeyCallback
	algorithms []string // never empty
}

func readHostKeys(address string, files []string) (*hostKeys, error) {
	if len(files) == 0 {
		return nil, errors.New("no known_hosts file was given")
	}
	// A file that does not exist yet knows no host: the error then shows the key and the line that would begin it.
	present := slices.DeleteFunc(slices.Clone(files), func(file string) bool {
		_, err := os.Stat(file)
		return errors.Is(err, fs.ErrNotExist)
	})
	db, err := knownhosts.NewDB(present...)
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	algorithms, err := hostKeyAlgorithms(db.HostKeys(address))
	if err != nil {
		return nil, err
	}
	return &hostKeys{address: address, files: files, callback: db.HostKeyCallback(), algorithms: algorithms}, nil
}

// hostKeyAlgorithms returns the algorithms to ask a host for, given the keys
// known for it. Asking for others makes a host offer a key that is not in the
// file, which looks like an attack: x/crypto/ssh by itself prefers ECDSA and RSA
// to Ed25519, whatever is known.
func hostKeyAlgorithms(known []knownhosts.PublicKey) ([]string, error) {
	supported := ssh.SupportedAlgorithms().HostKeys
	var want []string
	for _, key := range known {
		switch {
		case key.Cert:
			// The type of a CA's key says nothing about the types of those it signs.
			for _, a := range supported {
				if strings.Contains(a, "-cert-") {
					want = append(want, a)
				}
			}
		case key.Type() == ssh.KeyAlgoRSA:
			want = append(want, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			want = append(want, key.Type())
		}
	}
	if len(want) == 0 {
		// Unknown: it will be refused, and the key that the error shows should be
		// the one that the owner would look up first.
		return slices.Concat([]string{ssh.KeyAlgoED25519}, slices.DeleteFunc(supported, func(a string) bool { return a == ssh.KeyAlgoED25519 })), nil
	}
	usable := slices.DeleteFunc(slices.Clone(want), func(a string) bool { return !slices.Contains(supported, a) })
	if len(usable) == 0 {
		return nil, fmt.Errorf("the only keys known for it are of types that are not secure: %s", strings.Join(want, ", "))
	}
	return usable, nil
}

// check is an [ssh.HostKeyCallback].
func (k *hostKeys) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	// The remote address plays no role when there is a name, but it has to parse,
	// and those of connections other than TCP do not.
	err := k.callback(k.address, &net.TCPAddr{IP: net.IPv4zero}, key)
	unknown, ok := errors.AsType[*xknownhosts.KeyError](err)
	if !ok {
		return err // nil, or the key is revoked, or a certificate is not valid
	}
	e := &HostKeyError{Address: k.address, Offered: key, Files: k.files, err: err}
	for _, want := range unknown.Want {
		if !e.Changed || want.Key.Type() == key.Type() {
			e.Changed, e.File, e.Line, e.Known = true, want.Filename, want.Line, want.Key
		}
	}
	return e
}

// line is the entry that would make the offered key known.
func (e *HostKeyError) line() string {
	return xknownhosts.Line([]string{e.Address}, e.Offered)
}
