/*
 * The delivery window: how many bytes may be on their way in a pipe whose buffers nobody can see,
 * so that the pipe is always busy and a new frame still gets through it soon. It learns from what
 * was written when, and from what the far program says it has read when (ACK frames, see uott(5)).
 *
 * Pure: no descriptor, no clock, no heap. Times are in microseconds on a clock that never goes
 * back, offsets and amounts in bytes of the stream, rates in bytes per second.
 */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "writes.h"

/* For window_acked(): the far side does not say when. */
#define WINDOW_NO_TIME UINT64_MAX

/* What was read since a moment. */
struct window_interval {
	uint64_t acked, us, read_us; /* at its beginning: offset, our time, time of reading */
	int64_t queue_us;            /* shortest wait since */
};

/* Now and then less is sent for a moment, so that the queue in the pipe goes away. */
enum window_drain {
	DRAIN_NONE,
	DRAIN_FALL,    /* until less is in flight than the pipe holds without a queue */
	DRAIN_MEASURE, /* until what was sent then is acknowledged */
};

struct window {
	uint64_t target_us;
	uint64_t limit;    /* this much may be in flight */
	uint64_t paced_us; /* when all that was written would be gone at the pace */

	uint64_t sent;        /* offset after the last byte written */
	uint64_t unacked_end; /* end of the last byte that will be acknowledged: ACKs are not */
	uint64_t acked;       /* as last acknowledged; or later, where only ACKs followed */
	uint64_t untimed_end; /* what was written before says nothing about the path */
	bool is_untimed;      /* nor does what is written now */
	bool is_app_limited;  /* of writes: there is too little to keep the pipe busy */
	struct writes writes;

	uint64_t rate;
	bool has_clock;        /* the far side has said when it has read something */
	uint64_t clock_us;     /* what the far clock is ahead of ours, about */
	int64_t base_us;       /* least time there; less than 0, if the clocks differ so */
	int64_t path_us;       /* round trip without a queue of ours, smoothed */
	int64_t least_path_us; /* the same, the least */
	uint64_t rtt_us;       /* smoothed */
	uint64_t read_us;      /* when what is acknowledged was read, on our clock, about */
	int64_t variation_us;  /* of the wait within a span, smoothed */
	int64_t queue_us;      /* how long bytes may wait */
	struct window_interval recent, former; /* short ones, for what happens suddenly */
	struct {
		struct window_interval since, former; /* its own, and that of the span before */
		uint64_t end; /* offset; what is acknowledged then was sent after it began */
		int64_t samples, queue_sum_us;
		int64_t clean_us; /* shortest wait of what was written while little was in flight */
		bool is_app_limited, is_full;
	} span; /* about a round trip, for all that is measured */

	bool is_starting; /* nothing is known yet */
	bool is_filling;  /* the limit grows, until the pipe is full */
	unsigned int spans_without_queue;
	enum window_drain drain;
	uint64_t drain_us;    /* when the last one began, or was not needed */
	int64_t rise_us;      /* of the base, that the last drain has shown; 0: none */
	uint64_t rate_before; /* the falls */
	unsigned int falls;   /* of the rate, in a row: there was a queue each time */
};

/* Begins a stream. target_us: how long bytes may queue in the pipe, beyond what it needs. */
void window_init(struct window *window, uint64_t target_us);

/*
 * How many bytes may be written now. A frame may begin if there is room for one byte; it may be
 * larger than the room, which the window has allowed for. Never 0 when nothing is in flight.
 */
size_t window_room(const struct window *window, uint64_t now_us);

/*
 * While window_room() is 0: when to ask again even if nothing is acknowledged before, so that what
 * is sent is spread over time. UINT64_MAX: only an ACK makes room.
 */
uint64_t window_opens_us(const struct window *window, uint64_t now_us);

/*
 * Says that `bytes` (1 or more) of frames other than ACK were written; more_waits: there are more
 * to be written.
 */
void window_sent(struct window *window, size_t bytes, uint64_t now_us, bool more_waits);

/* Says that what was written before may have waited for the far program to be there. */
void window_forget_times(struct window *window);

/* Says that `bytes` of ACK frames were written. They need no room and are not waited for. */
void window_sent_ack(struct window *window, size_t bytes);

/*
 * Takes an ACK: the far program had read `consumed` bytes of the stream, not fewer than before nor
 * more than were sent, at read_us on its own clock (any that runs evenly; WINDOW_NO_TIME: it does
 * not say). It held the ACK back for held_us.
 */
void window_acked(struct window *window, uint64_t consumed, uint64_t read_us, uint64_t held_us,
	uint64_t now_us);

/* Bytes written and not acknowledged yet. */
uint64_t window_in_flight(const struct window *window);

/* Bytes that may be on their way when the pipe is busy. */
uint64_t window_limit(const struct window *window);

/* What the pipe delivers, in bytes per second; 0: not known yet. */
uint64_t window_rate(const struct window *window);

/* Round trip without a queue of ours, and as it is (smoothed), in microseconds; 0: not known. */
uint64_t window_path_us(const struct window *window);
uint64_t window_rtt_us(const struct window *window);

#endif
