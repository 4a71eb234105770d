package e2e_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// litter lists what is on the replica, or beside it in the control folder, under a name of ours and does not belong there
// while the agent is at rest: anything but the trash, and what the living agent keeps open in the spool.
func (p *pair) litter() ([]string, error) {
	var litter []string
	agents := map[string]int{} // by the process that opened it, the files in the spool
	err := filepath.WalkDir(p.replica, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(p.replica, path)
		if err != nil {
			return err
		}
		switch dir, name := filepath.Split(rel); {
		case rel == ".releve-trash" || rel == ".releve-spool":
		case dir == ".releve-spool/":
			id, _, _ := strings.Cut(name, "-")
			agents[id]++
		case strings.HasPrefix(name, ".releve"):
			litter = append(litter, rel)
		}
		return nil
	})
	if len(agents) > 1 {
		litter = append(litter, fmt.Sprintf(".releve-spool of several agents: %v", agents))
	}
	for id, n := range agents {
		if n > 8 { // 4, and as many that were not needed
			litter = append(litter, fmt.Sprintf(".releve-spool: %d files of %s", n, id))
		}
	}
	word, globErr := filepath.Glob(filepath.Join(p.control, ".releve*"))
	if err == nil {
		err = globErr
	}
	return append(litter, word...), err
}
