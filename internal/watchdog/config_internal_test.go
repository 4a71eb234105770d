package watchdog

import (
	"testing"

	"releve/test/conftest"
)

func load(path string) error {
	_, err := LoadConfig(path)
	return err
}

func TestBadConfigs(t *testing.T) { conftest.BadFiles(t, load) }

func TestSampleConfig(t *testing.T) {
	conftest.Sample(t, "../../configs/watchdog.toml", &configFile{}, load)
}
