/*
 * One end of the tunnel: what both programs do alike around the stream of frames. They ask for the
 * next event, do their own part (which client, which socket), and hand frames in; the turns of the
 * loop, signals, COMMAND, and the ways to end and to begin again are here.
 */
#ifndef TUNNEL_H
#define TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "backoff.h"
#include "control.h"
#include "counters.h"
#include "flow.h"
#include "loop.h"
#include "options.h"
#include "receiver.h"
#include "sender.h"
#include "transport.h"

struct tunnel {
	const struct options *options;
	struct counters counters;
	uint64_t now_us; /* read once a turn */

	struct loop loop;
	struct event events[LOOP_EVENTS_MAX];
	size_t event_count, event_next;
	int signals;
	uint64_t expiry_us; /* when to look for idle flows; UINT64_MAX: never */
	uint64_t stats_us;  /* when the counters are to be shown; UINT64_MAX: never */
	struct counters stats_before;
	bool report_wanted; /* SIGUSR1 came */

	bool reads, writes;
	struct transport transport;
	struct control control;
	struct receiver receiver;
	struct sender sender;
	uint16_t segment_max; /* as udp_send() has it */

	bool finishing; /* the far side is gone: only what has already arrived is still read */
	uint64_t linger_until_us; /* UINT64_MAX: not lingering */
	bool ended, asked_to_end;
	int status; /* what the program will exit with */

	struct backoff backoff;
	uint64_t retry_us; /* when COMMAND is to be run again; UINT64_MAX: it is running */
	uint64_t started_us;
	struct counters started; /* as of then */
};

enum tunnel_event {
	TUNNEL_DATAGRAMS, /* a socket given to tunnel_watch() has something to receive */
	TUNNEL_FRAMES,    /* the transport has something to read: call tunnel_read() */
	TUNNEL_EXPIRY,    /* flows may be idle: tunnel_plan_expiry() is to be called again */
	TUNNEL_PAUSED,    /* COMMAND has ended, and will be run again */
	TUNNEL_RESTARTED, /* COMMAND was run again: streams and tags begin anew */
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

/* Asks for TUNNEL_EXPIRY when the next flow can be idle. To be called when the first is added. */
void tunnel_plan_expiry(struct tunnel *tunnel, const struct flow_table *flows);

/*
 * Receives a batch from the socket. *first is the first of the datagrams returned, which are valid
 * until the next call, or the end of the turn. *kernel_drops as for udp_receive().
 */
size_t tunnel_receive(
	struct tunnel *tunnel, int socket, uint32_t *kernel_drops, struct datagram **first);

/* Sends a datagram (or a run) just received as a frame (or frames) of the flow `tag`. */
void tunnel_send(struct tunnel *tunnel, uint16_t tag, struct datagram *datagram);

/* Says CLOSE for a flow, if the far side understands that. Nothing more may be sent of it. */
void tunnel_close_flow(struct tunnel *tunnel, uint16_t tag);

/*
 * Reads the transport once. Returns false when its end was reached: tunnel_end() or tunnel_linger()
 * is to follow.
 */
bool tunnel_read(struct tunnel *tunnel);

/*
 * Takes the next frame of what was read, valid until the next tunnel_read(): a data frame or a
 * CLOSE. Returns false when there is none, or the stream is corrupt, which ends the tunnel.
 */
bool tunnel_next_frame(struct tunnel *tunnel, struct frame *frame);

/* The tag that a CLOSE is about. */
uint16_t tunnel_closed_tag(const struct frame *frame);

/* The next event will be the end. */
void tunnel_end(struct tunnel *tunnel);

/* The same; the program will exit with status 1, and COMMAND will not be run again. */
void tunnel_give_up(struct tunnel *tunnel);

/* The next event will be the end once the linger time has passed. */
void tunnel_linger(struct tunnel *tunnel);

#endif
