// Package sftpipe is an SFTP client for programs that carry many files, or
// change few files often, over a link whose round trips cost more than its
// bytes.
//
// It speaks version 3 of the protocol (draft-ietf-secsh-filexfer-02) and the
// OpenSSH extensions described in OpenSSH's PROTOCOL file, over any
// [io.ReadWriteCloser]: an SSH channel running the "sftp" subsystem, or the
// pipes of a local sftp-server.
//
// # Flights
//
// A flight is what is sent without waiting for a reply in between. The number
// of flights, not the number of requests, is what a far server makes one wait
// for. An upload takes two:
//
//	OPEN (create, exclusive, mode 0600)                  one round trip
//	WRITE … FSETSTAT (mode, times) [FSTAT] CLOSE         one round trip
//
// where a client that waits for each reply needs five or more. [Client.Create]
// and [File.Finish] are the two halves, for callers who can open a file before
// they know what goes into it: then a change costs a single flight.
// A directory listing takes two as well, since the READDIR requests are sent
// before it is known how many are needed, and [Client.Do] sends any number of
// requests as one.
//
// Requests of different goroutines share the wire in the same manner: a single
// goroutine gathers whatever is waiting into writes of up to 128 KiB, four
// full SSH packets, so that a hundred goroutines uploading small files cause a
// few large packets and not hundreds of small ones. The way to more
// throughput is more goroutines; somewhere between 64 and 256 files in flight
// a server is busy at any distance.
//
// # Why the rename is on its own
//
// A file is usually replaced by writing a temporary one and renaming it into
// place. It is tempting to send the rename in the flight of the data. A server
// works through its requests in order, but it does not stop at a failure: on a
// full disk the WRITE fails, and the rename that follows it publishes a
// truncated file. So Upload never renames. It returns once every reply has
// been checked, and the size on the server after several WRITEs, and only
// then is it time for [Rename]: one more round trip is the price of never
// showing a torn file. Renames of many finished files go into one flight.
//
// # Two lanes
//
// Requests without data and small files overtake the data of large files that
// is still waiting to be sent. What has been handed to the channel is
// beyond recall, so on an SSH channel a large upload can still delay a small
// request by one window of data; where that matters, use a second channel on
// another connection for the large file. Requests of one flight and requests
// about one open file are never reordered.
//
// Data without a reply is bounded, whatever the server does: to between 1¼ and
// 4 MiB a lane, by the round-trip time that was seen when the session began, and
// one packet (255 KiB at most) for each call that waits to add to it.
//
// # Cancellation and failure
//
// A call whose context ends returns at once and the connection stays usable:
// what was not yet sent is withdrawn, late replies are consumed, and a handle
// that arrives for nobody is closed. Whether an abandoned request took effect
// is unknown; its error then says "could not confirm".
//
// When the connection dies, or the server breaks the protocol, every pending
// and every later call fails with an error matching [ErrConnectionLost].
package sftpipe
