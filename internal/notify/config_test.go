package notify_test

import (
	"testing"

	"releve/internal/notify"
	"releve/internal/strictconf"
	"releve/test/conftest"
)

// file is what both daemons have in theirs.
type file struct {
	Notify  []notify.Config       `toml:"notify"`
	Deadman *notify.DeadmanConfig `toml:"deadman"`
}

func TestBadConfigs(t *testing.T) {
	conftest.BadFiles(t, func(path string) error {
		var f file
		doc := strictconf.Load(path, &f)
		notify.ValidateAll(f.Notify, []string{"failed_over", "held"}, doc)
		f.Deadman.Validate(doc, "deadman")
		return doc.Err()
	})
}
