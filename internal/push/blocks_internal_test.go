package push

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func noise(size int, seed uint64) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data)
	return data
}

// table hashes data at a level, from its leaves.
func table(data []byte, level int) *Blocks {
	return (&Blocks{Size: int64(len(data)), Hashes: leaves(data)}).at(level)
}

// TestBlockSums: however a content comes in pieces, and whatever the level, its table is the same, and that of a higher
// level is the same whether it was made of the content or of the lower one.
func TestBlockSums(t *testing.T) {
	data := noise(40*leafSize, 1)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, len(data)), rapid.Map(rapid.IntRange(0, 40), func(n int) int { return n * leafSize })).Draw(t, "size")
		level := rapid.IntRange(0, maxLevel).Draw(t, "level")
		s := blockSums{level: level}
		for rest := data[:size]; len(rest) > 0; {
			n := min(len(rest), rapid.SampledFrom([]int{1, 1000, leafSize - 1, leafSize, leafSize + 1, 5 * leafSize}).Draw(t, "piece"))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		got, want := s.blocks(), table(data[:size], level)
		if got.Size != want.Size || got.Level != want.Level || !slices.Equal(got.Hashes, want.Hashes) || !got.Valid() {
			t.Fatalf("%d bytes at level %d: %d hashes, want %d", size, level, len(got.Hashes), len(want.Hashes))
		}
		up := rapid.IntRange(level, maxLevel).Draw(t, "up")
		if !slices.Equal(got.at(up).Hashes, table(data[:size], up).Hashes) {
			t.Fatalf("%d bytes from level %d to %d", size, level, up)
		}
	})
}

// TestBlocksTell: one bit anywhere changes the hash of its block, at every level, and no other.
func TestBlocksTell(t *testing.T) {
	data := noise(9*leafSize+100, 2)
	for _, at := range []int{0, leafSize - 1, leafSize, 5*leafSize + 7, 9 * leafSize, len(data) - 1} {
		other := slices.Clone(data)
		other[at] ^= 1
		for level := range maxLevel + 1 {
			a, b := table(data, level), table(other, level)
			for i := range a.Hashes {
				if (a.Hashes[i] != b.Hashes[i]) != (int64(at)/blockSize(level) == int64(i)) {
					t.Errorf("a bit at %d, level %d, block %d", at, level, i)
				}
			}
		}
		shorter := table(data[:len(data)-1], 0)
		if last := len(shorter.Hashes) - 1; shorter.Hashes[last] == table(data, 0).Hashes[last] {
			t.Error("a byte less is the same")
		}
	}
}

func TestLevels(t *testing.T) {
	for size, want := range map[int64]int{0: 0, 8 << 20: 0, 2 << 30: 0, 2<<30 + 1: 1, 100 << 30: 6, 1 << 50: 6} {
		if got := levelOf(size); got != want {
			t.Errorf("%d bytes: level %d, want %d", size, got, want)
		}
	}
	if n := blockCount(128<<30, levelOf(128<<30)) * int64(len(BlockHash{})); n > 512<<10 {
		t.Errorf("%d bytes for the table of 128 GiB", n)
	}
}
