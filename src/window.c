/*
 * How this works: a pipe that is kept busy holds rate x round trip bytes without a queue; the
 * window allows that and a little more, which queues for about the target delay. Three things have
 * to be known for it, and each is measured so that the window's own queue does not spoil it:
 *
 * - The rate: bytes acknowledged in a span of at least a round trip and 100 ms, averaged. A span in
 *   which there was too little to send never lowers it.
 * - The time there: of writes that found no queue of ours. There are none under load, so every two
 *   seconds a drain lets in flight fall below what the pipe holds, for one round trip. The far
 *   clock tells this time from the time back, where the queue of the other direction is.
 * - The time back: whatever it is at the moment.
 *
 * Times that vary (Wi-Fi) enter as means, not as minima, so the window has room for the variation.
 * The queue is allowed at least what the far program reads at once. At the start, and again when
 * the queue is gone although as much as allowed is in flight, the window grows until there is one
 * (is_filling). When the queue is twice too long for a whole span, the rate has fallen or the path
 * become longer: the rate is taken as it is, and a drain tells which it was. What is sent is spread
 * over time at a little more than the rate, since bursts would queue, and make bursts of ACKs that
 * make bursts in the other direction.
 */
#include "window.h"

#include <string.h>

#include "util.h"

enum {
	START_LIMIT = 8 * 1024,
	LIMIT_MIN = 1500,
	HALF_FRAME_MAX = 600, /* half of a frame that is not large */
	SPAN_MIN_US = 100 * US_PER_MS,
	DRAIN_INTERVAL_US = 2 * US_PER_SECOND,
	CLOCK_ERROR_US = 10 * US_PER_MS,
	DEVIATION_MAX_US = 50 * US_PER_MS,
	TIME_MAX_US = 60 * US_PER_SECOND,
	READ_BURST_MIN = 6000, /* four frames: on a slow pipe even one is more than the target */
	SPANS_WITHOUT_QUEUE = 3,
};

static const uint64_t rate_max = 100000000000; /* times TIME_MAX_US still fits 64 bits */

static int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static uint64_t bytes_in(uint64_t time_us, uint64_t rate)
{
	return rate * min_u64(time_us, TIME_MAX_US) / US_PER_SECOND;
}

static uint64_t rate_of(uint64_t bytes, uint64_t time_us)
{
	return min_u64(bytes * US_PER_SECOND / max_u64(time_us, 1), rate_max);
}

static void begin_span(struct window *window, uint64_t now_us)
{
	memset(&window->span, 0, sizeof(window->span));
	window->span.end = window->sent;
	window->span.from = window->acked;
	window->span.from_us = now_us;
	window->span.forward_least_us = INT64_MAX;
}

void window_init(struct window *window, uint64_t target_us)
{
	memset(window, 0, sizeof(*window));
	window->target_us = min_u64(target_us, TIME_MAX_US);
	window->limit = START_LIMIT;
	window->is_starting = window->is_filling = window->is_app_limited = true;
	begin_span(window, 0);
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
	return (uint64_t)max_i64(window->forward_us + window->back_us, 0);
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

/* What is allowed on top. */
static uint64_t queue_bytes(const struct window *window)
{
	uint64_t target = bytes_in(window->target_us, window->rate);

	return max_u64(target, min_u64(window->read_burst, max_u64(READ_BURST_MIN, 2 * target)));
}

static int64_t queue_us(const struct window *window)
{
	return (int64_t)(queue_bytes(window) * US_PER_SECOND / max_u64(window->rate, 1));
}

/* --- sending ------------------------------------------------------------------------------- */

/* The target delay is also how much may be ahead of the pace, so that a fast pipe needs no timer.
 */
static bool is_ahead_of_pace(const struct window *window, uint64_t now_us)
{
	return !window->is_starting && window->paced_us >= now_us + window->target_us;
}

size_t window_room(const struct window *window, uint64_t now_us)
{
	uint64_t in_flight = window_in_flight(window);
	uint64_t room = window->limit - min_u64(window->limit, in_flight);

	if (in_flight == 0 || window->is_starting)
		return (size_t)room;
	if (is_ahead_of_pace(window, now_us))
		return 0;
	return (size_t)min_u64(room,
		LIMIT_MIN + bytes_in(now_us + window->target_us - window->paced_us, window->rate));
}

uint64_t window_opens_us(const struct window *window, uint64_t now_us)
{
	if (window_in_flight(window) >= window->limit || !is_ahead_of_pace(window, now_us))
		return UINT64_MAX;
	return window->paced_us - window->target_us + 1;
}

/* What is written late because of a rate that was wrong is soon forgiven. */
static void pace(struct window *window, uint64_t bytes, uint64_t now_us)
{
	uint64_t rate = window->rate + (window->is_filling ? window->rate : window->rate / 8);
	uint64_t gone_us = max_u64(window->paced_us, now_us) +
			   bytes * US_PER_SECOND / max_u64(rate, 1);

	if (!window->is_starting)
		window->paced_us = min_u64(gone_us, now_us + window->target_us + window->rtt_us);
}

static struct window_write *write_at(struct window *window, size_t i)
{
	return &window->writes[(window->first_write + i) % WINDOW_WRITES];
}

static void remember(struct window *window, const struct window_write *write)
{
	uint64_t together_us = window->rtt_us / (WINDOW_WRITES / 4);
	struct window_write *last;

	if (window->write_count > 0) {
		last = write_at(window, window->write_count - 1);
		if (window->write_count == WINDOW_WRITES ||
			write->sent_us - last->sent_us < together_us) {
			last->end = write->end;
			last->is_app_limited |= write->is_app_limited;
			return;
		}
	}
	*write_at(window, window->write_count++) = *write;
}

/* Nothing is in flight, so all that was sent has been read, ACKs included. */
static void begin_anew(struct window *window, uint64_t now_us)
{
	window->acked = window->sent;
	if (!window->is_app_limited)
		return; /* idle only for the window's sake: that counts */
	begin_span(window, now_us);
	window->span.is_app_limited = true;
}

void window_sent(struct window *window, size_t bytes, uint64_t now_us, bool more_waits)
{
	uint64_t in_flight = window_in_flight(window);
	struct window_write write = {
		.start = window->sent,
		.end = window->sent + bytes,
		.sent_us = now_us,
		.in_flight = in_flight,
	};

	if (in_flight == 0)
		begin_anew(window, now_us);
	pace(window, bytes, now_us);
	window->unacked_end = window->sent = write.end;
	if (window_in_flight(window) >= window->limit) {
		window->is_app_limited = false;
	} else if (!more_waits) {
		window->is_app_limited = true;
	}
	write.is_app_limited = window->is_app_limited;
	remember(window, &write);
}

void window_forget_times(struct window *window)
{
	window->untimed_end = window->sent;
}

void window_sent_ack(struct window *window, size_t bytes)
{
	window->sent += bytes;
}

void window_blocked(struct window *window)
{
	window->is_app_limited = false;
}

/* --- draining ------------------------------------------------------------------------------ */

static void enter_drain(struct window *window, enum window_drain drain)
{
	window->drain = drain;
	window->drain_end = window->sent;
}

static void begin_drain(struct window *window, enum window_drain drain, uint64_t now_us)
{
	enter_drain(window, drain);
	window->drain_us = now_us;
	memset(&window->clean, 0, sizeof(window->clean));
	window->clean.from = window->sent;
}

static void end_drain(struct window *window)
{
	int64_t before_us = window->forward_us;
	int64_t now_us, deviation_us;

	window->drain = DRAIN_NONE;
	if (window->clean.samples == 0)
		return;
	now_us = window->clean.forward_sum_us / window->clean.samples;
	deviation_us = window->clean.deviation_sum_us / window->clean.samples;
	if (window->excess_us > 0 && now_us > before_us + window->excess_us / 2)
		window->rate = max_u64(window->rate, window->rate_before); /* only the path grew */
	window->excess_us = 0;
	if (now_us < before_us - (int64_t)window_path_us(window) / 8)
		window->drain_us = 0; /* perhaps the queue was not gone yet: again, soon */
	else if (now_us < before_us + queue_us(window))
		now_us = (before_us + now_us) / 2;
	window->forward_us = now_us;
	window->deviation_us = min_i64((window->deviation_us + deviation_us) / 2, DEVIATION_MAX_US);
}

static void advance_drain(struct window *window, bool has_excess, uint64_t now_us)
{
	if (window->acked >= window->drain_end) {
		if (window->drain == DRAIN_LOW)
			enter_drain(window, DRAIN_REFILL);
		else if (window->drain == DRAIN_REFILL)
			end_drain(window);
	}
	if (has_excess && (window->drain == DRAIN_NONE || window->drain == DRAIN_FALL)) {
		begin_drain(window, DRAIN_LOW, now_us);
	} else if (window->drain == DRAIN_NONE && now_us - window->drain_us >= DRAIN_INTERVAL_US) {
		if (!window->is_filling) {
			begin_drain(window, DRAIN_FALL, now_us);
		} else if (window->span.is_app_limited) {
			end_drain(window); /* it is one anyway, and the far clock drifts */
			begin_drain(window, DRAIN_NONE, now_us);
		}
	}
}

/* --- measuring ----------------------------------------------------------------------------- */

/* Forgets what has been read. Returns the write whose bytes were read last. */
static struct window_write take_write(struct window *window)
{
	struct window_write write = *write_at(window, 0);

	while (window->write_count > 0 && write_at(window, 0)->start < window->acked) {
		write = *write_at(window, 0);
		if (write.end > window->acked)
			break;
		window->first_write = (window->first_write + 1) % WINDOW_WRITES;
		window->write_count--;
	}
	return write;
}

static void measure(struct window *window, const struct window_write *write, uint64_t bytes,
	int64_t rtt_us, int64_t forward_us)
{
	int64_t off_us = forward_us - window->forward_us;

	window->rtt_us = (7 * window->rtt_us + (uint64_t)rtt_us) / 8;
	window->span.samples++;
	window->span.rtt_sum_us += rtt_us;
	window->span.forward_sum_us += forward_us;
	window->span.forward_least_us = min_i64(window->span.forward_least_us, forward_us);
	window->span.read_burst = max_u64(window->span.read_burst, bytes);
	window->span.is_app_limited |= write->is_app_limited;
	if (write->in_flight <= path_bytes(window) / 4 * 3 && write->start >= window->clean.from) {
		window->clean.samples++;
		window->clean.forward_sum_us += forward_us;
		window->clean.deviation_sum_us += off_us > 0 ? off_us : -off_us;
	}
}

static bool has_excess(const struct window *window)
{
	return !window->is_filling && !window->span.is_app_limited &&
	       window->span.forward_least_us > window->forward_us + 2 * queue_us(window);
}

static void adapt_rate(struct window *window, uint64_t rate, bool excess)
{
	if (excess && rate < window->rate)
		window->rate = rate;
	else if (rate > window->rate)
		window->rate += (rate - window->rate) / (window->is_filling ? 1 : 2);
	else if (!window->span.is_app_limited && !window->is_filling && window->drain == DRAIN_NONE)
		window->rate -= (window->rate - rate) / 4;
}

/* No queue in several spans: the window is too small for the pipe. */
static void detect_no_queue(struct window *window, int64_t forward_us)
{
	int64_t no_queue_us = max_i64((int64_t)window->target_us / 4, window->deviation_us / 2);

	if (window->span.is_app_limited || window->drain != DRAIN_NONE ||
		forward_us >= window->forward_us + no_queue_us)
		window->spans_without_queue = 0;
	else if (++window->spans_without_queue == SPANS_WITHOUT_QUEUE)
		window->is_filling = true;
}

/* A queue appears: what comes through now is the rate. */
static void end_filling(struct window *window, int64_t forward_us, uint64_t now_us)
{
	uint64_t path_us = window_path_us(window);
	uint64_t time_us = now_us - window->span.from_us;
	int64_t burst_us = window->is_starting ? (int64_t)path_us / 2 : 2 * window->deviation_us;

	if (!window->is_filling || forward_us <= window->forward_us + queue_us(window) + burst_us)
		return;
	if (time_us >= path_us / 2)
		window->rate = max_u64(
			window->rate, rate_of(window->acked - window->span.from, time_us));
	window->is_starting = window->is_filling = false;
	window->spans_without_queue = 0;
	window->drain_us = 0; /* to get rid of what is too much */
}

static void end_span(struct window *window, uint64_t now_us)
{
	uint64_t time_us = now_us - window->span.from_us;
	uint64_t least_us = window->is_starting ? window_path_us(window) : 1;
	uint64_t rate = rate_of(window->acked - window->span.from, max_u64(time_us, least_us));
	int64_t rtt_us = window->span.rtt_sum_us / window->span.samples;
	int64_t forward_us = window->span.forward_sum_us / window->span.samples;
	bool excess = has_excess(window);

	if (excess && window->drain == DRAIN_NONE) {
		window->excess_us = forward_us - window->forward_us;
		window->rate_before = window->rate;
	}
	window->back_us = (window->back_us + rtt_us - forward_us) / 2;
	window->read_burst = max_u64(
		window->span.read_burst, window->read_burst - window->read_burst / 8);
	if (window->is_starting || time_us >= SPAN_MIN_US)
		adapt_rate(window, rate, excess);
	end_filling(window, window->span.forward_least_us, now_us);
	detect_no_queue(window, forward_us);
	advance_drain(window, excess, now_us);
	begin_span(window, now_us);
}

static void set_limit(struct window *window, uint64_t bytes, bool is_app_limited, uint64_t now_us)
{
	uint64_t low = max_u64(path_bytes(window) / 4 * 3, LIMIT_MIN);
	uint64_t goal = path_bytes(window) + queue_bytes(window) -
			min_u64(window->read_burst / 2, HALF_FRAME_MAX);

	if (window->drain == DRAIN_FALL && !is_app_limited && window->limit > low + bytes / 2) {
		window->limit -= bytes / 2;
	} else if (window->drain >= DRAIN_LOW) {
		window->limit = low;
		if (window->drain == DRAIN_FALL) {
			enter_drain(window, DRAIN_LOW);
			begin_span(window, now_us);
		}
	} else if (window->is_starting) {
		window->limit += is_app_limited ? 0 : bytes;
	} else if (window->is_filling) {
		window->limit = max_u64(goal, window->limit + (is_app_limited ? 0 : bytes / 4));
	} else {
		window->limit = max_u64(goal, LIMIT_MIN);
	}
}

/* How long the bytes took to be read: the far clock's zero is a guess, so beyond some constant. */
static int64_t time_there(
	struct window *window, uint64_t sent_us, uint64_t read_us, uint64_t now_us)
{
	int64_t rtt_us = (int64_t)max_u64(now_us - sent_us, 1);
	int64_t forward_us = (int64_t)(read_us - window->clock_us - sent_us);
	int64_t sure_us = 2 * max_i64(window->forward_us, CLOCK_ERROR_US);

	if (window->rtt_us == 0)
		window->rtt_us = (uint64_t)(window->forward_us = rtt_us);
	else if (read_us != WINDOW_NO_TIME && forward_us >= window->forward_us - sure_us &&
		 forward_us <= rtt_us + sure_us)
		return forward_us;
	if (read_us == WINDOW_NO_TIME)
		return rtt_us - window->back_us;
	/* It was set (or is seen for the first time): neither way takes less than no time. */
	window->clock_us = read_us - sent_us - (uint64_t)(rtt_us - window->back_us);
	return rtt_us - window->back_us;
}

void window_acked(struct window *window, uint64_t consumed, uint64_t read_us, uint64_t now_us)
{
	struct window_write write;
	int64_t forward_us;
	uint64_t bytes;

	if (consumed <= window->acked || window->write_count == 0)
		return;
	bytes = consumed - window->acked;
	window->acked = consumed;
	if (write_at(window, 0)->start >= consumed)
		return; /* it tells of an ACK of ours: no byte that counts was read */
	write = take_write(window);
	if (write.start < window->untimed_end) {
		begin_span(window, now_us);
		return;
	}
	forward_us = time_there(window, write.sent_us, read_us, now_us);
	measure(window, &write, bytes, (int64_t)max_u64(now_us - write.sent_us, 1), forward_us);
	if (now_us - window->span.from_us >= SPAN_MIN_US
			? window->acked >= window->span.end || has_excess(window)
			: window->acked >= window->span.end &&
				  (window->is_starting || window->drain != DRAIN_NONE))
		end_span(window, now_us);
	else if (!write.is_app_limited)
		end_filling(window, forward_us, now_us);
	set_limit(window, bytes, write.is_app_limited, now_us);
}
