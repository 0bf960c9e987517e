#include "counters.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "util.h"

enum {
	REPORT_INTERVAL_US = 10 * US_PER_SECOND,
	RATE_SIZE = 24,
	LAST_SIZE = 96,
	PIPE_SIZE = 64,
	FIRST_CAUSE = REFUSED,
};

/* The texts stand in the tables themselves: pointers to them would take as much room again. */
static const char keys[][17] = {
	[UDP_IN] = "udp_in",
	[UDP_IN_BYTES] = "udp_in_bytes",
	[UDP_OUT] = "udp_out",
	[UDP_OUT_BYTES] = "udp_out_bytes",
	[FRAMES_IN] = "frames_in",
	[STREAM_IN_BYTES] = "stream_in_bytes",
	[FRAMES_OUT] = "frames_out",
	[STREAM_OUT_BYTES] = "stream_out_bytes",
	[FLOWS] = "flows",
	[FLOWS_PEAK] = "flows_peak",
	[FLOWS_TOTAL] = "flows_total",
	[EXPIRED] = "expired",
	[EVICTED] = "evicted",
	[CLOSED] = "closed",
	[RETRIES] = "retries",
	[QUEUED] = "queued",
	[IN_FLIGHT] = "in_flight",
	[RATE] = "rate",
	[RTT_US] = "rtt_us",
	[NOISE_BYTES] = "noise_bytes",
	[REFUSED] = "refused",
	[DROP_QUEUE_FULL] = "drop_queue_full",
	[DROP_STALE] = "drop_stale",
	[DROP_CODEL] = "drop_codel",
	[DROP_KERNEL] = "drop_kernel",
	[DROP_TOO_BIG] = "drop_too_big",
	[DROP_SEND_FAILED] = "drop_send_failed",
	[DROP_NO_FLOW] = "drop_no_flow",
	[DROP_NO_TAG] = "drop_no_tag",
	[DROP_NO_SOCKET] = "drop_no_socket",
	[DROP_PIPE_CLOSED] = "drop_pipe_closed",
};

static_assert(ARRAY_SIZE(keys) == COUNTERS, "each counter has a name");

/* Of drops and refusals, for the person who reads the report. */
static const char causes[][65] = {
	[REFUSED - FIRST_CAUSE] = "nobody listens at the target, or the datagram cannot reach it",
	[DROP_QUEUE_FULL - FIRST_CAUSE] = "the pipe is too slow, and the queue is full",
	[DROP_STALE - FIRST_CAUSE] = "the wait for the pipe was too long, or the flow was over",
	[DROP_CODEL -
		FIRST_CAUSE] = "a flow sends more than its share, and learns so (this is normal)",
	[DROP_KERNEL - FIRST_CAUSE] = "the socket's receive buffer was full",
	[DROP_TOO_BIG - FIRST_CAUSE] = "too big to be sent from this host",
	[DROP_SEND_FAILED - FIRST_CAUSE] = "sending failed",
	[DROP_NO_FLOW - FIRST_CAUSE] = "the reply came too late, or belongs to no flow",
	[DROP_NO_TAG - FIRST_CAUSE] = "no flow is free for a new client (see -n)",
	[DROP_NO_SOCKET - FIRST_CAUSE] = "no socket could be opened for the flow",
	[DROP_PIPE_CLOSED - FIRST_CAUSE] = "the pipe was closed",
};

const char *counter_key(enum counter counter)
{
	return keys[counter];
}

void counters_drop(struct counters *counters, enum counter cause, uint16_t tag, uint64_t count)
{
	counters->value[cause] += count;
	counters->last_flow[cause] = tag + 1U;
}

void counters_flow_added(struct counters *counters, size_t now)
{
	counters->value[FLOWS] = now;
	counters->value[FLOWS_PEAK] = max_u64(counters->value[FLOWS_PEAK], now);
	counters->value[FLOWS_TOTAL]++;
}

void counters_format(const struct counters *counters, char *text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < COUNTERS && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s=%" PRIu64,
			i > 0 ? " " : "", keys[i], counters->value[i]);
}

/* Three digits and a unit of thousands: "1.23 M". */
static const char *format_rate(double rate, char text[static RATE_SIZE])
{
	static const char *const units[] = {"", "k", "M", "G"};
	size_t unit = 0;
	int decimals;

	for (; rate >= 999.5 && unit + 1 < ARRAY_SIZE(units); unit++)
		rate /= 1000;
	decimals = unit == 0 || rate >= 99.95 ? 0 : rate >= 9.995 ? 1 : 2;
	snprintf(text, RATE_SIZE, "%.*f %s", decimals, rate, units[unit]);
	return text;
}

static uint64_t dropped(const struct counters *counters)
{
	uint64_t sum = 0;

	for (size_t i = FIRST_DROP; i < COUNTERS; i++)
		sum += counters->value[i];
	return sum;
}

void counters_format_rates(const struct counters *before, const struct counters *after,
	uint64_t interval_us, char text[static COUNTERS_RATES_SIZE])
{
	static const enum counter shown[] = {UDP_IN, UDP_IN_BYTES, UDP_OUT, UDP_OUT_BYTES};
	char rates[ARRAY_SIZE(shown)][RATE_SIZE], pipe_rate[RATE_SIZE], pipe_text[PIPE_SIZE] = "";

	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		uint64_t count = after->value[shown[i]] - before->value[shown[i]];

		format_rate((double)count * US_PER_SECOND / (double)interval_us, rates[i]);
	}
	if (after->value[RTT_US] > 0)
		snprintf(pipe_text, PIPE_SIZE, ", pipe %sB/s %.1f ms",
			format_rate((double)after->value[RATE], pipe_rate),
			(double)after->value[RTT_US] / US_PER_MS);
	snprintf(text, COUNTERS_RATES_SIZE,
		"flows %" PRIu64 ", in %s/s %sB/s, out %s/s %sB/s, queued %" PRIu64
		", dropped %" PRIu64 "%s",
		after->value[FLOWS], rates[0], rates[1], rates[2], rates[3], after->value[QUEUED],
		dropped(after), pipe_text);
}

/* Says which target or flow the last of these datagrams had. Returns "" if that is not known. */
static const char *format_last(
	const struct counters *counters, size_t cause, char text[static LAST_SIZE])
{
	text[0] = '\0';
	if (cause == REFUSED && counters->refused_by && counters->refused_by[0])
		snprintf(text, LAST_SIZE, "; last: %s", counters->refused_by);
	else if (counters->last_flow[cause] > 0)
		snprintf(text, LAST_SIZE, "; last: flow %" PRIu32, counters->last_flow[cause] - 1);
	return text;
}

bool counters_next_report(
	struct counters *counters, uint64_t now_us, char *text, size_t size, uint64_t *deadline_us)
{
	char last[LAST_SIZE];

	*deadline_us = UINT64_MAX;
	for (size_t i = FIRST_REPORTED; i < COUNTERS; i++) {
		uint64_t count = counters->value[i] - counters->reported[i];

		if (count == 0)
			continue;
		if (now_us < counters->next_report_us[i]) {
			*deadline_us = min_u64(*deadline_us, counters->next_report_us[i]);
			continue;
		}
		counters->reported[i] = counters->value[i];
		counters->next_report_us[i] = now_us + REPORT_INTERVAL_US;
		snprintf(text, size, "%s %" PRIu64 " datagram%s: %s%s",
			i == REFUSED ? "refused" : "dropped", count, count == 1 ? "" : "s",
			causes[i - FIRST_CAUSE], format_last(counters, i, last));
		counters->last_flow[i] = 0;
		return true;
	}
	return false;
}
