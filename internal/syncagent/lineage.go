package syncagent

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"releve/internal/plan"
	"releve/internal/tree"
)

// Certbot keeps each certificate as a lineage: live/NAME/{cert,chain,fullchain,privkey}.pem are links into
// archive/NAME/, and a renewal writes four new files there and then exchanges the four links one by one. A replica
// taken in between would hold a certificate with another one's key, which no web server starts with. So a lineage goes
// out as one transaction: not before it is complete, archive files first, then the four links in one flight.

// lineageParts are the links of a lineage.
var lineageParts = []string{"cert", "chain", "fullchain", "privkey"}

// archived takes apart where a link of live/NAME leads.
var archived = regexp.MustCompile(`^\.\./\.\./archive/([^/]+)/(cert|chain|fullchain|privkey)([0-9]+)\.pem$`)

// lineageMax bounds what is read of a certificate or key.
const lineageMax = 1 << 20

// holdLineages takes out of p everything that belongs to a lineage which is being renewed, and has it compared again
// shortly.
func (e *engine) holdLineages(p plan.Plan, l view) plan.Plan {
	if e.folder.Kind != LetsEncrypt || !l.scope.All {
		return p
	}
	unfinished := unfinishedLineages(l.src, e.readSmall)
	e.update(func(s *folderStatus) { s.lineages = slices.Sorted(maps.Values(unfinished)) })
	if len(unfinished) == 0 {
		return p
	}
	e.todo.later(time.Now(), []string{"live"}, e.pace.again, e.pace.failMax)
	return plan.Without(p, func(p string) bool {
		for name := range unfinished {
			if tree.Within(p, "live/"+name) || tree.Within(p, "archive/"+name) || p == "renewal/"+name+".conf" {
				return true
			}
		}
		return false
	})
}

// readSmall reads a small file of the source.
func (e *engine) readSmall(p string) ([]byte, error) {
	f, entry, err := e.root.OpenFile(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if entry.Size > lineageMax {
		return nil, fmt.Errorf("read %q: %d bytes are too many for a certificate", p, entry.Size)
	}
	return io.ReadAll(io.LimitReader(f, lineageMax))
}

// unfinishedLineages names the lineages of t that are not complete and consistent, each with the reason as a sentence.
func unfinishedLineages(t tree.Tree, read func(path string) ([]byte, error)) map[string]string {
	unfinished := map[string]string{}
	for p, entry := range t {
		name, ok := strings.CutPrefix(p, "live/")
		if !ok || strings.Contains(name, "/") || entry.Type != tree.Dir {
			continue
		}
		if err := checkLineage(t, name, read); err != nil {
			unfinished[name] = fmt.Sprintf("the certificate %s is not replicated while it is incomplete: %v", name, err)
		}
	}
	return unfinished
}

func checkLineage(t tree.Tree, name string, read func(path string) ([]byte, error)) error {
	live := "live/" + name
	for p := range t {
		if path.Dir(p) == live && strings.HasPrefix(path.Base(p), "previous_") {
			return fmt.Errorf("%s is there, so a renewal is under way", path.Base(p))
		}
	}
	targets := map[string]string{}
	number := ""
	for _, part := range lineageParts {
		link := t[live+"/"+part+".pem"]
		if link.Type != tree.Link {
			return fmt.Errorf("%s.pem is not there or not a link", part)
		}
		m := archived.FindStringSubmatch(link.Link)
		if m == nil || m[2] != part {
			return fmt.Errorf("%s.pem leads to %q", part, link.Link)
		}
		if number == "" {
			number = m[3]
		} else if m[3] != number {
			return fmt.Errorf("its links lead to versions %s and %s", number, m[3])
		}
		target := path.Join(live, link.Link)
		entry, ok := t[target]
		if ok && entry.Type == tree.Link { // --reuse-key: privkey2 -> privkey1
			target = path.Join(path.Dir(target), entry.Link)
			entry, ok = t[target]
		}
		if !ok || entry.Type != tree.File {
			return fmt.Errorf("%s is not there", target)
		}
		targets[part] = target
	}
	return matchKey(targets["cert"], targets["privkey"], read)
}

// matchKey makes sure that certificate and private key belong together.
func matchKey(certPath, keyPath string, read func(path string) ([]byte, error)) error {
	certPEM, err := read(certPath)
	if err != nil {
		return err
	}
	keyPEM, err := read(keyPath)
	if err != nil {
		return err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return errors.New("certificate or key is not complete yet")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return fmt.Errorf("parse certificate: %w", err)
	}
	key, err := parseKey(keyBlock)
	if err != nil {
		return err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return errors.New("the private key is not the certificate's")
	}
	return nil
}

// parseKey reads the forms that certbot has written over the years. Errors never quote the key.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("the private key cannot be read")
	}
	return signer, nil
}
