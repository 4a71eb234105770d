package push

import (
	"crypto/sha256"
	"slices"
)

const (
	// leafSize is the finest that two versions of a file are compared.
	leafSize = 64 << 10
	// tableBlocks is how many blocks a table holds at most: 512 KiB of hashes. A file that has more leaves is compared
	// in larger blocks, up to maxLevel: what is read and not yet known to have changed is kept in memory.
	tableBlocks = 1 << 15
	maxLevel    = 6 // 4 MiB, which is enough for 128 GiB
)

// BlockHash is a SHA-256, cut off: nobody can make two blocks that have the same one. What has the same is not sent.
type BlockHash [16]byte

// Blocks are the hashes of a content, block by block. They form a binary tree over leaves of 64 KiB, of which one level
// is kept: so the hashes of larger blocks follow from those of smaller ones, and two versions of a file can be compared
// though one has grown into larger blocks.
type Blocks struct {
	Size   int64 // of the content
	Level  int   // blocks are of 64 KiB << Level
	Hashes []BlockHash
}

// blockSize is how much of the content a block of a level stands for.
func blockSize(level int) int64 { return leafSize << level }

// levelOf is the level for a content of that size.
func levelOf(size int64) int {
	level := 0
	for level < maxLevel && size > tableBlocks*blockSize(level) {
		level++
	}
	return level
}

// blockCount is how many blocks of a level a content of that size has.
func blockCount(size int64, level int) int64 { return (size + blockSize(level) - 1) / blockSize(level) }

// Valid reports whether b can be what it says.
func (b *Blocks) Valid() bool {
	return b.Size >= 0 && b.Level >= 0 && b.Level <= maxLevel && int64(len(b.Hashes)) == blockCount(b.Size, b.Level)
}

// at is b with blocks of a higher level.
func (b *Blocks) at(level int) *Blocks {
	hashes := b.Hashes
	for l := b.Level; l < level; l++ {
		hashes = fold(hashes)
	}
	return &Blocks{Size: b.Size, Level: max(level, b.Level), Hashes: hashes}
}

// fold is the next level.
func fold(hashes []BlockHash) []BlockHash {
	up := make([]BlockHash, 0, (len(hashes)+1)/2)
	var text [2 * len(BlockHash{})]byte
	for pair := range slices.Chunk(hashes, 2) { // the last may be on its own
		n := 0
		for _, h := range pair {
			n += copy(text[n:], h[:])
		}
		up = append(up, short(sha256.Sum256(text[:n])))
	}
	return up
}

func short(sum [sha256.Size]byte) BlockHash { return BlockHash(sum[:len(BlockHash{})]) }

// leaves hashes data, which begins at a leaf, leaf by leaf.
func leaves(data []byte) []BlockHash {
	hashes := make([]BlockHash, 0, (len(data)+leafSize-1)/leafSize)
	for leaf := range slices.Chunk(data, leafSize) {
		hashes = append(hashes, short(sha256.Sum256(leaf)))
	}
	return hashes
}

// blockSums makes a table of what is added to it, of contents whose size is not known to the byte. It holds no more
// hashes than the table.
type blockSums struct {
	level  int
	size   int64
	tail   []byte      // of a leaf that is not full
	leaves []BlockHash // of a block that is not full
	hashes []BlockHash
}

func newBlockSums(size int64) *blockSums {
	level := levelOf(size)
	return &blockSums{level: level, hashes: make([]BlockHash, 0, blockCount(size, level))}
}

// Write adds data. It never fails.
func (s *blockSums) Write(data []byte) (int, error) {
	n := len(data)
	if len(s.tail) > 0 {
		missing := min(leafSize-len(s.tail), len(data))
		s.tail = append(s.tail, data[:missing]...)
		data = data[missing:]
		if len(s.tail) < leafSize {
			return n, nil
		}
		s.add(leaves(s.tail), leafSize)
		s.tail = s.tail[:0]
	}
	whole := len(data) / leafSize * leafSize
	s.add(leaves(data[:whole]), int64(whole))
	s.tail = append(s.tail, data[whole:]...)
	return n, nil
}

// add adds the hashes of leaves, of which only the very last may be short.
func (s *blockSums) add(hashes []BlockHash, size int64) {
	s.size += size
	for _, h := range hashes {
		if s.leaves = append(s.leaves, h); len(s.leaves) == 1<<s.level {
			s.close()
		}
	}
}

// close ends a block.
func (s *blockSums) close() {
	h := s.leaves
	for range s.level {
		h = fold(h)
	}
	s.hashes = append(s.hashes, h...)
	s.leaves = s.leaves[:0]
}

// blocks ends the content.
func (s *blockSums) blocks() *Blocks {
	if len(s.tail) > 0 {
		s.add(leaves(s.tail), int64(len(s.tail)))
		s.tail = nil
	}
	if len(s.leaves) > 0 {
		s.close()
	}
	return &Blocks{Size: s.size, Level: s.level, Hashes: s.hashes}
}
