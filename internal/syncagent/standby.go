package syncagent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"releve/internal/probe"
)

// What prod knows of the standby's site.
const (
	standbyUnknown = "unknown" // not probed yet
	standbyUp      = "up"
	standbyDown    = "down"
)

// standby watches the standby's site from prod: by its address, under the site's name, with its certificate. When the
// day comes it must answer, and nobody visits it before that day. Its methods are safe for concurrent use.
type standby struct {
	backup Backup
	log    *slog.Logger
	target probe.Target

	mu       sync.Mutex
	verdict  string
	since    time.Time
	failures int // in a row
	last     probe.Result
}

func newStandby(b Backup, log *slog.Logger) (*standby, error) {
	target, err := b.Probe.target()
	if err != nil {
		return nil, err
	}
	return &standby{backup: b, log: log.With("backup", b.Name), target: target, verdict: standbyUnknown, since: time.Now()}, nil
}

// target is the probe's target with its extra roots.
func (p *Probe) target() (probe.Target, error) {
	t := p.Target
	if p.CAFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(p.CAFile)
	if err != nil {
		return t, fmt.Errorf("read ca_file: %w", err)
	}
	if t.Roots, err = probe.SystemRootsPlus(text); err != nil {
		return t, fmt.Errorf("read ca_file %s: %w", p.CAFile, err)
	}
	return t, nil
}

// run probes for ever, at a fixed rate.
func (s *standby) run(ctx context.Context) error {
	tick := time.NewTicker(s.backup.Probe.Interval)
	defer tick.Stop()
	for {
		result := probe.Check(ctx, s.target)
		if ctx.Err() != nil {
			return nil
		}
		s.note(result)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// note counts one result. One success is enough to be up again; being down takes as many failures as configured.
func (s *standby) note(r probe.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.verdict
	s.last = r
	if r.OK {
		s.failures, s.verdict = 0, standbyUp
	} else {
		s.failures++
		if s.failures >= s.backup.Probe.Failures {
			s.verdict = standbyDown
		}
	}
	if s.verdict != before {
		s.since = r.Time
		s.log.Info("standby's site", "verdict", s.verdict, "detail", r.Detail)
	}
}

// report is the verdict and what speaks for it.
func (s *standby) report() (verdict, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.OK && !s.last.Time.IsZero() {
		why = s.last.Detail
	}
	return s.verdict, why
}

// certificate is when the certificate that the standby serves ends; zero while that is not known.
func (s *standby) certificate() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.NotAfter
}
