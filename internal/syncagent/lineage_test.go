package syncagent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"releve/internal/tree"
)

// certificate makes a self-signed certificate and its key, PEM.
func certificate(t testing.TB) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "www.example.net"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// renew does what certbot does at a renewal, step by step (certbot's storage.py, save_successor and
// update_all_links_to): four archive files, then previous_* links, then each live link unlinked and made anew.
func renew(t testing.TB, dir string, n int, step func()) {
	t.Helper()
	cert, key := certificate(t)
	live, archive := filepath.Join(dir, "live/www.example.net"), filepath.Join(dir, "archive/www.example.net")
	must(t, os.MkdirAll(live, 0o700))
	must(t, os.MkdirAll(archive, 0o700))
	for _, f := range []struct {
		part string
		data []byte
		mode os.FileMode
	}{{"privkey", key, 0o600}, {"cert", cert, 0o644}, {"chain", cert, 0o644}, {"fullchain", slices.Concat(cert, cert), 0o644}} {
		must(t, os.WriteFile(fmt.Sprintf("%s/%s%d.pem", archive, f.part, n), f.data, f.mode))
		step()
	}
	parts := []string{"privkey", "cert", "chain", "fullchain"}
	for _, part := range parts {
		if n > 1 {
			must(t, os.Symlink(fmt.Sprintf("../../archive/www.example.net/%s%d.pem", part, n-1), live+"/previous_"+part+".pem"))
			step()
		}
	}
	for _, part := range parts {
		name := live + "/" + part + ".pem"
		if n > 1 {
			must(t, os.Remove(name))
			step()
		}
		must(t, os.Symlink(fmt.Sprintf("../../archive/www.example.net/%s%d.pem", part, n), name))
		step()
	}
	for _, part := range parts {
		if n > 1 {
			must(t, os.Remove(live+"/previous_"+part+".pem"))
			step()
		}
	}
}

// TestLineageIsUnfinishedUntilTheEnd: at every step of a renewal but the last, and before the first link is touched,
// the lineage is held back.
func TestLineageIsUnfinishedUntilTheEnd(t *testing.T) {
	dir := t.TempDir()
	root, err := tree.Open(dir)
	must(t, err)
	defer root.Close()
	filter, err := tree.ParseFilter(nil)
	must(t, err)
	e := &engine{root: root}
	var verdicts []bool
	look := func() {
		src := tree.Tree{}
		_, err := root.Scan(t.Context(), ".", filter, src)
		must(t, err)
		verdicts = append(verdicts, len(unfinishedLineages(src, e.readSmall)) > 0)
	}
	renew(t, dir, 1, func() {})
	look()
	if verdicts[0] {
		t.Fatal("a complete lineage is held back")
	}
	verdicts = nil
	renew(t, dir, 2, look)
	// The first four steps add archive files that nothing leads to yet: the lineage is still whole as version 1.
	for i, held := range verdicts {
		want := i >= 4 && i < len(verdicts)-1
		if held != want {
			t.Errorf("step %d of %d: held back %v, want %v", i+1, len(verdicts), held, want)
		}
	}
}

func TestLineageRefusesAnotherKey(t *testing.T) {
	cert, _ := certificate(t)
	_, key := certificate(t)
	files := map[string][]byte{"archive/a/cert1.pem": cert, "archive/a/privkey1.pem": key}
	src := tree.Tree{"live/a": {Type: tree.Dir}}
	for _, part := range lineageParts {
		src["archive/a/"+part+"1.pem"] = tree.Entry{Type: tree.File}
		src["live/a/"+part+".pem"] = tree.Entry{Type: tree.Link, Link: "../../archive/a/" + part + "1.pem"}
	}
	read := func(p string) ([]byte, error) {
		if data, ok := files[p]; ok {
			return data, nil
		}
		return nil, fs.ErrNotExist
	}
	why := unfinishedLineages(src, read)["a"]
	if !strings.Contains(why, "the private key is not the certificate's") {
		t.Errorf("got %q", why)
	}
	for name, data := range files {
		if strings.Contains(why, string(data)) {
			t.Errorf("the reason quotes %s", name)
		}
	}

	mixed := maps.Clone(src)
	mixed["live/a/cert.pem"] = tree.Entry{Type: tree.Link, Link: "../../archive/a/cert2.pem"}
	mixed["archive/a/cert2.pem"] = tree.Entry{Type: tree.File}
	if why := unfinishedLineages(mixed, read)["a"]; !strings.Contains(why, "versions 2 and 1") {
		t.Errorf("got %q", why)
	}
	half := maps.Clone(src)
	delete(half, "archive/a/chain1.pem")
	if why := unfinishedLineages(half, read)["a"]; !strings.Contains(why, "archive/a/chain1.pem is not there") {
		t.Errorf("got %q", why)
	}
}

// TestEngineRenewsACertificate: the replica never holds a certificate with another one's key while certbot works.
func TestEngineRenewsACertificate(t *testing.T) {
	a := newAgentWorld(t)
	a.folder.Kind = LetsEncrypt
	renew(t, a.src, 1, func() {})
	a.start(t)
	a.identical(t)
	renew(t, a.src, 2, func() {
		mixed := map[string]bool{}
		for _, part := range lineageParts {
			target, err := os.Readlink(filepath.Join(a.dst, "live/www.example.net", part+".pem"))
			must(t, err)
			mixed[strings.TrimPrefix(filepath.Base(target), part)] = true
		}
		if len(mixed) != 1 {
			t.Errorf("the replica mixes versions: %v", slices.Sorted(maps.Keys(mixed)))
		}
	})
	a.identical(t)
}
