package syncagent

import (
	"testing"
	"time"

	"releve/internal/watch"
)

// TestSettledIsNotBusy: the watcher names a file once when its writer is done. If that comes in before the file's
// directory was compared, the file must not be left alone as busy.
func TestSettledIsNotBusy(t *testing.T) {
	for name, c := range map[string]watch.Changes{
		"path":       {Paths: []string{"d/f"}},
		"subtree":    {Subtrees: []string{"d"}},
		"everything": {All: true},
	} {
		var todo todo
		todo.add(watch.Changes{Subtrees: []string{"d"}, Busy: []string{"d/f", "e"}})
		todo.add(c)
		if _, _, busy := todo.take(time.Now()); busy["d/f"] {
			t.Errorf("%s: d/f is called busy", name)
		}
	}
	var todo todo
	todo.add(watch.Changes{Subtrees: []string{"d"}, Busy: []string{"d/f"}})
	todo.add(watch.Changes{Subtrees: []string{"d"}, Busy: []string{"d/f"}})
	if _, _, busy := todo.take(time.Now()); !busy["d/f"] {
		t.Error("d/f still has a writer")
	}
}
