package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"releve/test/sites"
)

// page is the front page of the site, in one of its editions.
func page(edition string) string {
	return fmt.Sprintf(`<!doctype html>
<meta charset="utf-8">
<title>www.example.net</title>
<h1>A site worth keeping up</h1>
<p>Edition: %s</p>
`, edition)
}

const (
	appFiles   = 300 // of one release
	otherFiles = 340
)

// writeWebroot makes a site: a front page, an application deployed by a symbolic link, and what gathers over the years.
func writeWebroot(dir string) error {
	if err := put(filepath.Join(dir, "index.html"), []byte(page("first")), 0o644); err != nil {
		return err
	}
	if err := writeRelease(dir, 1); err != nil {
		return err
	}
	if err := os.Symlink("releases/1", filepath.Join(dir, "app")); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{}) // the same each time
	size := rand.New(random)
	for i := range otherFiles {
		name := filepath.Join(dir, "uploads", fmt.Sprint(2000+i%25), fmt.Sprintf("picture-%03d.jpg", i))
		if i%50 == 0 {
			name = filepath.Join(dir, "uploads", "été à la plage", fmt.Sprintf("«%d».jpg", i))
		}
		text := make([]byte, 200+size.IntN(20_000))
		if _, err := random.Read(text); err != nil {
			return err
		}
		if err := put(name, text, []fs.FileMode{0o644, 0o640, 0o600}[i%3]); err != nil {
			return err
		}
		// Old files are old on the replica too.
		old := time.Date(2020, 1, 1, 0, i, 0, 0, time.UTC)
		if err := os.Chtimes(name, old, old); err != nil {
			return err
		}
	}
	return nil
}

// releaseDir is where release n of the application lies, relative to the webroot.
func releaseDir(n int) string { return filepath.Join("releases", fmt.Sprint(n)) }

func writeRelease(webroot string, n int) error {
	dir := filepath.Join(webroot, releaseDir(n))
	for i := range appFiles {
		name := filepath.Join(dir, fmt.Sprintf("module-%02d", i%15), fmt.Sprintf("part-%03d.js", i))
		if err := put(name, fmt.Appendf(nil, "export const release = %d, part = %d;\n", n, i), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// replaceLink makes a symbolic link lead elsewhere, in one step.
func replaceLink(link, target string) error {
	temporary := link + ".new"
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, link)
}

// lineageParts are the files of a certificate, in the order in which certbot writes them.
func lineageParts() []string { return []string{"privkey", "cert", "chain", "fullchain"} }

// issue puts certificate number n into a letsencrypt folder, as certbot does: new files in archive/, then links
// previous_*.pem, then each of the four links in live/ removed and made anew, and at last previous_*.pem removed. It
// calls pace between the steps.
func issue(ca *sites.CA, dir string, n int, pace func()) error {
	cert, err := ca.Issue([]string{siteName}, time.Now().AddDate(0, 0, 89+n))
	if err != nil {
		return err
	}
	leaf, chain, key, err := sites.PEM(cert)
	if err != nil {
		return err
	}
	live, archive := filepath.Join(dir, "live", siteName), filepath.Join(dir, "archive", siteName)
	for _, d := range []string{live, archive} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf("# renew_before_expiry = 30 days\nversion = 4.0.0\narchive_dir = /etc/letsencrypt/archive/%s\n", siteName)
	if err := put(filepath.Join(dir, "renewal", siteName+".conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	content := map[string][]byte{"privkey": key, "cert": leaf, "chain": chain, "fullchain": append(append([]byte{}, leaf...), chain...)}
	for _, part := range lineageParts() {
		mode := fs.FileMode(0o644)
		if part == "privkey" {
			mode = 0o600
		}
		if err := put(filepath.Join(archive, fmt.Sprintf("%s%d.pem", part, n)), content[part], mode); err != nil {
			return err
		}
		pace()
	}
	target := func(part string, n int) string {
		return filepath.Join("..", "..", "archive", siteName, fmt.Sprintf("%s%d.pem", part, n))
	}
	previous := func(part string) string { return filepath.Join(live, "previous_"+part+".pem") }
	for _, part := range lineageParts() {
		if n > 1 {
			if err := os.Symlink(target(part, n-1), previous(part)); err != nil {
				return err
			}
		}
	}
	for _, part := range lineageParts() {
		link := filepath.Join(live, part+".pem")
		if err := os.Remove(link); err != nil && n > 1 {
			return err
		}
		if err := os.Symlink(target(part, n), link); err != nil {
			return err
		}
		pace()
	}
	for _, part := range lineageParts() {
		if n > 1 {
			if err := os.Remove(previous(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes a file and the directories above it.
func put(path string, text []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, mode)
}

// measure counts the files below dir, and their bytes.
func measure(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, bytes = files+1, bytes+info.Size()
		return nil
	})
	return files, bytes, err
}
