package failover_test

import (
	"time"

	"pgregory.net/rapid"

	"releve/internal/failover"
)

// ask has others answer.
func (h *history) ask(v failover.Verdict) {
	h.opinion = failover.Opinion{Asked: h.now, Verdict: v, Why: "3 of 5"}
	h.agreed = h.agreed || v == failover.Down
}

// heed holds a switch that was just decided against what others see.
func (h *history) heed(t *rapid.T) {
	in := h.write()
	if in == nil || in.To != failover.Standby || in.Follow || in.Trigger != failover.Automatic {
		return
	}
	reached := h.opinion.Verdict == failover.Up && !h.opinion.Asked.Before(h.downSince) && h.now.Sub(h.opinion.Asked) < 10*time.Minute
	if h.policy.Outside != failover.OutsideOff && !h.decided && h.downs > 0 && reached {
		t.Fatalf("decides to switch although others reach prod")
	}
	h.decided = true
}

func (h *history) others(t *rapid.T) {
	h.ask(rapid.SampledFrom([]failover.Verdict{failover.Up, failover.Down, failover.Unknown}).Draw(t, "seen"))
	h.see(t, h.observation())
}
