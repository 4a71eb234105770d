package strictconf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration whose text may begin with days: "100ms", "15m", "7d", "1d12h". A number without a
// unit is refused, except "0".
type Duration time.Duration

const day = 24 * time.Hour

// ParseDuration reads a duration, which may be negative. Its error is a sentence for the person who wrote s.
func ParseDuration(s string) (Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil && s != "0" && strings.Trim(s, "-+.0123456789") == "" {
		return 0, fmt.Errorf("%q has no unit; write %q, %q or %q", s, s+"ms", s+"s", s+"m")
	}
	notOne := fmt.Errorf(`%q is not a duration; write for example "500ms", "5s", "15m", "1h30m" or "7d"`, s)
	rest, negative := strings.CutPrefix(s, "-")
	var total time.Duration
	if before, after, found := strings.Cut(rest, "d"); found {
		days, err := strconv.ParseUint(before, 10, 31)
		if err != nil {
			return 0, notOne
		}
		if days > uint64(math.MaxInt64/day) {
			return 0, errors.New("is longer than 292 years")
		}
		total, rest = time.Duration(days)*day, after
		if rest == "" {
			rest = "0"
		}
	}
	// What follows the days has no sign of its own.
	if rest == "" || rest[0] == '+' || rest[0] == '-' {
		return 0, notOne
	}
	part, err := time.ParseDuration(rest)
	if err != nil {
		return 0, notOne
	}
	if total > math.MaxInt64-part {
		return 0, errors.New("is longer than 292 years")
	}
	total += part
	if negative {
		total = -total
	}
	return Duration(total), nil
}

// D is d as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String is the shortest text that [ParseDuration] reads as d: "7d", "1d12h", "15m", "1.5s", "0".
func (d Duration) String() string {
	if d == 0 {
		return "0"
	}
	if d == math.MinInt64 {
		return time.Duration(d).String() // has no positive counterpart
	}
	var b strings.Builder
	left := time.Duration(d)
	if left < 0 {
		b.WriteByte('-')
		left = -left
	}
	if days := left / day; days > 0 {
		fmt.Fprintf(&b, "%dd", days)
		left %= day
	}
	if left > 0 {
		s := left.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		b.WriteString(s)
	}
	return b.String()
}

// UnmarshalText reads what [ParseDuration] reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err == nil {
		*d = v
	}
	return err
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
