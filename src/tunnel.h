/*
 * One end of the tunnel: what both programs do alike around the stream of frames. They ask for the
 * next event, do their own part (which client, which socket), and hand frames in; reading and
 * writing the pipe, signals, COMMAND, and the ways to end are here.
 */
#ifndef TUNNEL_H
#define TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "counters.h"
#include "frame.h"
#include "loop.h"
#include "options.h"
#include "queue.h"
#include "transport.h"
#include "udp.h"

struct tunnel {
	const struct options *options;
	struct counters counters;
	uint64_t now_us; /* read once a turn */

	struct loop loop;
	struct event events[LOOP_EVENTS_MAX];
	size_t event_count, event_next;
	int signals;

	struct transport transport;
	struct decoder decoder;
	bool hello_seen, noise_reported;
	struct batch batch;             /* datagrams received in this turn, */
	struct iovec frames[BATCH_MAX]; /* those of them that have become frames, */
	size_t frame_count;
	struct queue queue; /* and frames of earlier turns that the pipe had no room for */

	bool finishing;   /* the far side is gone: only what has already arrived is still read */
	bool output_gone; /* nothing can be written any more */
	uint64_t linger_until_us; /* UINT64_MAX: not lingering */
	uint64_t wake_us;         /* UINT64_MAX: no TUNNEL_WAKE wanted */
	bool ended, asked_to_end;
	int status; /* what the program will exit with */
};

enum tunnel_event {
	TUNNEL_DATAGRAMS, /* a socket given to tunnel_watch() has something to receive */
	TUNNEL_FRAMES,    /* the transport has something to read: call tunnel_read() */
	TUNNEL_WAKE,      /* the time given to tunnel_wake_at() has come */
	TUNNEL_END,
};

/*
 * Reads the command line and takes care of standard input and output. Does not return when there
 * is nothing to run: after --help, --version (status 0) and wrong usage (status 2).
 */
void tunnel_read_options(
	enum program program, int argc, char **argv, struct options *options, struct stdio *stdio);

/*
 * Opens the transport (starting COMMAND) for reading and writing as wanted. Both borrowed objects
 * must outlive the tunnel. Returns 0, or, after a message, the status to exit with.
 */
int tunnel_open(struct tunnel *tunnel, const struct options *options, const struct stdio *stdio,
	bool reads, bool writes);

/*
 * Ends everything: flushes what is queued within the linger time, closes the transport and waits
 * for COMMAND. Returns the status to exit with.
 */
int tunnel_close(struct tunnel *tunnel);

/*
 * Waits for the next event. For TUNNEL_DATAGRAMS, *tag is that of the socket. At the end of each
 * turn, all that was sent since leaves in one write.
 */
enum tunnel_event tunnel_next_event(struct tunnel *tunnel, uint16_t *tag);

/* Watches a UDP socket; `tag` comes back with its events. Returns false with errno. */
bool tunnel_watch(struct tunnel *tunnel, int socket, uint16_t tag);

void tunnel_unwatch(struct tunnel *tunnel, int socket);

/* Asks for one TUNNEL_WAKE at that time, or never (UINT64_MAX), instead of what was asked before.
 */
void tunnel_wake_at(struct tunnel *tunnel, uint64_t time_us);

/*
 * Receives a batch from the socket. *first is the first of the datagrams returned, which are valid
 * until the next call, or the end of the turn. *kernel_drops as for udp_receive().
 */
size_t tunnel_receive(
	struct tunnel *tunnel, int socket, uint32_t *kernel_drops, struct datagram **first);

/* Sends a datagram just received as a frame of the flow `tag`. */
void tunnel_send(struct tunnel *tunnel, uint16_t tag, struct datagram *datagram);

/*
 * Reads the transport once. Returns false when its end was reached: tunnel_end() or tunnel_linger()
 * is to follow.
 */
bool tunnel_read(struct tunnel *tunnel);

/*
 * Takes the next data frame of what was read, valid until the next tunnel_read(). Returns false
 * when there is none, or the stream is corrupt, which ends the tunnel.
 */
bool tunnel_next_frame(struct tunnel *tunnel, struct frame *frame);

/* The next event will be the end. */
void tunnel_end(struct tunnel *tunnel);

/* The same, and the program will exit with status 1. */
void tunnel_fail(struct tunnel *tunnel);

/* The next event will be the end once the linger time has passed. */
void tunnel_linger(struct tunnel *tunnel);

#endif
