package probe_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Checks run for months, every few seconds: not one may leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
