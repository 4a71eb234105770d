package watchdog

import (
	"context"
	"errors"
	"strings"
	"time"

	"releve/internal/failover"
	"releve/internal/ovhdns"
)

// readZone reads the name's records at start, now and then, and more often while something is the matter.
func (s *site) readZone(ctx context.Context) error {
	for {
		s.readOnce(ctx)
		d := 10 * s.pace // five minutes with the default interval
		if s.busy() || s.get().ReadErr != nil {
			d = s.pace
		}
		if !wait(ctx, d, s.reread) {
			return nil
		}
	}
}

func (s *site) readOnce(ctx context.Context) {
	epoch := s.epoch.Load()
	set, err := s.reader.Read(ctx, s.cfg.Zone, s.cfg.Name)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.noteRefusal(err)
		if s.get().ReadErr == nil {
			s.log.Warn("zone not read", "error", err)
		}
		s.set(func(v *siteView) { v.ReadErr = err })
		return
	}
	s.alarms.clear(alarmCredential)
	var ttl int64
	if s.get().ZoneTTL == 0 {
		ttl, _ = s.reader.DefaultTTL(ctx, s.cfg.Zone) // only for the worst case shown
	}
	records := fromSet(set)
	s.send(ctx, func(o *failover.Observation) {
		if s.epoch.Load() != epoch {
			return // something was written meanwhile
		}
		s.set(func(v *siteView) {
			v.Records, v.ReadAt, v.ReadErr = records, o.Time, nil
			if ttl > 0 {
				v.ZoneTTL = ttl
			}
		})
		o.Zone = &records
	})
}

// noteRefusal tells the owner when OVH refuses our key: nothing else will mend that.
func (s *site) noteRefusal(err error) {
	e, ok := errors.AsType[*ovhdns.APIError](err)
	switch {
	case !ok:
	case e.Kind == ovhdns.BadCredential:
		s.alarms.raise(alarmCredential, s.credentialMessage(e))
	case e.Kind == ovhdns.NoRights:
		s.alarms.raise(alarmRights+s.cfg.Zone, s.rightsMessage(e.Error()))
	}
}

// The alarms about the key. A key may be good and yet lack rights for some calls, so they end apart.
const (
	alarmCredential = "credential"         // refused altogether; over once any call is answered
	alarmExpiry     = "credential-expires" //
	alarmRights     = "credential-rights-" // and the zone; over once a write went through, or OVH lists all rights
)

// watchCredential looks once a day whether the key still has its rights and a future.
func (s *site) watchCredential(ctx context.Context) error {
	for {
		rights, err := s.reader.Rights(ctx, s.cfg.Zone)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.noteRefusal(err)
		case rights.Known:
			s.judgeCredential(rights)
		}
		d := 24 * time.Hour
		if err != nil {
			d = 10 * s.pace
		}
		if !wait(ctx, d, nil) {
			return nil
		}
	}
}

// credentialWarning is how long before its end a key is worth a message.
const credentialWarning = 7 * 24 * time.Hour

func (s *site) judgeCredential(r ovhdns.Rights) {
	s.set(func(v *siteView) { v.Rights = r })
	if left := r.Expires.Sub(s.now()); !r.Expires.IsZero() && left < credentialWarning {
		s.alarms.raise(alarmExpiry, s.expiryMessage(r.Expires, left))
	} else {
		s.alarms.clear(alarmExpiry)
	}
	if missing := r.Missing(); len(missing) > 0 {
		var calls []string
		for _, m := range missing {
			calls = append(calls, m.String())
		}
		s.alarms.raise(alarmRights+s.cfg.Zone, s.rightsMessage("missing: "+strings.Join(calls, ", ")))
	} else {
		s.alarms.clear(alarmRights + s.cfg.Zone)
	}
}
