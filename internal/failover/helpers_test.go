package failover_test

import (
	"slices"
	"strconv"

	"releve/internal/failover"
)

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func itoa(n int) string { return strconv.Itoa(n) }

func encode(t fataler, s failover.State) []byte {
	t.Helper()
	text, err := s.Encode()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return text
}

func decode(t fataler, text []byte) failover.State {
	t.Helper()
	s, err := failover.Decode(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

// diff is the sequence of zones that leads from have to want one call at a
// time: change a record in place where there is one of the family, add what is
// missing, delete what is left.
func diff(have, want failover.Records) []failover.Records {
	var steps []failover.Records
	zone := slices.Clone(have)
	step := func() { steps = append(steps, slices.Clone(zone)) }
	kept := make([]bool, len(zone))
	var missing failover.Records
	for _, w := range want {
		if i := slices.Index(zone, w); i >= 0 && !kept[i] {
			kept[i] = true
		} else {
			missing = append(missing, w)
		}
	}
	for _, w := range missing {
		i := -1
		for j := range kept {
			if !kept[j] && zone[j].Addr.Is4() == w.Addr.Is4() {
				i = j
			}
		}
		if i >= 0 {
			zone[i], kept[i] = w, true
		} else {
			zone, kept = append(zone, w), append(kept, true)
		}
		step()
	}
	for i := len(kept) - 1; i >= 0; i-- {
		if !kept[i] {
			zone = slices.Delete(zone, i, i+1)
			step()
		}
	}
	return steps
}
