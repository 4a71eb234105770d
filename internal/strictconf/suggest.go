package strictconf

import (
	"maps"
	"slices"
	"strings"
)

// unknown complains about a key that the struct does not have, and names the one that was probably meant.
func (d *Doc) unknown(table, name string, raw map[string]any, known map[string]field) {
	at := join(table, name)
	var names []string
	for _, n := range slices.Sorted(maps.Keys(known)) {
		names = append(names, n)
		if known[n].typ == secretType {
			names = append(names, n+fileSuffix)
		}
	}
	if meant, ok := nearest(name, names); ok {
		d.refuse(at, "unknown key; did you mean %q?", meant)
		// Then the key that was meant is misspelt rather than missing, unless it is there as well.
		if _, given := raw[meant]; !given {
			d.broken[join(table, strings.TrimSuffix(meant, fileSuffix))] = true
		}
		return
	}
	d.refuse(at, "unknown key; known here: %s", strings.Join(names, ", "))
}

// nearest is the name with the fewest edits from what was written, if they are few enough to be slips.
func nearest(written string, names []string) (string, bool) {
	best, distance := "", 1+len(written)/3
	for _, name := range names {
		if n := edits(strings.ToLower(written), name); n < distance || n == distance && best == "" {
			best, distance = name, n
		}
	}
	return best, best != ""
}

// edits is the optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
func edits(a, b string) int {
	if len(a) > 64 {
		return len(a) // no key is nearly as long
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
