package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"releve/internal/syncagent"
	"releve/internal/watchdog"
	"releve/test/netlab"
)

// programs are what is built below. Their code is part of the test binary, or a cached result of these tests would outlive
// a change of it.
var programs = map[string]any{"syncagent": syncagent.Main, "watchdog": watchdog.Main}

// build builds the two binaries, once, and returns the folder that holds them.
var build = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(suite.dir, "bin")
	for name := range programs {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), "releve/cmd/"+name).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return dir, nil
})

// suite is what all tests share.
var suite struct {
	dir          string // scratch folder
	noLab        error  // why there is no laboratory
	noSSHD       error
	jump, backup netlab.Account // with a laboratory
}

func TestMain(m *testing.M) {
	flag.Parse()
	// The parallel tests wait, for the greater part, for timeouts that are promised.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	suite.noLab, suite.noSSHD = netlab.Unavailable(), netlab.NoSSHD()
	if suite.noLab == nil {
		suite.dir, err = labSetUp(ctx)
	} else {
		suite.dir, err = os.MkdirTemp("", "releve-e2e-")
	}
	defer func() {
		if err := tearDown(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func labSetUp(ctx context.Context) (dir string, err error) {
	if err := netlab.Sweep(ctx); err != nil {
		return "", err
	}
	if dir, err = netlab.Scratch(); err != nil {
		return "", err
	}
	if suite.jump, err = netlab.AddAccount(ctx, "jump"); err != nil {
		return dir, err
	}
	suite.backup, err = netlab.AddAccount(ctx, "backup")
	return dir, err
}

func tearDown() error {
	var errs []error
	for _, a := range []netlab.Account{suite.jump, suite.backup} {
		if a.Name != "" {
			errs = append(errs, a.Remove(context.Background()))
		}
	}
	if suite.dir != "" {
		errs = append(errs, os.RemoveAll(suite.dir))
	}
	return errors.Join(errs...)
}

// needLab skips a test where there is no laboratory.
func needLab(t *testing.T) {
	t.Helper()
	if suite.noLab != nil {
		t.Skipf("left out: %v", suite.noLab)
	}
	if suite.noSSHD != nil {
		t.Skipf("left out: %v", suite.noSSHD)
	}
}

// need skips a test where a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("left out: no %s", p)
		}
	}
}

// binary is the path of one of the two built programs.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// folder makes a folder for one test, readable by all, which goes away with it.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(suite.dir, strings.ReplaceAll(t.Name(), "/", "_")+"-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// eventually polls until ok returns true, for at most the given time; then the test fails with what ok said last.
func eventually(t *testing.T, within, every time.Duration, ok func() (bool, string)) time.Duration {
	t.Helper()
	began := time.Now()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		good, last := ok()
		if good {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v: %s", within, last)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
