package strictconf_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"releve/internal/strictconf"
)

func TestParseDuration(t *testing.T) {
	const example = `is not a duration; write for example "500ms", "5s", "15m", "1h30m" or "7d"`
	for _, tc := range []struct {
		text string
		want time.Duration
		err  string
	}{
		{text: "0", want: 0},
		{text: "0s", want: 0},
		{text: "100ms", want: 100 * time.Millisecond},
		{text: "1.5h", want: 90 * time.Minute},
		{text: "7d", want: 7 * 24 * time.Hour},
		{text: "1d12h", want: 36 * time.Hour},
		{text: "0d1s", want: time.Second},
		{text: "-1d12h", want: -36 * time.Hour},
		{text: "-5s", want: -5 * time.Second},
		{text: "106751d", want: 106751 * 24 * time.Hour},
		{text: "5", err: `"5" has no unit; write "5ms", "5s" or "5m"`},
		{text: "1.5", err: `"1.5" has no unit; write "1.5ms", "1.5s" or "1.5m"`},
		{text: "-5", err: `"-5" has no unit; write "-5ms", "-5s" or "-5m"`},
		{text: "", err: `"" ` + example},
		{text: "-", err: `"-" ` + example},
		{text: "--5s", err: `"--5s" ` + example},
		{text: "inf", err: `"inf" ` + example},
		{text: "1d-5s", err: `"1d-5s" ` + example},
		{text: "1.5d", err: `"1.5d" ` + example},
		{text: "12h1d", err: `"12h1d" ` + example},
		{text: "d", err: `"d" ` + example},
		{text: "1w", err: `"1w" ` + example},
		{text: "5 s", err: `"5 s" ` + example},
		{text: "106752d", err: "is longer than 292 years"},
		{text: "106751d24h", err: "is longer than 292 years"},
	} {
		got, err := strictconf.ParseDuration(tc.text)
		if got.D() != tc.want || err != nil && err.Error() != tc.err || err == nil && tc.err != "" {
			t.Errorf("%q: got %v, %v; want %v, %s", tc.text, got.D(), err, tc.want, tc.err)
		}
	}
}

func TestDurationString(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": 0, "100ms": 100 * time.Millisecond, "15m": 15 * time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute, "1h0m5s": time.Hour + 5*time.Second,
		"7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "-1d12h": -36 * time.Hour, "10m": 10 * time.Minute, "20h": 20 * time.Hour,
		time.Duration(math.MinInt64).String(): math.MinInt64,
	} {
		if got := strictconf.Duration(d).String(); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

// What is printed can be read again, and means the same.
func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]int64{1, 1e6, 1e9, 60e9, 3600e9, 24 * 3600e9}).Draw(t, "unit")
		d := strictconf.Duration(rapid.Int64Range(-math.MaxInt64/unit, math.MaxInt64/unit).Draw(t, "n") * unit)
		text, err := d.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back strictconf.Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Fatalf("%d became %s became %d, %v", d, text, back, err)
		}
	})
}

// No text makes it panic, and no text means a negative duration unless it says so.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"0", "5s", "7d", "1d12h", "-1d", "9223372036854775807ns", "106751d24h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := strictconf.ParseDuration(s)
		if err == nil && d < 0 && s[0] != '-' {
			t.Errorf("%q is %v", s, d)
		}
	})
}
