package syncagent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"releve/pkg/sftpipe"
	"releve/test/memnet"
	"releve/test/sshworld"
)

// counted starts an SFTP server for dir, which is cut off when it has been asked for so many writes; 0 means never. writes
// says how many it was asked for.
func counted(t *testing.T, dir string, cut int) (client *sftpipe.Client, writes func() int, join func()) {
	t.Helper()
	near, far := memnet.Pipe(memnet.Addr("agent"), memnet.Addr("server"))
	root, err := os.OpenRoot(dir)
	must(t, err)
	var mu sync.Mutex
	n := 0
	var served sync.WaitGroup
	served.Go(func() {
		defer root.Close()
		sshworld.ServeSFTP(far, root, nil, func(op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if op != "write" {
				return nil
			}
			if n++; n == cut {
				far.Close()
			}
			return nil
		})
		far.Close()
	})
	client, err = sftpipe.NewClient(t.Context(), near)
	must(t, err)
	join = func() {
		client.Close()
		near.Close()
		served.Wait()
	}
	t.Cleanup(join)
	return client, func() int { mu.Lock(); defer mu.Unlock(); return n }, join
}

// TestInterruptedFirstSyncGoesOn: a first sync is cut off, and the agent killed, again and again. What was sent once is not
// sent a second time but for what was on its way just then; what has changed meanwhile is.
func TestInterruptedFirstSyncGoesOn(t *testing.T) {
	const files, every = 900, 150
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed=", killed), func(t *testing.T) {
			s := newEmpty(t)
			var names []string
			for i := range files {
				name := filepath.Join(s.src, fmt.Sprintf("f%d", i))
				if i%3 > 0 {
					name = filepath.Join(s.src, fmt.Sprintf("d%d/sub%d/f%d", i%7, i%5, i))
				}
				write(t, name, strings.Repeat(fmt.Sprint(i), 1+rand.N(2000)))
				names = append(names, name)
			}
			s.begin(t)
			sent, runs := 0, 0
			var changed []string
			for cut := every; ; runs++ {
				if runs > 3*files/every {
					t.Fatal("it never comes to an end")
				}
				client, writes, join := counted(t, filepath.Dir(s.dst), cut)
				err := s.push(t, client)
				join()
				sent += writes()
				if err == nil {
					break
				}
				if killed {
					s.begin(t)
				} else {
					s.engine.forget()
				}
				if runs < 2 { // among what lies there by now
					for range 5 {
						name := names[rand.N(len(names))]
						write(t, name, strings.Repeat("z", int(statOf(t, name).Size()))) // in the same second, perhaps
						changed = append(changed, name)
					}
				}
			}
			s.same(t)
			for _, name := range changed {
				p, _ := filepath.Rel(s.src, name)
				want, err := os.ReadFile(name)
				must(t, err)
				if got, _ := os.ReadFile(filepath.Join(s.dst, p)); !slices.Equal(got, want) {
					t.Errorf("%s holds what was sent before it changed", p)
				}
			}
			// 64 are on their way at once, and the last few notes die with the process.
			if most := files + len(changed) + runs*(64+16); sent > most || runs < 3 {
				t.Errorf("%d files: sent %d in %d interrupted runs, want %d at most", files, sent, runs, most)
			}
			t.Logf("%d files: sent %d in %d interrupted runs", files, sent, runs)
			if left, _ := filepath.Glob(filepath.Join(s.dst, ".releve-spool/kept-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
