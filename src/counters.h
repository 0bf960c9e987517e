/*
 * What went through, and what did not and why. Every datagram taken in is in exactly one place:
 * delivered, queued, or dropped with a cause. Pure.
 */
#ifndef COUNTERS_H
#define COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum counter {
	UDP_IN, /* datagrams received */
	UDP_IN_BYTES,
	UDP_OUT, /* datagrams sent */
	UDP_OUT_BYTES,
	FRAMES_IN, /* data frames read whole */
	STREAM_IN_BYTES,
	FRAMES_OUT, /* data frames written whole */
	STREAM_OUT_BYTES,
	FLOWS, /* alive now */
	FLOWS_PEAK,
	FLOWS_TOTAL,
	EXPIRED,   /* flows forgotten because they were idle, */
	EVICTED,   /* because there was no room for another one, */
	CLOSED,    /* and because the far side had forgotten them */
	RETRIES,   /* COMMAND was run again */
	QUEUED,    /* frames that wait for the pipe now */
	IN_FLIGHT, /* bytes written now that the far side has not read, */
	RATE,      /* how many it reads per second, */
	RTT_US,    /* and the round trip; all 0 if it does not say */
	NOISE_BYTES,
	REFUSED,         /* sends that were reported back (ICMP) as refused or unreachable */
	DROP_QUEUE_FULL, /* from here on, drops by cause */
	DROP_STALE,
	DROP_CODEL,
	DROP_KERNEL,
	DROP_TOO_BIG,
	DROP_SEND_FAILED,
	DROP_NO_FLOW,
	DROP_NO_TAG,
	DROP_NO_SOCKET,
	DROP_PIPE_CLOSED,
	COUNTERS,
	REPORT_FIRST = REFUSED, /* from here on a person wants to be told */
	DROP_FIRST = DROP_QUEUE_FULL,
};

struct counters {
	uint64_t value[COUNTERS];
	uint64_t reported[COUNTERS]; /* as of counters_next_report() */
	uint64_t quiet_until_us[COUNTERS];
};

/* The key of one counter, as counters_format() shows it. */
const char *counter_key(enum counter counter);

/* A flow was added; `now` are alive. */
void counters_flow_added(struct counters *counters, size_t now);

/*
 * Writes "key=value key=value ..." for all counters into `text`.
 */
void counters_format(const struct counters *counters, char *text, size_t size);

/*
 * Looks for a cause of drops worth a message: the first drop at once, later ones in sums, at most
 * every 10 s each. If there is one, writes the message into `text` and returns true; call again for
 * the next. Otherwise returns false and stores in *deadline_us when to look again (UINT64_MAX: when
 * there are new drops).
 */
bool counters_next_report(
	struct counters *counters, uint64_t now_us, char *text, size_t size, uint64_t *deadline_us);

#endif
