/*
 * The life of a program: turns of the loop, signals, deadlines, the end, and with -r the new
 * beginning. Both programs ask for the next event and do their own part: which client, which
 * socket. The fields are private; now_us may be read.
 */
#ifndef TUNNEL_H
#define TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "command.h"
#include "counters.h"
#include "loop.h"
#include "options.h"
#include "pipe.h"
#include "report.h"
#include "stream.h"

/* What a state allows is in tunnel.c. */
enum tunnel_state {
	TUNNEL_RUNNING,
	TUNNEL_LINGERING,
	TUNNEL_FINISHING,
	TUNNEL_DRAINING,
	TUNNEL_ENDING,
	TUNNEL_PAUSING,
	TUNNEL_WAITING,
	TUNNEL_OVER,
};

struct tunnel {
	const struct options *options; /* borrowed, */
	struct stream *stream;         /* and these two */
	struct counters *counters;
	uint64_t now_us; /* read once a turn */

	enum tunnel_state state;
	uint64_t state_deadline_us; /* UINT64_MAX: none */
	bool was_asked;             /* to end, by a signal; */
	bool was_asked_again;       /* and to wait for nothing */
	bool reader_left;           /* nobody reads our frames, though nobody asked for the end */
	int status;                 /* to exit with */
	const char *cut;            /* what to say of a frame that was cut, or NULL */

	struct command command;
	bool reads, writes;
	uint64_t started_us;     /* the stream, */
	struct counters started; /* and what was counted until then */

	struct loop loop;
	struct event events[LOOP_EVENTS_MAX];
	size_t event_count, event_next;
	bool waits_for_room;
	int signals;
	struct report report;
	uint64_t expiry_us;           /* when to look for idle flows; UINT64_MAX: never */
	bool is_paused, is_restarted; /* TUNNEL_PAUSED, TUNNEL_RESTARTED are still to be told */
};

enum tunnel_event {
	TUNNEL_DATAGRAMS, /* a socket given to tunnel_watch() has something to receive */
	TUNNEL_FRAMES,    /* the pipe has something to read: call stream_read() */
	TUNNEL_EXPIRY,    /* the time of tunnel_plan_expiry() has come; to be planned anew */
	TUNNEL_PAUSED,    /* COMMAND ends, and will be run again; what comes meanwhile waits */
	TUNNEL_RESTARTED, /* COMMAND was run again: streams and tags begin anew */
	TUNNEL_END,       /* call tunnel_close() */
};

/*
 * Opens the pipe (starting COMMAND) for reading and writing as wanted. All borrowed objects must
 * outlive the tunnel. Returns 0, or, after a message, the status to exit with.
 */
int tunnel_open(struct tunnel *tunnel, const struct options *options, struct stream *stream,
	struct counters *counters, const struct stdio *stdio, bool reads, bool writes);

/*
 * All that is needed is open: from here on the program can do no more than forward. Not with -r,
 * as COMMAND inherits a sandbox, and not with --no-sandbox.
 */
void tunnel_enter_sandbox(const struct tunnel *tunnel);

/* After TUNNEL_END. Returns the status to exit with. */
int tunnel_close(struct tunnel *tunnel);

/*
 * Waits for the next event. For TUNNEL_DATAGRAMS, *id is that of the socket. At the end of each
 * turn, all that was sent in it leaves in one write.
 */
enum tunnel_event tunnel_next_event(struct tunnel *tunnel, uint16_t *id);

/* Watches a UDP socket; `id` comes back with its events. Returns false with errno. */
bool tunnel_watch(struct tunnel *tunnel, int socket, uint16_t id);

/* To be called before a watched socket is closed. */
void tunnel_unwatch(struct tunnel *tunnel, int socket);

/* A flow was added, or removed for a cause that is counted (EXPIRED, EVICTED, CLOSED). */
void tunnel_flow_added(struct tunnel *tunnel, size_t flow_count);
void tunnel_flow_removed(struct tunnel *tunnel, size_t flow_count, enum counter cause);

/* Asks for TUNNEL_EXPIRY at `when_us` (UINT64_MAX: never), or earlier if that was asked for. */
void tunnel_plan_expiry(struct tunnel *tunnel, uint64_t when_us);

/*
 * stream_read() has returned STREAM_END, or STREAM_FAILED: then the status is 1. If it `lingers`,
 * late replies are still sent for the linger time. The end follows, or with -r a pause.
 */
void tunnel_input_ended(struct tunnel *tunnel, enum stream_result result, bool lingers);

/* The stream is corrupt: the end follows, with status 1, or with -r a pause. */
void tunnel_fail(struct tunnel *tunnel);

/* The end follows with status 1, also with -r. */
void tunnel_give_up(struct tunnel *tunnel);

#endif
