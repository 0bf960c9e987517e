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

/* For window_acked(): the far side does not say when. */
#define WINDOW_NO_TIME UINT64_MAX

enum {
	WINDOW_WRITES = 128 /* remembered; if more are in flight, several are taken together */
};

/* A write, or several in a row, that the far program has not read to the end. */
struct window_write {
	uint64_t start, end; /* offsets */
	uint64_t sent_us;
	uint64_t in_flight;  /* before it */
	bool is_app_limited; /* too little had been written since to keep the pipe busy */
};

/* Every now and then less is sent for a moment, so that the queue in the pipe goes away. */
enum window_drain {
	DRAIN_NONE,
	DRAIN_REFILL, /* as much as usual may be in flight; what came of DRAIN_LOW comes in */
	DRAIN_LOW,    /* less is in flight than the pipe holds without a queue */
	DRAIN_FALL,   /* half of what is read is sent, until it is so */
};

struct window {
	uint64_t target_us;
	uint64_t limit;    /* this much may be in flight */
	uint64_t paced_us; /* when all that was written would be gone at the pace */

	uint64_t sent;        /* offset after the last byte written */
	uint64_t unacked_end; /* the same, without ACKs, which are not acknowledged */
	uint64_t untimed_end; /* what was written before says nothing about the path */
	uint64_t acked;       /* as last acknowledged; or later, where only ACKs followed */
	bool is_app_limited;  /* of writes: there is too little to keep the pipe busy */
	struct window_write writes[WINDOW_WRITES];
	size_t first_write, write_count;

	struct {
		uint64_t end; /* offset; what is acknowledged then was sent after it began */
		uint64_t from, from_us;
		uint64_t read_burst;
		int64_t samples, rtt_sum_us, forward_sum_us, forward_least_us;
		bool is_app_limited;
	} span; /* what is being measured */

	uint64_t rate;
	uint64_t read_burst;              /* most bytes read at once, of late */
	bool is_starting;                 /* nothing is known yet */
	bool is_filling;                  /* the pipe takes more; how much is being found out */
	unsigned int spans_without_queue; /* spans in a row that saw no queue */
	uint64_t rate_before;             /* a queue too long was seen */
	int64_t excess_us;                /* how long it was; 0: no such */
	uint64_t clock_us;                /* what the far clock is ahead of ours, about */
	int64_t forward_us, back_us;      /* time there (without a queue of ours) and back */
	int64_t deviation_us;             /* of the first, mean */
	uint64_t rtt_us;                  /* smoothed */
	enum window_drain drain;
	uint64_t drain_us, drain_end; /* when the last began; offset that ends the phase */
	struct {
		uint64_t from; /* offset */
		int64_t samples, forward_sum_us, deviation_sum_us;
	} clean; /* writes, since the last drain began */
};

/*
 * Begins a stream. target_us: how long bytes may queue in the pipe, beyond what it needs.
 */
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
 * Says that `bytes`, one at least, of frames that will be acknowledged, all but ACKs, were written;
 * more_waits: there are more to be written.
 */
void window_sent(struct window *window, size_t bytes, uint64_t now_us, bool more_waits);

/* Says that what was written up to now may have waited for the far program to be there. */
void window_forget_times(struct window *window);

/* Says that `bytes` of ACK frames were written. They need no room and are not waited for. */
void window_sent_ack(struct window *window, size_t bytes);

/* Says that the pipe takes no more (EAGAIN, or less than was to be written): so it is busy. */
void window_blocked(struct window *window);

/*
 * Takes an ACK: the far program had read `consumed` bytes of the stream, not fewer than before nor
 * more than were sent, at read_us on its own clock (any that runs evenly; WINDOW_NO_TIME: it does
 * not say).
 */
void window_acked(struct window *window, uint64_t consumed, uint64_t read_us, uint64_t now_us);

/* Bytes written and to be acknowledged yet. */
uint64_t window_in_flight(const struct window *window);

/* Bytes that may be on their way when the pipe is busy. */
uint64_t window_limit(const struct window *window);

/* What the pipe delivers, in bytes per second; 0: not known yet. */
uint64_t window_rate(const struct window *window);

/* Round trip without a queue of ours, and as it is (smoothed), both in microseconds; 0: not known.
 */
uint64_t window_path_us(const struct window *window);
uint64_t window_rtt_us(const struct window *window);

#endif
