package ovhdns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// maxRounds bounds the readings in a row that lead to writes, and maxWaits how
// often late effects may start them again.
const (
	maxRounds = 4
	maxWaits  = 3
)

// refreshTries bounds the attempts at a refresh in one replacement.
const refreshTries = 3

// Outcome is what became of a replacement. It is filled as far as things got,
// also when an error comes with it.
type Outcome struct {
	Before    Set      // what the name held when first read: the copy to keep
	After     Set      // what it held when last read
	Writes    []string // what was changed, and what may have been: "change a record to A … "
	Refreshed bool     // OVH accepted to publish it
	// Pending says that changes stand, or may stand, in the zone that no
	// accepted refresh covers. Another Replace or Resume publishes them.
	Pending bool
	Warning string // what came out otherwise than wanted, and is no error
}

// Replace makes want the address records of name, and publishes them. It
// reads what is there, asks allow about it, writes the difference, reads again
// until nothing differs, and refreshes the zone; with nothing to do it makes
// no writing call. Where a write was left without a reply it believes the
// records only when they are still right Config.Settle after it.
//
// allow, if not nil, is asked before the first write, and again about every
// further reading that calls for writes; its error ends the replacement and
// is in the error returned. The place to put the intent, and a copy of the
// records, on disk is in there. Attempts that were cut short leave mixtures of
// the two sets, which it must accept to have them finished.
//
// After an error, do it again: the work resumes from what the zone holds. Only
// a new process, which does not remember what the last one wrote, must use
// Resume. An error matching ErrUnconfirmed means that the change may be, or
// become, visible in the zone.
func (c *Client) Replace(ctx context.Context, zone, fqdn string, want Set, allow func(have Set) error) (Outcome, error) {
	return c.replace(ctx, zone, fqdn, want, allow, false)
}

// Resume is Replace for one that an earlier process may have left unfinished:
// it refreshes the zone even where the records are right, and takes a write of
// that process to be still under way.
func (c *Client) Resume(ctx context.Context, zone, fqdn string, want Set, allow func(have Set) error) (Outcome, error) {
	return c.replace(ctx, zone, fqdn, want, allow, true)
}

func (c *client) replace(ctx context.Context, zone, fqdn string, want Set, allow func(have Set) error, resume bool) (Outcome, error) {
	n, err := parseName(zone, fqdn)
	if err != nil {
		return Outcome{}, err
	}
	want, err = want.writable()
	if err != nil {
		return Outcome{}, fmt.Errorf("replace records of %s: %w", n, err)
	}
	if resume {
		c.wrote(n)
		c.doubted(n, nil)
	}
	r := &replacement{client: c, name: n, want: want, allow: allow, ttl: -1, haunted: c.haunts(n, want)}
	err = r.run(ctx)
	if err != nil && r.stuck && r.touched && c.owes(n) && ctx.Err() == nil {
		// What is written is better published than left half-way: with one
		// address moved, its clients are served.
		if rerr := r.refresh(ctx, false); rerr != nil {
			err = fmt.Errorf("%w; %w", err, rerr)
		}
	}
	r.out.Pending = c.owes(n)
	if err == nil {
		return r.out, nil
	}
	// Said of what may have happened, not of a refusal beforehand.
	if (r.out.Pending || c.doubtful(n) > 0) && (r.touched || resume && !r.refused) {
		return r.out, fmt.Errorf("%w the records of %s: %w", ErrUnconfirmed, n, err)
	}
	return r.out, fmt.Errorf("replace records of %s: %w", n, err)
}

// replacement is one Replace under way.
type replacement struct {
	*client
	name
	want    Set
	allow   func(Set) error
	ttl     int64 // the zone's default, -1 until needed
	out     Outcome
	begun   bool  // Before is set
	touched bool  // a writing call was sent
	refused bool  // by allow
	haunted bool  // a write for another end than want may still come
	clear   bool  // a DynHost record stands in the way of what is to be added
	stuck   bool  // what is left to write cannot be written
	trouble error // the last that another round was to clear up
}

// run alternates readings and writes. A reading that differs from want is
// followed by writes, one that equals it by a refresh if anything is
// unpublished, and the work is done when a reading is right that was taken
// long enough after the last write without a reply.
func (r *replacement) run(ctx context.Context) error {
	for round, waits := 1, 0; ; {
		wait := r.doubtful(r.name) // as the reading begins, not as it ends
		ops, err := r.compare(ctx)
		if err != nil {
			return err
		}
		if len(ops) > 0 && round > maxRounds {
			if err := r.giveUp(); err != nil {
				return err
			}
			ops = nil
		}
		right := len(ops) == 0
		if len(ops) > 0 {
			if err := r.permit(); err != nil {
				return err
			}
		}
		if r.haunted && wait > 0 {
			// Records are about to go that another wish wanted gone. Until
			// that is over, none that it wanted to stay may follow them.
			ops = slices.DeleteFunc(ops, func(o op) bool { return o.verb == remove && !(r.clear && clears(o)) })
		}
		if len(ops) > 0 {
			if err := r.write(ctx, ops); err != nil {
				return err
			}
			round++
			continue
		}
		if r.owes(r.name) {
			if err := r.refresh(ctx, right); err != nil {
				return err
			}
		}
		if wait <= 0 {
			r.settled(r.name)
			return nil
		}
		// The refresh came first on purpose: it publishes the right records
		// now, and a write that turns up late is published over them later.
		if err := sleep(ctx, r.doubtful(r.name)); err != nil {
			return err
		}
		if waits++; waits > maxWaits {
			return fmt.Errorf("the records keep changing, last to %s", r.out.After)
		}
		round = 1
	}
}

// giveUp says why the records cannot be made what is wanted. Where only the
// TTLs resist, the name leads where it must, and a warning will do.
func (r *replacement) giveUp() error {
	if r.trouble == nil && len(r.out.After) == len(r.want) && r.out.After.SameTargets(r.want) {
		r.out.Warning = fmt.Sprintf("OVH keeps %s, where %s was written", r.out.After, r.want)
		return nil
	}
	r.stuck = true
	return cmp.Or(r.trouble, fmt.Errorf("written %d times, and still the zone holds %s", maxRounds, r.out.After))
}

// compare reads the records and returns what is to be written.
func (r *replacement) compare(ctx context.Context) ([]op, error) {
	have, err := r.client.read(ctx, r.name)
	if err != nil {
		return nil, err
	}
	r.out.After = set(have)
	if !r.begun {
		r.out.Before, r.begun = r.out.After, true
	}
	ops := diff(have, r.want, 0)
	if len(ops) == 0 || r.ttl == 0 {
		return ops, nil
	}
	// The zone's default TTL only matters where one side leaves it to the zone.
	if r.ttl < 0 && mixesDefault(append(r.out.After[:len(have):len(have)], r.want...)) {
		if r.ttl, err = r.client.defaultTTL(ctx, r.name); err != nil {
			return nil, err
		}
	}
	return diff(have, r.want, max(r.ttl, 0)), nil
}

func mixesDefault(s Set) bool {
	var zero, own bool
	for _, r := range s {
		zero = zero || r.TTL == 0
		own = own || r.TTL != 0
	}
	return zero && own
}

func (r *replacement) permit() error {
	if r.allow == nil {
		return nil
	}
	err := r.allow(r.out.After)
	r.refused = err != nil
	return err
}

// write carries ops out until one meets trouble. Trouble that another reading
// can clear up is not an error: the next round starts from what is there.
func (r *replacement) write(ctx context.Context, ops []op) error {
	if r.clear {
		slices.SortStableFunc(ops, func(a, b op) int { return clearingFirst(a) - clearingFirst(b) })
	}
	for _, o := range ops {
		err := r.do(ctx, o)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", o, err)
		e, ok := errors.AsType[*APIError](err)
		vanished := ok && e.Code == http.StatusNotFound && o.verb != post
		if ok && !e.Unknown && e.Kind != NoRights && o.verb == post && !r.clear && slices.ContainsFunc(ops, clears) {
			// A DynHost record suffers no plain one beside it.
			r.clear = true
			return nil
		}
		if !ok || e.Kind != Temporary && !vanished {
			r.stuck = true
			return err
		}
		r.trouble = err
		if sleep(ctx, r.cfg.Pause) != nil {
			return err
		}
		return nil
	}
	r.trouble = nil
	return nil
}

// clears reports whether o takes a DynHost record away.
func clears(o op) bool { return o.verb == remove && o.DynHost }

func clearingFirst(o op) int {
	if clears(o) {
		return 0
	}
	return 1
}

// do makes one writing call, and keeps account of what it may have done.
func (r *replacement) do(ctx context.Context, o op) error {
	path, body := r.path("/record"), map[string]any{"subDomain": r.sub, "target": o.Target, "ttl": o.TTL}
	if o.DynHost {
		path, body = r.path("/dynHost/record"), map[string]any{"subDomain": r.sub, "ip": o.Target}
	}
	if o.verb != post {
		path = fmt.Sprintf("%s/%d", path, o.id)
	}
	var err error
	switch o.verb {
	case post:
		body["fieldType"] = o.Type
		err = r.call(ctx, http.MethodPost, path, body, nil)
	case put:
		err = r.call(ctx, http.MethodPut, path, body, nil)
	case remove:
		err = r.call(ctx, http.MethodDelete, path, nil, nil)
	}
	e, failed := errors.AsType[*APIError](err)
	switch {
	case failed && !e.Unknown:
		return err
	case err != nil:
		r.doubted(r.name, r.want)
		r.out.Writes = append(r.out.Writes, o.String()+" (not confirmed)")
	default:
		r.out.Writes = append(r.out.Writes, o.String())
	}
	r.touched = true
	r.wrote(r.name)
	return err
}

// refresh has OVH publish the zone. It may be asked any number of times, and
// is again when a write in doubt may yet make right what was not right now.
func (r *replacement) refresh(ctx context.Context, right bool) error {
	covers := r.written(r.name)
	r.touched = true
	var err error
	for try := 1; try <= refreshTries; try++ {
		err = r.call(ctx, http.MethodPost, r.path("/refresh"), nil, nil)
		if err == nil {
			if right || r.doubtful(r.name) <= 0 {
				r.published(r.name, covers)
			}
			r.out.Refreshed = true
			return nil
		}
		if e, ok := errors.AsType[*APIError](err); !ok || e.Kind != Temporary || sleep(ctx, r.cfg.Pause) != nil {
			break
		}
	}
	return fmt.Errorf("refresh zone %s: %w", r.zone, err)
}

// The accounts below outlive a replacement, so that the next one finishes what
// this one could not.

func (c *client) debt(n name) *debt {
	d := c.debts[n.zone]
	if d == nil {
		d = &debt{}
		c.debts[n.zone] = d
	}
	return d
}

func (c *client) wrote(n name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.debt(n).written++
}

func (c *client) written(n name) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.debt(n).written
}

func (c *client) published(n name, covers uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.debt(n)
	d.refreshed = max(d.refreshed, covers)
}

func (c *client) owes(n name) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.debt(n)
	return d.refreshed < d.written
}

// doubt is about a name with a write that was left without a reply.
type doubt struct {
	at   time.Time
	want Set // what the write was for; nil if not known
}

func (c *client) doubted(n name, want Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.doubts[n.String()]; ok && !d.want.Equal(want) {
		want = nil
	}
	c.doubts[n.String()] = doubt{time.Now(), want}
}

// doubtful is how long a reading of n will remain open to doubt.
func (c *client) doubtful(n name) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.doubts[n.String()]
	if !ok {
		return 0
	}
	return c.cfg.Settle - time.Since(d.at)
}

// haunts reports whether the doubt about n is about another wish than want.
func (c *client) haunts(n name, want Set) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.doubts[n.String()]
	return ok && !d.want.Equal(want)
}

func (c *client) settled(n name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.doubts, n.String())
}
