package syncagent

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"

	"releve/internal/plan"
)

// The journal holds what has been said of the replica since the record was saved: a record of a large folder is not
// written for every change, and an agent that is killed must still know what it has sent. What is about to be put on
// the replica is in the journal before it is sent, so that afterwards nothing lies there of which the agent believes
// that it is something else.
//
// The file is a header, the SHA-256 that ends the record it continues, and one frame for each change: length, CRC-32,
// content. It is written in one piece and not synced: it is there to survive the process, and after a power cut what
// is missing of it costs time. Whatever follows the first frame that is not whole is worth nothing.
const journalHeader = "releve journal 2\n"

// journalBuffer is how much is gathered before it is written, at the most.
const journalBuffer = 64 << 10

type journal struct {
	file  *os.File
	buf   []byte
	frame recordWriter // for the change that is being noted
	err   error        // the first one; nothing is written after it
}

// openJournal continues the journal at path from the byte on up to which it is good; 0 begins it anew.
func openJournal(path string, base [sha256.Size]byte, good int64) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &journal{file: file}
	if good == 0 {
		err = j.restart(base)
	} else if err = file.Truncate(good); err == nil {
		_, err = file.Seek(good, 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

// restart begins the journal anew, after the record with the checksum base.
func (j *journal) restart(base [sha256.Size]byte) error {
	j.buf, j.err = j.buf[:0], nil
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if _, err := j.file.Seek(0, 0); err != nil {
		return err
	}
	_, err := j.file.Write(append([]byte(journalHeader), base[:]...))
	return err
}

// note adds one change.
func (j *journal) note(c plan.Change) {
	w := &j.frame
	w.buf = w.buf[:0]
	w.number(uint64(c.Op))
	w.text(c.Path)
	w.text(c.To)
	if hasEntry(c.Op) {
		w.entry(c.Entry)
	}
	j.buf = binary.AppendUvarint(j.buf, uint64(len(w.buf)))
	j.buf = binary.LittleEndian.AppendUint32(j.buf, crc32.ChecksumIEEE(w.buf))
	j.buf = append(j.buf, w.buf...)
	if len(j.buf) > journalBuffer {
		j.flush()
	}
}

func hasEntry(op plan.ChangeOp) bool {
	return op == plan.Placed || op == plan.Sent || op == plan.LaidBy
}

// flush hands everything to the kernel, so that it survives this process.
func (j *journal) flush() {
	if j.err == nil && len(j.buf) > 0 {
		_, j.err = j.file.Write(j.buf)
	}
	j.buf = j.buf[:0]
}

func (j *journal) close() error {
	j.flush()
	return errors.Join(j.err, j.file.Close())
}

// replay repeats the journal at path on known, if it continues the record with the checksum base, and returns up to
// which byte it is good.
func replay(path string, base [sha256.Size]byte, known *plan.Known) (int64, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	head := slices.Concat([]byte(journalHeader), base[:])
	if len(data) < len(head) || string(data[:len(head)]) != string(head) {
		return 0, nil // it continues another record
	}
	good := len(head)
	for {
		c, size := parseFrame(data[good:])
		if size == 0 {
			return int64(good), nil
		}
		known.Repeat(c)
		good += size
	}
}

// parseFrame returns the change at the beginning of data, and its size, 0 if there is no whole one.
func parseFrame(data []byte) (plan.Change, int) {
	n, size := binary.Uvarint(data)
	if size <= 0 || len(data)-size < 4 || uint64(len(data)-size-4) < n {
		return plan.Change{}, 0
	}
	sum, body := binary.LittleEndian.Uint32(data[size:]), data[size+4:size+4+int(n)]
	if crc32.ChecksumIEEE(body) != sum {
		return plan.Change{}, 0
	}
	r := &recordReader{data: body}
	c := plan.Change{Op: plan.ChangeOp(r.number()), Path: r.text(), To: r.text()}
	if hasEntry(c.Op) {
		c.Entry = r.entry()
	}
	if r.bad || len(r.data) > 0 {
		return plan.Change{}, 0
	}
	return c, size + 4 + int(n)
}

// memory is what is remembered of the replica from run to run: a record and the journal that continues it.
type memory struct {
	record, owner string
	root          rootID            // the source that the record is about
	base          [sha256.Size]byte // checksum of the record
	good          int64             // size of the journal that was read
	journal       *journal
}

func newMemory(record, owner string) *memory {
	return &memory{record: record, owner: owner, base: sha256.Sum256([]byte(owner))}
}

func (m *memory) journalFile() string { return m.record + ".journal" }

// load returns what is remembered: nil if nothing is, with the reason as the error if there should be something.
func (m *memory) load() (*plan.Known, error) {
	data, err := os.ReadFile(m.record)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read record: %w", err)
	}
	known := plan.NewKnown(nil)
	if err == nil {
		if m.root, known, err = parseRecord(data, m.owner); err != nil {
			return nil, fmt.Errorf("read record %s: %w", m.record, err)
		}
		m.base = [sha256.Size]byte(data[len(data)-sha256.Size:])
	}
	m.good, err = replay(m.journalFile(), m.base, known)
	if known.Len()+len(known.Expected())+len(known.Laid()) == 0 {
		return nil, err
	}
	return known, err
}

// follow has the journal take in what is said of known from now on.
func (m *memory) follow(known *plan.Known) error {
	if m.journal == nil {
		j, err := openJournal(m.journalFile(), m.base, m.good)
		if err != nil {
			return err
		}
		m.journal = j
	}
	known.Observe(m.journal.note)
	return nil
}

func (m *memory) flush() {
	if m.journal != nil {
		m.journal.flush()
	}
}

// save writes all of it to the record and begins the journal anew.
func (m *memory) save(root rootID, known *plan.Known) error {
	base, err := saveRecord(m.record, m.owner, root, known)
	if err != nil {
		return err
	}
	m.base, m.good, m.root = base, 0, root
	if m.journal != nil {
		if err := m.journal.restart(base); err != nil {
			return fmt.Errorf("restart journal: %w", err)
		}
	}
	return nil
}

func (m *memory) close() error {
	if m.journal == nil {
		return nil
	}
	m.journal.flush()
	info, err := m.journal.file.Stat()
	if err == nil {
		m.good = info.Size()
	}
	err = errors.Join(err, m.journal.close())
	m.journal = nil
	return err
}
