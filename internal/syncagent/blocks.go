package syncagent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"releve/internal/plan"
	"releve/internal/push"
)

// blockStore keeps the block hashes of the large files that were pushed, so that of a later version only what has
// changed need travel. There is a file for each content, named by its SHA-256: whatever is said of it stays true, and
// which content lies where is the record's business. They take a 4096th of the space of the files, and a 262144th of
// that of very large ones. All of it is disposable.
//
// A file is a header, size, level, the hashes, and the SHA-256 of all before it. It is written beside its place and
// renamed, and not synced: a file that a power cut has torn does not fit its checksum, and is worth nothing.
type blockStore struct {
	dir string
	log *slog.Logger
}

const (
	blocksHeader = "releve blocks 1\n"
	// blocksRest is how long the hashes of a content are kept that does not lie on the replica: it may be on its way.
	blocksRest = time.Hour
)

var _ push.BlockStore = blockStore{}

func (s blockStore) file(sum [sha256.Size]byte) string {
	return filepath.Join(s.dir, hex.EncodeToString(sum[:]))
}

// Load returns nil for what is not there, or not as it was written.
func (s blockStore) Load(sum [sha256.Size]byte) *push.Blocks {
	data, err := os.ReadFile(s.file(sum))
	if err != nil {
		return nil
	}
	b, err := parseBlocks(data)
	if err != nil {
		s.log.Warn("the block hashes of a file cannot be used; its next version is sent whole", "file", s.file(sum), "err", err)
		return nil
	}
	return b
}

func (s blockStore) Save(sum [sha256.Size]byte, b *push.Blocks) {
	if err := s.save(sum, b); err != nil {
		s.log.Warn("could not keep the block hashes of a file; its next version is sent whole", "err", err)
	}
}

func (s blockStore) save(sum [sha256.Size]byte, b *push.Blocks) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, "new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(encodeBlocks(b))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.file(sum))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// prune removes the hashes of contents that the replica no longer holds.
func (s blockStore) prune(known *plan.Known, now time.Time) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) || len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list block hashes: %w", err)
	}
	held := map[string]bool{}
	for _, e := range known.All() {
		if e.Size >= push.CarrySize {
			held[hex.EncodeToString(e.Sum[:])] = true
		}
	}
	for _, e := range known.Expected() {
		held[hex.EncodeToString(e.Sum[:])] = true
	}
	var errs []error
	for _, e := range entries {
		if info, err := e.Info(); held[e.Name()] || err != nil || now.Sub(info.ModTime()) < blocksRest {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
	}
	return errors.Join(errs...)
}

func encodeBlocks(b *push.Blocks) []byte {
	w := recordWriter{buf: make([]byte, 0, len(blocksHeader)+32+len(b.Hashes)*len(push.BlockHash{})+sha256.Size)}
	w.buf = append(w.buf, blocksHeader...)
	w.number(uint64(b.Size))
	w.number(uint64(b.Level))
	for _, h := range b.Hashes {
		w.buf = append(w.buf, h[:]...)
	}
	sum := sha256.Sum256(w.buf)
	return append(w.buf, sum[:]...)
}

// parseBlocks reads what encodeBlocks wrote. Whatever differs from that in any way is an error.
func parseBlocks(data []byte) (*push.Blocks, error) {
	if len(data) < sha256.Size {
		return nil, errors.New("it is cut short")
	}
	body, want := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], want) {
		return nil, errors.New("it is damaged")
	}
	if !strings.HasPrefix(string(body[:min(len(body), len(blocksHeader))]), blocksHeader) {
		return nil, errors.New("it is of another version")
	}
	const size = len(push.BlockHash{})
	r := &recordReader{data: body[len(blocksHeader):]}
	b := &push.Blocks{Size: int64(r.number()), Level: int(r.number())}
	if r.bad || len(r.data)%size != 0 {
		return nil, errors.New("it is damaged")
	}
	b.Hashes = make([]push.BlockHash, len(r.data)/size)
	for i := range b.Hashes {
		b.Hashes[i] = push.BlockHash(r.data[i*size:])
	}
	if !b.Valid() {
		return nil, errors.New("it is damaged")
	}
	return b, nil
}
