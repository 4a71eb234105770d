package sftpipe

import "context"

const (
	// firstReaddirs covers a directory of a hundred names in one flight: OpenSSH
	// gives a hundred a reply, and one more reply to say that it was all.
	firstReaddirs = 2

	// mostReaddirs bounds what is asked for ahead, and so the memory of a listing.
	mostReaddirs = 32
)

// ReadDir lists a directory, in the server's order and without "." and "..".
// It takes two round trips for up to a hundred names. To list many directories,
// call it from many goroutines.
func (c *Client) ReadDir(ctx context.Context, path string) (entries []DirEntry, err error) {
	v, err := c.one(ctx, c.urgent, Request{op: opOpendir, path: path})
	if err != nil {
		return nil, err
	}
	handle := v.(string)
	defer func() {
		// Nothing depends on the reply, so the listing does not wait for it.
		fl := newFlight(c.urgent, Request{op: opClose, path: path, handle: handle})
		fl.kept, fl.abandoned = true, true
		c.enqueue(fl)
	}()
	for count := firstReaddirs; ; count = min(2*count, mostReaddirs) {
		reqs := make([]Request, count)
		for i := range reqs {
			reqs[i] = Request{op: opReaddir, path: path, handle: handle}
		}
		fl := newFlight(c.urgent, reqs...)
		c.enqueue(fl)
		if err := c.wait(ctx, fl); err != nil {
			return nil, c.unconfirmed(fl, err)
		}
		for i := range fl.replies {
			if err := fl.replies[i].err; isEOF(err) {
				return entries, nil
			} else if err != nil {
				return nil, err
			}
			for _, e := range fl.replies[i].value.([]DirEntry) {
				if e.Name != "." && e.Name != ".." {
					entries = append(entries, e)
				}
			}
		}
	}
}
