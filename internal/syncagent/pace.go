package syncagent

import "time"

// pace is how long the agent waits before it tries something again. Pauses double from the lower to the upper bound.
type pace struct {
	// again is the first pause before paths are looked at again whose source changed under our hands.
	again time.Duration
	// fail and failMax bound the pause before failed paths are tried again.
	fail, failMax time.Duration
	// retry and retryMax bound the pause between two attempts to connect.
	retry, retryMax time.Duration
	// full is the pause between two comparisons of everything; 0 means fullEvery.
	full time.Duration
	// doubt is when the replica is listed again after a session that follows one which was cut off.
	doubt [2]time.Duration
	// word is the pause between two looks at the watchdog's word, and two of ours.
	word time.Duration
	// beat is how often an engine that has nothing to do shows that it would; 0 = beatEvery.
	beat time.Duration
}

// normalPace is everybody's but the tests'.
func normalPace() pace {
	return pace{
		again: 200 * time.Millisecond,
		fail:  2 * time.Second, failMax: 30 * time.Second,
		retry: time.Second, retryMax: 30 * time.Second,
		doubt: [2]time.Duration{30 * time.Second, 3 * time.Minute},
		word:  10 * time.Second,
	}
}
