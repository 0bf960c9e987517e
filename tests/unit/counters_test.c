#include "counters.h"

#include "check.h"
#include "util.h"

#define INTERVAL_US (10 * (uint64_t)US_PER_SECOND)
#define START_US (uint64_t)123456789
#define NEVER UINT64_MAX

static struct counters counters;
static char text[COUNTERS_TEXT_SIZE];

static void setup(uint64_t value)
{
	memset(&counters, 0, sizeof(counters));
	for (size_t i = 0; i < COUNTERS; i++)
		counters.value[i] = value;
	memset(text, '#', sizeof(text));
}

/* --- all counters -------------------------------------------------------------------------- */

static void each_value_has_its_key(void)
{
	static const struct {
		enum counter counter;
		const char *key;
	} keys[] = {{UDP_IN, "udp_in"}, {UDP_IN_BYTES, "udp_in_bytes"}, {UDP_OUT, "udp_out"},
		{UDP_OUT_BYTES, "udp_out_bytes"}, {FRAMES_IN, "frames_in"},
		{STREAM_IN_BYTES, "stream_in_bytes"}, {FRAMES_OUT, "frames_out"},
		{STREAM_OUT_BYTES, "stream_out_bytes"}, {FLOWS, "flows"},
		{FLOWS_PEAK, "flows_peak"}, {FLOWS_TOTAL, "flows_total"}, {EXPIRED, "expired"},
		{EVICTED, "evicted"}, {CLOSED, "closed"}, {RETRIES, "retries"}, {QUEUED, "queued"},
		{IN_FLIGHT, "in_flight"}, {RATE, "rate"}, {RTT_US, "rtt_us"},
		{NOISE_BYTES, "noise_bytes"}, {REFUSED, "refused"},
		{DROP_QUEUE_FULL, "drop_queue_full"}, {DROP_STALE, "drop_stale"},
		{DROP_CODEL, "drop_codel"}, {DROP_KERNEL, "drop_kernel"},
		{DROP_TOO_BIG, "drop_too_big"}, {DROP_SEND_FAILED, "drop_send_failed"},
		{DROP_NO_FLOW, "drop_no_flow"}, {DROP_NO_TAG, "drop_no_tag"},
		{DROP_NO_SOCKET, "drop_no_socket"}, {DROP_PIPE_CLOSED, "drop_pipe_closed"}};
	char wanted[COUNTERS_TEXT_SIZE];
	size_t used = 0;

	CHECK_NUMBER(ARRAY_SIZE(keys), COUNTERS);
	setup(0);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		counters.value[keys[i].counter] = 1000 + i;
		CHECK_TEXT(counter_key(keys[i].counter), keys[i].key);
		used += (size_t)snprintf(wanted + used, sizeof(wanted) - used, "%s%s=%zu",
			i > 0 ? " " : "", keys[i].key, 1000 + i);
	}
	counters_format(&counters, text, sizeof(text));
	CHECK_TEXT(text, wanted);
}

static void values_of_20_digits_fit_or_are_cut(void)
{
	char whole[COUNTERS_TEXT_SIZE];

	setup(UINT64_MAX);
	counters_format(&counters, whole, sizeof(whole));
	CHECK(strlen(whole) < sizeof(whole) - 1); /* not cut */
	for (size_t size = 1; size <= strlen(whole) + 1; size++) {
		memset(text, '#', sizeof(text));
		counters_format(&counters, text, size);
		CHECK_NUMBER(strlen(text), size - 1);
		CHECK(memcmp(text, whole, size - 1) == 0);
		CHECK_NUMBER(text[size], '#');
	}
}

static void flows_are_counted(void)
{
	static const size_t alive[] = {1, 2, 1, 5}, peak[] = {1, 2, 2, 5};

	setup(0);
	for (size_t i = 0; i < ARRAY_SIZE(alive); i++) {
		counters_flow_added(&counters, alive[i]);
		CHECK_NUMBER(counters.value[FLOWS], alive[i]);
		CHECK_NUMBER(counters.value[FLOWS_PEAK], peak[i]);
		CHECK_NUMBER(counters.value[FLOWS_TOTAL], i + 1);
	}
}

/* --- a line of rates ----------------------------------------------------------------------- */

static void each_number_in_its_place(void)
{
	static const enum counter columns[] = {FLOWS, UDP_IN, UDP_IN_BYTES, UDP_OUT, UDP_OUT_BYTES,
		QUEUED, DROP_QUEUE_FULL, DROP_PIPE_CLOSED, RATE, RTT_US, REFUSED};
	static const struct {
		uint64_t before[ARRAY_SIZE(columns)], after[ARRAY_SIZE(columns)], interval_us;
		const char *line;
	} lines[] = {
		{{0}, {0}, US_PER_SECOND,
			"flows 0, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 0, dropped 0"},
		{{0}, {3, 1200, 1400000, 12, 900, 7, 20, 300, 1170000, 23400, 4000}, US_PER_SECOND,
			"flows 3, in 1.20 k/s 1.40 MB/s, out 12 /s 900 B/s, queued 7, dropped 320"
			", pipe 1.17 MB/s 23.4 ms"},
		/* What happened before is not in the rates, but in all else. */
		{{1, UINT64_MAX / 2, 1000, 2, 3, 4, 5, 6, 7, 8},
			{1, UINT64_MAX / 2, 1500, 2, 3, 4, 5, 6, 7, 8}, US_PER_SECOND,
			"flows 1, in 0 /s 500 B/s, out 0 /s 0 B/s, queued 4, dropped 11"
			", pipe 7 B/s 0.0 ms"},
		/* Rates are of a second, whatever the interval. */
		{{0}, {2, 100, 0, 0, 12000, 3, 4, 0, 5000, 6000}, 10 * US_PER_SECOND,
			"flows 2, in 10 /s 0 B/s, out 0 /s 1.20 kB/s, queued 3, dropped 4"
			", pipe 5.00 kB/s 6.0 ms"},
		{{0}, {2, 100, 0, 0, 12000, 3, 4}, US_PER_SECOND / 10,
			"flows 2, in 1.00 k/s 0 B/s, out 0 /s 120 kB/s, queued 3, dropped 4"},
		/* A pipe whose round trip is not known is left out. */
		{{0}, {0, 0, 0, 0, 0, 0, 0, 0, 1170000}, US_PER_SECOND,
			"flows 0, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 0, dropped 0"},
		{{0},
			{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, 0,
				UINT64_MAX, UINT64_MAX, UINT64_MAX},
			US_PER_MS,
			"flows 18446744073709551615, in 18446744073710 G/s 18446744073710 GB/s"
			", out 18446744073710 G/s 18446744073710 GB/s"
			", queued 18446744073709551615, dropped 18446744073709551615"
			", pipe 18446744074 GB/s 18446744073709552.0 ms"},
	};
	struct counters before;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		setup(0);
		before = counters;
		for (size_t k = 0; k < ARRAY_SIZE(columns); k++) {
			before.value[columns[k]] = lines[i].before[k];
			counters.value[columns[k]] = lines[i].after[k];
		}
		counters_format_rates(&before, &counters, lines[i].interval_us, text);
		CHECK_TEXT(text, lines[i].line);
	}
}

static void three_digits(void)
{
	static const struct {
		uint64_t rate, rtt_us;
		const char *end;
	} pipes[] = {
		{0, 23400, ", pipe 0 B/s 23.4 ms"},
		{1, 1, ", pipe 1 B/s 0.0 ms"},
		{99, 49, ", pipe 99 B/s 0.0 ms"},
		{999, 51, ", pipe 999 B/s 0.1 ms"},
		{1000, 6000, ", pipe 1.00 kB/s 6.0 ms"},
		{9994, 6000, ", pipe 9.99 kB/s 6.0 ms"},
		{9995, 6000, ", pipe 10.0 kB/s 6.0 ms"},
		{12345, 6000, ", pipe 12.3 kB/s 6.0 ms"},
		{99940, 6000, ", pipe 99.9 kB/s 6.0 ms"},
		{99950, 6000, ", pipe 100 kB/s 6.0 ms"},
		{999400, 6000, ", pipe 999 kB/s 6.0 ms"},
		{999500, 6000, ", pipe 1.00 MB/s 6.0 ms"},
		{1234567, 1234567, ", pipe 1.23 MB/s 1234.6 ms"},
		{99960000, 6000, ", pipe 100 MB/s 6.0 ms"},
		{999600000, 6000, ", pipe 1.00 GB/s 6.0 ms"},
		{12345678901, 6000, ", pipe 12.3 GB/s 6.0 ms"},
		{1234567890123, 6000, ", pipe 1235 GB/s 6.0 ms"},
	};

	setup(0);
	for (size_t i = 0; i < ARRAY_SIZE(pipes); i++) {
		counters.value[RATE] = pipes[i].rate;
		counters.value[RTT_US] = pipes[i].rtt_us;
		counters_format_rates(&counters, &counters, US_PER_SECOND, text);
		CHECK_TEXT(strstr(text, ", pipe"), pipes[i].end);
	}
}

static void any_rate_is_nearly_right(void)
{
	static const struct counters before;

	setup(0);
	for (int i = 0; i < 10000; i++) {
		uint64_t rate = 1000 + (uint64_t)random_below(1U << random_below(32)) * 200;
		double shown = 0;
		char unit = 0;

		counters.value[UDP_IN] = rate;
		counters_format_rates(&before, &counters, US_PER_SECOND, text);
		CHECK(sscanf(text, "flows 0, in %lf %c/s", &shown, &unit) == 2);
		shown *= unit == 'k' ? 1e3 : unit == 'M' ? 1e6 : 1e9;
		CHECK(shown > (double)rate * 0.995 && shown < (double)rate * 1.005);
	}
}

/* --- reports of drops ---------------------------------------------------------------------- */

static const char *const causes[] = {
	[REFUSED] = "nobody listens at the target, or the datagram cannot reach it",
	[DROP_QUEUE_FULL] = "the pipe is too slow, and the queue is full",
	[DROP_STALE] = "the wait for the pipe was too long, or the flow was over",
	[DROP_CODEL] = "a flow sends more than its share, and learns so (this is normal)",
	[DROP_KERNEL] = "the socket's receive buffer was full",
	[DROP_TOO_BIG] = "too big to be sent from this host",
	[DROP_SEND_FAILED] = "sending failed",
	[DROP_NO_FLOW] = "the reply came too late, or belongs to no flow",
	[DROP_NO_TAG] = "no flow is free for a new client (see -n)",
	[DROP_NO_SOCKET] = "no socket could be opened for the flow",
	[DROP_PIPE_CLOSED] = "the pipe was closed",
};

static uint64_t deadline_us;

static bool next_report(uint64_t now_us)
{
	return counters_next_report(&counters, now_us, text, sizeof(text), &deadline_us);
}

static void each_cause_has_its_report(void)
{
	char wanted[COUNTERS_REPORT_SIZE];

	setup(7); /* also of those that are never reported */
	for (size_t i = REFUSED; i < COUNTERS; i++) {
		snprintf(wanted, sizeof(wanted), "%s 7 datagrams: %s",
			i == REFUSED ? "refused" : "dropped", causes[i]);
		CHECK_TEXT(next_report(0) ? text : NULL, wanted);
	}
	CHECK(!next_report(0));
	CHECK_NUMBER(deadline_us, NEVER);
	for (size_t i = 0; i < COUNTERS; i++)
		CHECK_NUMBER(counters.value[i], 7);
}

static void any_report_fits_or_is_cut(void)
{
	setup(UINT64_MAX);
	while (next_report(0))
		CHECK(strlen(text) < COUNTERS_REPORT_SIZE);
	setup(7);
	CHECK(counters_next_report(&counters, 0, text, sizeof("refused 7"), &deadline_us));
	CHECK_TEXT(text, "refused 7");
	CHECK_NUMBER(text[sizeof("refused 7")], '#');
}

static void at_once_then_in_sums(void)
{
	static const struct {
		uint64_t after_us;
		enum counter counter;
		uint64_t value;
		const char *report; /* NULL: none, but a deadline */
		uint64_t deadline_us;
	} steps[] = {
		{0, DROP_SEND_FAILED, 0, NULL, NEVER},
		{0, DROP_SEND_FAILED, 1, "dropped 1 datagram: sending failed", 0},
		{0, DROP_SEND_FAILED, 1, NULL, NEVER},
		{1, DROP_SEND_FAILED, 2, NULL, START_US + INTERVAL_US},
		{5, DROP_PIPE_CLOSED, 2, "dropped 2 datagrams: the pipe was closed", 0},
		{6, DROP_PIPE_CLOSED, 4, NULL, START_US + INTERVAL_US},
		{INTERVAL_US - 1, DROP_SEND_FAILED, 1001, NULL, START_US + INTERVAL_US},
		{INTERVAL_US, DROP_SEND_FAILED, 1001, "dropped 1000 datagrams: sending failed", 0},
		{INTERVAL_US, DROP_PIPE_CLOSED, 5, NULL, START_US + INTERVAL_US + 5},
		{INTERVAL_US + 4, DROP_SEND_FAILED, 1002, NULL, START_US + INTERVAL_US + 5},
		{INTERVAL_US + 5, DROP_PIPE_CLOSED, 5, "dropped 3 datagrams: the pipe was closed",
			0},
		{5 * INTERVAL_US, DROP_SEND_FAILED, 1002, "dropped 1 datagram: sending failed", 0},
		{5 * INTERVAL_US, DROP_SEND_FAILED, 1003, NULL, START_US + 6 * INTERVAL_US},
	};

	setup(0);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		counters.value[steps[i].counter] = steps[i].value;
		CHECK_TEXT(
			next_report(START_US + steps[i].after_us) ? text : NULL, steps[i].report);
		if (!steps[i].report)
			CHECK_NUMBER(deadline_us, steps[i].deadline_us);
	}
}

static void the_last_one_is_named(void)
{
	setup(0);
	counters_drop(&counters, DROP_CODEL, 7, 2);
	counters_drop(&counters, DROP_CODEL, 0, 1);
	counters.value[REFUSED]++;
	counters.refused_by = "";
	CHECK(next_report(0));
	CHECK(!strstr(text, "last"));
	CHECK(next_report(0));
	CHECK_CONTAINS(text, "dropped 3 datagrams: ");
	CHECK_CONTAINS(text, "; last: flow 0");
	counters.value[DROP_CODEL]++;
	counters.value[REFUSED]++;
	counters.refused_by = "[::1]:53";
	CHECK(next_report(INTERVAL_US));
	CHECK_CONTAINS(text, "; last: [::1]:53");
	CHECK(next_report(INTERVAL_US));
	CHECK(!strstr(text, "last"));
}

/* What the text is about. */
static size_t reported_counter(void)
{
	size_t i = REFUSED;

	while (i < COUNTERS && !strstr(text, causes[i]))
		i++;
	return i;
}

static void random_drops(void)
{
	uint64_t told[COUNTERS + 1] = {0}, told_us[COUNTERS + 1] = {0}, now_us = START_US;

	setup(0);
	for (int round = 0; round < 10000; round++) {
		uint64_t wanted_us = NEVER;

		counters.value[REFUSED + random_below(COUNTERS - REFUSED)] += random_below(3);
		now_us += random_below(2 * US_PER_SECOND);
		while (next_report(now_us)) {
			size_t i = reported_counter();

			CHECK(told_us[i] == 0 || now_us - told_us[i] >= INTERVAL_US);
			told_us[i] = now_us;
			told[i] += strtoull(text + strlen("dropped "), NULL, 10);
			if (!CHECK(i < COUNTERS && told[i] == counters.value[i]))
				return;
		}
		for (size_t i = REFUSED; i < COUNTERS; i++)
			if (told[i] != counters.value[i])
				wanted_us = min_u64(wanted_us, told_us[i] + INTERVAL_US);
		CHECK_NUMBER(deadline_us, wanted_us);
		CHECK(deadline_us > now_us);
	}
}

int main(void)
{
	test("each value is shown with its key", each_value_has_its_key);
	test("values of 20 digits fit, and a smaller size cuts",
		values_of_20_digits_fit_or_are_cut);
	test("flows alive, the most at once and all are counted", flows_are_counted);

	test("a line of rates has each number in its place", each_number_in_its_place);
	test("a rate has three digits and a unit", three_digits);
	test("any rate is shown within half a percent", any_rate_is_nearly_right);

	test("each cause has its report, which changes no value", each_cause_has_its_report);
	test("any report fits, and a smaller size cuts", any_report_fits_or_is_cut);
	test("a cause is reported at once, then as a sum after ten seconds", at_once_then_in_sums);
	test("a report names the target or the flow of the last datagram, if it is known",
		the_last_one_is_named);
	test("random drops are all reported, once, and not too often", random_drops);
	return tests_end();
}
