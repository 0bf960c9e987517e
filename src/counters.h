/*
 * What went through, what did not, and why. Every datagram taken in is in exactly one place:
 * delivered, queued, or dropped with a cause. Pure: no clock, no descriptor, no log.
 *
 * A struct counters begins as zeroed memory. Whoever sees an event changes value[]; the functions
 * make text of it. Times are in microseconds on a clock that never goes back.
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
	FLOWS,       /* flows alive now, */
	FLOWS_PEAK,  /* the most alive at once, */
	FLOWS_TOTAL, /* and all since the start */
	EXPIRED,     /* flows forgotten because they were idle, */
	EVICTED,     /* because a new flow needed the room, or their socket lost its address, */
	CLOSED,      /* and because the far side had forgotten them */
	RETRIES,     /* how often COMMAND was run again */
	QUEUED,      /* frames that wait for the pipe now */
	IN_FLIGHT,   /* bytes written that the far side has not read, */
	RATE,        /* bytes per second that it reads, */
	RTT_US,      /* and the round trip; all three are 0 if the far side does not tell */
	NOISE_BYTES, /* skipped before the first frame */
	REFUSED,     /* datagrams reported back (ICMP) as refused, unreachable or too big */
	DROP_QUEUE_FULL,
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

	FIRST_REPORTED = REFUSED,     /* from here on, counters_next_report() tells of it */
	FIRST_DROP = DROP_QUEUE_FULL, /* from here on, dropped datagrams by cause */
};

/* Bytes that the texts need at most, with the '\0'. */
enum {
	COUNTERS_TEXT_SIZE = COUNTERS * 38, /* "key=value ": 16 characters and 20 digits at most */
	COUNTERS_RATES_SIZE = 256,
	COUNTERS_REPORT_SIZE = 192,
};

struct counters {
	uint64_t value[COUNTERS];
	const char *refused_by; /* borrowed: the target that refused last, or NULL or "" */

	/* Private, of counters_next_report(). */
	uint64_t reported[COUNTERS];       /* the part of value[] that is reported */
	uint64_t next_report_us[COUNTERS]; /* no report before */
	uint32_t last_flow[COUNTERS];      /* the tag + 1 of the last drop; 0: not known */
};

/* The key of a counter, as counters_format() shows it: small letters and '_'. */
const char *counter_key(enum counter counter);

/* Counts dropped datagrams of the flow with this tag, which the next report names. */
void counters_drop(struct counters *counters, enum counter cause, uint16_t tag, uint64_t count);

/* Counts a new flow. `now` flows are alive, this one included. */
void counters_flow_added(struct counters *counters, size_t now);

/*
 * Writes "key=value key=value ..." for all counters. COUNTERS_TEXT_SIZE is enough for any values; a
 * smaller `size` may cut the text.
 */
void counters_format(const struct counters *counters, char *text, size_t size);

/*
 * Writes one line of rates, such as
 * "flows 3, in 1.20 k/s 1.40 MB/s, out 12 /s 900 B/s, queued 0, dropped 0, pipe 1.17 MB/s 23.4 ms".
 * "in" and "out" are means from `before` to `after`, which are interval_us apart (1 or more). The
 * rest is as of `after`. Without a round trip (RTT_US is 0) the pipe is left out.
 */
void counters_format_rates(const struct counters *before, const struct counters *after,
	uint64_t interval_us, char text[static COUNTERS_RATES_SIZE]);

/*
 * Looks for drops or refusals to report: the first of a cause at once, later ones as a sum, each
 * cause at most every 10 s. Returns true with one line in `text` (COUNTERS_REPORT_SIZE is enough, a
 * smaller `size` may cut it): call again for the next cause. Returns false when there is none now:
 * call again at *deadline_us (UINT64_MAX: after the next drop or refusal).
 */
bool counters_next_report(
	struct counters *counters, uint64_t now_us, char *text, size_t size, uint64_t *deadline_us);

#endif
