/*
 * How this works: so much may be in flight as a busy pipe holds, its rate times the round trip
 * without a queue, and what may wait in it. ACKs tell all three:
 *
 *   wait   how much longer bytes took to be read than the base, the least time there of late. The
 *          base has the difference of the two clocks in it (one-way delays, RFC 6817).
 *   rate   what was read in a span, by the far clock, so that the way back does not matter.
 *   path   the round trip less the wait. The way back counts as it is.
 *
 * A span is a round trip, and 100 ms at least. Its shortest wait counts, as in RFC 8289: what waits
 * in the best moment too is a queue. What comes and goes is the path: jitter, packets that TCP
 * sends again, the fading of a mobile network. The queue that is allowed grows and shrinks until
 * the shortest wait is the target, and a half of the variation in a span: jitter is no queue.
 *
 * A longer wait says that the rate is lower than thought, whoever limits what is sent. Without any
 * in three spans, the window grows until there is one, by a quarter in a round trip, as BBR does.
 * When all waits for 50 ms, the rate falls at once: mobile networks change so fast (Sprout).
 *
 * Shorter waits move the base down. It moves up only in a drain, every few seconds and when a lower
 * rate does not help: nothing is sent until half of what the path holds is in flight; what is sent
 * then finds no queue (BBR's ProbeRTT). Two drains have to agree that the path is much longer. So
 * no queue becomes the path for good (Tor's proposal 324).
 *
 * What is sent is spread over time, at a little more than the rate, since bursts would queue.
 */
#include "window.h"

#include <string.h>

#include "util.h"

enum {
	START_LIMIT = 4 * 1024,
	LIMIT_MIN = 1500,
	RECENT_US = 50 * US_PER_MS,
	SPAN_MIN_US = 2 * RECENT_US,
	DRAIN_INTERVAL_US = 2 * US_PER_SECOND,
	DRAIN_PATHS = 16,
	QUEUE_MAX_US = 250 * US_PER_MS,
	CLOCK_SET_US = US_PER_SECOND / 2, /* no base is so wrong */
	TIME_MAX_US = 60 * US_PER_SECOND,
	SPANS_WITHOUT_QUEUE = 3,
	FALLS = 3,
	TOGETHER_OF_RTT = WRITES_MAX / 4,
	GROWTH = 4, /* a quarter of what is read, which is BBR's gain, too */
};

static const uint64_t rate_max = 100000000000; /* times TIME_MAX_US still fits 64 bits */

static uint64_t bytes_in(uint64_t time_us, uint64_t rate)
{
	return rate * min_u64(time_us, TIME_MAX_US) / US_PER_SECOND;
}

static struct window_interval interval_begin(const struct window *window, uint64_t now_us)
{
	return (struct window_interval){window->acked, now_us, window->read_us, INT64_MAX};
}

/* What was read in a second, if the interval has that time at least. */
static uint64_t rate_since(
	const struct window *window, const struct window_interval *since, uint64_t least_us)
{
	uint64_t time_us = max_u64(window->read_us - since->read_us, max_u64(least_us, 1));

	return min_u64((window->acked - since->acked) * US_PER_SECOND / time_us, rate_max);
}

static void begin_span(struct window *window, uint64_t now_us)
{
	struct window_interval former = window->span.since;

	memset(&window->span, 0, sizeof(window->span));
	window->span.former = former;
	window->span.since = interval_begin(window, now_us);
	window->span.end = window->sent;
	window->span.clean_us = INT64_MAX;
}

static void forget_rates(struct window *window, uint64_t now_us)
{
	begin_span(window, now_us);
	window->span.former = window->recent = window->former = window->span.since;
}

void window_init(struct window *window, uint64_t target_us)
{
	memset(window, 0, sizeof(*window));
	window->target_us = min_u64(target_us, TIME_MAX_US);
	window->limit = START_LIMIT;
	window->is_starting = window->is_filling = window->is_app_limited = true;
	forget_rates(window, 0);
}

uint64_t window_in_flight(const struct window *window)
{
	return window->unacked_end - min_u64(window->acked, window->unacked_end);
}

uint64_t window_limit(const struct window *window)
{
	return window->limit;
}

uint64_t window_rate(const struct window *window)
{
	return window->rate;
}

uint64_t window_path_us(const struct window *window)
{
	return (uint64_t)window->path_us;
}

uint64_t window_rtt_us(const struct window *window)
{
	return window->rtt_us;
}

/* What the pipe holds when it is busy and has no queue of ours. */
static uint64_t path_bytes(const struct window *window)
{
	return bytes_in(window_path_us(window), window->rate);
}

/* The wait that is aimed at, in the best moment of a span. */
static int64_t aim_us(const struct window *window)
{
	return (int64_t)window->target_us + window->variation_us / 2;
}

/* The wait that is allowed at least: on a slow pipe a packet takes longer than the target. */
static int64_t least_queue_us(const struct window *window)
{
	return (int64_t)max_u64(window->target_us,
		(uint64_t)LIMIT_MIN * US_PER_SECOND / max_u64(window->rate, LIMIT_MIN));
}

static uint64_t limit_now(const struct window *window)
{
	return window->drain == DRAIN_FALL ? max_u64(path_bytes(window) / 2, LIMIT_MIN)
					   : window->limit;
}

/* The target delay is also how much may be ahead of the pace, so that a fast pipe needs no timer.
 */
static bool is_ahead_of_pace(const struct window *window, uint64_t now_us)
{
	return !window->is_starting && window->paced_us >= now_us + window->target_us;
}

size_t window_room(const struct window *window, uint64_t now_us)
{
	uint64_t in_flight = window_in_flight(window), limit = limit_now(window);
	uint64_t room = limit - min_u64(limit, in_flight);
	uint64_t ahead_us = max_u64(window->paced_us, now_us) - now_us;

	if (in_flight == 0 || window->is_starting)
		return (size_t)room;
	if (is_ahead_of_pace(window, now_us))
		return 0;
	return (size_t)min_u64(
		room, LIMIT_MIN + bytes_in(window->target_us - ahead_us, window->rate));
}

uint64_t window_opens_us(const struct window *window, uint64_t now_us)
{
	if (window_in_flight(window) >= limit_now(window) || !is_ahead_of_pace(window, now_us))
		return UINT64_MAX;
	return window->paced_us - window->target_us + 1;
}

/* What is written late because of a rate that was wrong is soon forgiven. */
static void pace(struct window *window, uint64_t bytes, uint64_t now_us)
{
	uint64_t more = window->rate / (window->is_filling ? 2 : 4);
	uint64_t gone_us = max_u64(window->paced_us, now_us) +
			   bytes * US_PER_SECOND / max_u64(window->rate + more, 1);

	if (!window->is_starting)
		window->paced_us = min_u64(gone_us, now_us + window->target_us + window->rtt_us);
}

/* Nothing is in flight, so all that was sent has been read, ACKs included. */
static void begin_anew(struct window *window, uint64_t now_us)
{
	window->acked = window->sent;
	if (!window->is_app_limited)
		return; /* idle only for the window's sake: that counts */
	forget_rates(window, now_us);
	window->span.is_app_limited = true;
}

void window_sent(struct window *window, size_t bytes, uint64_t now_us, bool more_waits)
{
	uint64_t in_flight = window_in_flight(window);
	struct write write = {
		.start = window->sent,
		.end = window->sent + bytes,
		.sent_us = now_us,
		.in_flight = in_flight,
	};

	if (in_flight == 0)
		begin_anew(window, now_us);
	pace(window, bytes, now_us);
	window->unacked_end = window->sent = write.end;
	if (window_in_flight(window) >= limit_now(window)) {
		window->is_app_limited = false;
		window->span.is_full = true;
	} else if (!more_waits) {
		window->is_app_limited = true;
	}
	write.is_app_limited = window->is_app_limited;
	if (window->is_untimed)
		window->untimed_end = write.end;
	writes_add(&window->writes, &write, window->rtt_us / TOGETHER_OF_RTT);
}

void window_forget_times(struct window *window)
{
	window->untimed_end = window->sent;
	window->is_untimed = window_in_flight(window) > window->limit;
}

void window_sent_ack(struct window *window, size_t bytes)
{
	window->sent += bytes;
}

static void move_base(struct window *window, int64_t more_us)
{
	window->base_us += more_us;
	window->path_us = max_i64(window->path_us + more_us, 1);
	window->least_path_us = max_i64(window->least_path_us + more_us, 1);
}

static void begin_drain(struct window *window, uint64_t now_us)
{
	window->drain = DRAIN_FALL;
	window->drain_us = now_us;
	window->falls = 0;
}

/* A drain has shown the shortest wait. A long one is believed only if a second drain shows it. */
static void end_drain(struct window *window, uint64_t now_us)
{
	int64_t more_us = window->span.clean_us, most_us = window->rise_us;
	bool is_long = more_us > window->path_us / 4;

	window->drain = DRAIN_NONE;
	window->drain_us = now_us;
	window->rise_us = 0;
	if (!is_long) {
		move_base(window, more_us / 2);
	} else if (most_us > 0) {
		move_base(window, min_i64(more_us, most_us));
		window->rate = max_u64(window->rate, window->rate_before);
	} else {
		begin_drain(window, now_us);
		window->rise_us = more_us;
	}
}

static void advance_drain(struct window *window, uint64_t now_us)
{
	if (window->drain == DRAIN_FALL && window_in_flight(window) <= limit_now(window)) {
		window->drain = DRAIN_MEASURE;
		begin_span(window, now_us);
	} else if (window->drain == DRAIN_NONE && !window->is_filling &&
		   now_us - window->drain_us >=
			   DRAIN_INTERVAL_US + DRAIN_PATHS * window_path_us(window)) {
		begin_drain(window, now_us);
	}
}

/* What a span without a drain says of the base. */
static void adapt_base(struct window *window, uint64_t now_us)
{
	int64_t least_us = window->span.since.queue_us;

	if (window->span.is_app_limited && window->span.clean_us <= aim_us(window)) {
		move_base(window, window->span.clean_us / 8);
		window->drain_us = now_us;
	} else if (least_us < 0) {
		move_base(window, window->is_starting || least_us < -window->path_us / 4
					  ? least_us
					  : least_us / 8);
	}
}

/* How long the bytes took, on two clocks. Their difference is guessed once. */
static int64_t time_there(struct window *window, uint64_t sent_us, uint64_t read_us, int64_t rtt_us)
{
	int64_t there_us = (int64_t)(read_us - window->clock_us - sent_us);
	int64_t wait_us = there_us - window->base_us;

	if (window->rtt_us == 0) {
		window->rtt_us = (uint64_t)rtt_us;
		window->path_us = window->least_path_us = rtt_us;
	}
	if (read_us == WINDOW_NO_TIME)
		return window->base_us + rtt_us - window->path_us;
	if (window->has_clock && wait_us <= rtt_us && wait_us >= -CLOCK_SET_US)
		return there_us;
	/* The far clock is seen for the first time, or was set. */
	there_us = window->base_us + rtt_us - window->path_us;
	window->clock_us = read_us - sent_us - (uint64_t)there_us;
	window->has_clock = true;
	return there_us;
}

static void measure(
	struct window *window, const struct write *write, int64_t rtt_us, int64_t there_us)
{
	int64_t queue_us = there_us - window->base_us;
	int64_t path_us = rtt_us - max_i64(queue_us, 0);

	window->read_us = max_u64(window->read_us, write->sent_us + (uint64_t)there_us);
	window->rtt_us = (7 * window->rtt_us + (uint64_t)rtt_us) / 8;
	window->path_us += (path_us - window->path_us) / 8;
	window->least_path_us = min_i64(window->least_path_us, path_us);
	window->recent.queue_us = min_i64(window->recent.queue_us, queue_us);
	window->span.since.queue_us = min_i64(window->span.since.queue_us, queue_us);
	window->span.samples++;
	window->span.queue_sum_us += queue_us;
	window->span.is_app_limited |= write->is_app_limited;
	if (window->drain == DRAIN_MEASURE ? write->start >= window->span.end
					   : write->in_flight <= path_bytes(window) / 4 * 3)
		window->span.clean_us = min_i64(window->span.clean_us, queue_us);
}

/* If that does not help, it is no queue, and the base is wrong: a drain tells. */
static void lower_rate(struct window *window, uint64_t rate, uint64_t now_us)
{
	if (window->falls == 0 && window->rise_us == 0)
		window->rate_before = window->rate;
	window->rate = min_u64(window->rate, rate);
	if (++window->falls == FALLS && window->drain == DRAIN_NONE)
		begin_drain(window, now_us);
}

/* At the start a span is short, and two are taken together. */
static void adapt_rate(struct window *window, uint64_t now_us)
{
	int64_t queue_us = window->span.since.queue_us;
	uint64_t time_us = now_us - window->span.since.us;
	uint64_t rate = window->is_starting
				? rate_since(window, &window->span.former, window_path_us(window))
				: rate_since(window, &window->span.since, time_us / 2);

	if (rate > window->rate)
		window->rate += (rate - window->rate) / (window->is_filling ? 1 : 2);
	else if (queue_us > window->queue_us + aim_us(window))
		lower_rate(window, (window->rate + rate) / 2, now_us);
	else
		window->falls = 0;
}

/* The queue that is allowed is such that in the best moment of a span it is what is aimed at. */
static void adapt_queue(struct window *window)
{
	int64_t queue_us = window->span.since.queue_us, over_us = queue_us - aim_us(window);
	int64_t variation_us = window->span.queue_sum_us / window->span.samples - queue_us;

	window->variation_us += (variation_us - window->variation_us) / 8;
	if (over_us > 0)
		window->queue_us -= over_us / 2;
	else if (window->span.is_full && !window->span.is_app_limited)
		window->queue_us += min_i64(-over_us, aim_us(window));
	window->queue_us = min_i64(window->queue_us, QUEUE_MAX_US);
	window->queue_us = max_i64(window->queue_us, least_queue_us(window));
	if (queue_us > aim_us(window) / 2)
		window->spans_without_queue = 0;
	else if (!window->span.is_app_limited &&
		 ++window->spans_without_queue == SPANS_WITHOUT_QUEUE)
		window->is_filling = true;
}

static bool is_full(const struct window *window, uint64_t now_us)
{
	uint64_t time_us = now_us - window->span.since.us;
	int64_t queue_us = window->span.since.queue_us;

	if (window->is_starting)
		return time_us >= (uint64_t)window->least_path_us / 2 &&
		       queue_us > least_queue_us(window) + window->least_path_us / 8;
	return window->is_filling && time_us >= RECENT_US &&
	       queue_us > 2 * least_queue_us(window) + window->least_path_us / 8 +
				  window->variation_us;
}

static void end_filling(struct window *window, uint64_t now_us)
{
	window->is_starting = window->is_filling = false;
	window->spans_without_queue = 0;
	window->queue_us = max_i64(window->queue_us, least_queue_us(window));
	begin_drain(window, now_us);
}

static void end_span(struct window *window, uint64_t now_us)
{
	bool was_full = is_full(window, now_us), was_drain = window->drain != DRAIN_NONE;

	if (window->drain == DRAIN_MEASURE) {
		end_drain(window, now_us);
	} else {
		adapt_base(window, now_us);
		adapt_rate(window, now_us);
	}
	if (was_full)
		end_filling(window, now_us);
	else if (!window->is_filling && !was_drain)
		adapt_queue(window);
	begin_span(window, now_us);
}

/* Suddenly all waits: the rate has fallen, or the path has become longer. A drain tells which. */
static void end_recent(struct window *window, uint64_t now_us)
{
	int64_t most_us = window->queue_us + 2 * least_queue_us(window) + window->path_us / 4;
	uint64_t rate = rate_since(window, &window->former, 0);

	if (!window->is_filling && window->drain == DRAIN_NONE && window->recent.queue_us > most_us)
		lower_rate(window, rate, now_us);
	window->former = window->recent;
	window->recent = interval_begin(window, now_us);
}

static bool is_span_over(const struct window *window, uint64_t now_us)
{
	uint64_t least_us = window->is_filling ? RECENT_US : SPAN_MIN_US;

	if (window->drain == DRAIN_MEASURE)
		return window->span.clean_us < INT64_MAX;
	if (is_full(window, now_us))
		return true;
	return window->acked >= window->span.end && window->span.samples > 0 &&
	       (window->is_starting || now_us - window->span.since.us >= least_us);
}

static void set_limit(struct window *window, uint64_t bytes, bool is_app_limited)
{
	uint64_t goal = path_bytes(window) + bytes_in((uint64_t)window->queue_us, window->rate);

	if (window->is_filling && !is_app_limited)
		window->limit += window->is_starting ? bytes : bytes / GROWTH;
	if (!window->is_starting)
		window->limit = max_u64(window->is_filling ? window->limit : LIMIT_MIN, goal);
}

void window_acked(struct window *window, uint64_t consumed, uint64_t read_us, uint64_t held_us,
	uint64_t now_us)
{
	struct write write;
	int64_t rtt_us;
	uint64_t bytes;

	if (consumed <= window->acked)
		return;
	bytes = consumed - window->acked;
	window->acked = consumed;
	if (window_in_flight(window) <= window->limit)
		window->is_untimed = false;
	if (!writes_take(&window->writes, consumed, &write))
		return; /* it tells of an ACK of ours: no byte that counts was read */
	if (write.start < window->untimed_end) {
		begin_span(window, now_us);
		return;
	}
	rtt_us = (int64_t)(now_us - write.sent_us);
	rtt_us = max_i64(rtt_us - (int64_t)min_u64(held_us, (uint64_t)rtt_us), 1);
	measure(window, &write, rtt_us, time_there(window, write.sent_us, read_us, rtt_us));
	if (now_us - window->recent.us >= RECENT_US)
		end_recent(window, now_us);
	if (is_span_over(window, now_us))
		end_span(window, now_us);
	advance_drain(window, now_us);
	set_limit(window, bytes, write.is_app_limited);
}
