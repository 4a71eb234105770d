package watchdog

import (
	"path/filepath"
	"reflect"
	"time"

	"releve/internal/failover"
)

// copies bounds the copies kept of one name: years of switches, or a month of daily home addresses.
const copies = 60

// zoneCopy is what a name's records were right before a write of ours, for the owner's eyes: whatever happens, the
// last word on what stood there is on the disk. Nothing reads it but keepCopy.
type zoneCopy struct {
	Time   time.Time      `json:"time"`
	Before []recordStatus `json:"before"`
	Write  []recordStatus `json:"write"` // what was to stand there instead
}

func (st store) copiesPath(name string) string { return filepath.Join(st.dir, "records-"+name+".json") }

// keepCopy puts a copy before the older ones. The same write tried again is one.
func (st store) keepCopy(name string, now time.Time, before, want failover.Records) error {
	var kept []zoneCopy
	loadJSON(st.copiesPath(name), &kept)
	c := zoneCopy{Time: now, Before: recordsStatus(before), Write: recordsStatus(want)}
	if len(kept) > 0 && reflect.DeepEqual(kept[0].Before, c.Before) && reflect.DeepEqual(kept[0].Write, c.Write) {
		return nil
	}
	kept = append([]zoneCopy{c}, kept...)
	return saveJSON(st.copiesPath(name), kept[:min(len(kept), copies)])
}
