package publicip_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Rounds of questions go on for months: not one may leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
