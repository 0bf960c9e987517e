#include "counters.h"

#include <inttypes.h>
#include <stdio.h>

#include "util.h"

enum {
	REPORT_INTERVAL_US = 10 * US_PER_SECOND
};

static const struct {
	const char *key;
	const char *cause; /* of a drop: why, for the person who reads the message */
} names[COUNTERS] = {
	[UDP_IN] = {"udp_in", NULL},
	[UDP_IN_BYTES] = {"udp_in_bytes", NULL},
	[UDP_OUT] = {"udp_out", NULL},
	[UDP_OUT_BYTES] = {"udp_out_bytes", NULL},
	[FRAMES_IN] = {"frames_in", NULL},
	[STREAM_IN_BYTES] = {"stream_in_bytes", NULL},
	[FRAMES_OUT] = {"frames_out", NULL},
	[STREAM_OUT_BYTES] = {"stream_out_bytes", NULL},
	[FLOWS] = {"flows", NULL},
	[FLOWS_PEAK] = {"flows_peak", NULL},
	[FLOWS_TOTAL] = {"flows_total", NULL},
	[EXPIRED] = {"expired", NULL},
	[EVICTED] = {"evicted", NULL},
	[CLOSED] = {"closed", NULL},
	[RETRIES] = {"retries", NULL},
	[QUEUED] = {"queued", NULL},
	[IN_FLIGHT] = {"in_flight", NULL},
	[RATE] = {"rate", NULL},
	[RTT_US] = {"rtt_us", NULL},
	[NOISE_BYTES] = {"noise_bytes", NULL},
	[REFUSED] = {"refused", "nobody listens at the target, or no way leads there"},
	[DROP_QUEUE_FULL] = {"drop_queue_full", "the pipe is too slow and the queue full"},
	[DROP_STALE] = {"drop_stale", "waited too long for the pipe, or the flow was over"},
	[DROP_CODEL] = {"drop_codel", "the flow sends more than the pipe carries"},
	[DROP_KERNEL] = {"drop_kernel", "the socket's receive buffer was full"},
	[DROP_TOO_BIG] = {"drop_too_big", "too big to be sent from here as one datagram"},
	[DROP_SEND_FAILED] = {"drop_send_failed", "sending failed"},
	[DROP_NO_FLOW] = {"drop_no_flow", "the tag belongs to no flow"},
	[DROP_NO_TAG] = {"drop_no_tag", "as many other clients as there may be are active"},
	[DROP_NO_SOCKET] = {"drop_no_socket", "no socket could be opened for the flow"},
	[DROP_PIPE_CLOSED] = {"drop_pipe_closed", "the pipe was closed"},
};

const char *counter_key(enum counter counter)
{
	return names[counter].key;
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
			i > 0 ? " " : "", names[i].key, counters->value[i]);
}

bool counters_next_report(
	struct counters *counters, uint64_t now_us, char *text, size_t size, uint64_t *deadline_us)
{
	*deadline_us = UINT64_MAX;
	for (size_t i = REPORT_FIRST; i < COUNTERS; i++) {
		uint64_t count = counters->value[i] - counters->reported[i];

		if (count == 0)
			continue;
		if (now_us < counters->quiet_until_us[i]) {
			*deadline_us = min_u64(*deadline_us, counters->quiet_until_us[i]);
			continue;
		}
		counters->reported[i] = counters->value[i];
		counters->quiet_until_us[i] = now_us + REPORT_INTERVAL_US;
		snprintf(text, size, "%s %" PRIu64 " datagram%s: %s",
			i == REFUSED ? "refused" : "dropped", count, count == 1 ? "" : "s",
			names[i].cause);
		return true;
	}
	return false;
}
