#include "counters.h"

#include "check.h"
#include "util.h"

enum {
	INTERVAL_US = 10 * US_PER_SECOND,
	START_US = 123456789,
};

static struct counters counters;
static uint64_t deadline_us;
static char text[1536];

static const struct {
	enum counter counter;
	const char *key;
} keys[] = {
	{UDP_IN, "udp_in"},
	{UDP_IN_BYTES, "udp_in_bytes"},
	{UDP_OUT, "udp_out"},
	{UDP_OUT_BYTES, "udp_out_bytes"},
	{FRAMES_IN, "frames_in"},
	{STREAM_IN_BYTES, "stream_in_bytes"},
	{FRAMES_OUT, "frames_out"},
	{STREAM_OUT_BYTES, "stream_out_bytes"},
	{FLOWS, "flows"},
	{FLOWS_PEAK, "flows_peak"},
	{FLOWS_TOTAL, "flows_total"},
	{EXPIRED, "expired"},
	{EVICTED, "evicted"},
	{CLOSED, "closed"},
	{RETRIES, "retries"},
	{QUEUED, "queued"},
	{IN_FLIGHT, "in_flight"},
	{RATE, "rate"},
	{RTT_US, "rtt_us"},
	{NOISE_BYTES, "noise_bytes"},
	{REFUSED, "refused"},
	{DROP_QUEUE_FULL, "drop_queue_full"},
	{DROP_STALE, "drop_stale"},
	{DROP_CODEL, "drop_codel"},
	{DROP_KERNEL, "drop_kernel"},
	{DROP_TOO_BIG, "drop_too_big"},
	{DROP_SEND_FAILED, "drop_send_failed"},
	{DROP_NO_FLOW, "drop_no_flow"},
	{DROP_NO_TAG, "drop_no_tag"},
	{DROP_NO_SOCKET, "drop_no_socket"},
	{DROP_PIPE_CLOSED, "drop_pipe_closed"},
};

static void setup(void)
{
	memset(&counters, 0, sizeof(counters));
	deadline_us = 1;
	strcpy(text, "(unchanged)");
}

/* Whether the next report at that time is this one. */
static void check_report(uint64_t now_us, const char *wanted)
{
	if (CHECK(counters_next_report(&counters, now_us, text, sizeof(text), &deadline_us)))
		CHECK_TEXT(text, wanted);
}

static void check_silence(uint64_t now_us, uint64_t wanted_deadline_us)
{
	CHECK(!counters_next_report(&counters, now_us, text, sizeof(text), &deadline_us));
	CHECK_NUMBER(deadline_us, wanted_deadline_us);
}

/* --- all counters -------------------------------------------------------------------------- */

static void every_counter_has_its_key(void)
{
	char wanted[64], padded[sizeof(text) + 2];

	setup();
	for (size_t i = 0; i < COUNTERS; i++)
		counters.value[i] = 1000 + i;
	counters_format(&counters, text, sizeof(text));
	snprintf(padded, sizeof(padded), " %s ", text);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		snprintf(wanted, sizeof(wanted), " %s=%d ", keys[i].key,
			1000 + (int)keys[i].counter);
		CHECK_CONTAINS(padded, wanted);
		CHECK_TEXT(counter_key(keys[i].counter), keys[i].key);
	}
	CHECK_NUMBER(ARRAY_SIZE(keys), COUNTERS);
}

static void keys_are_words(void)
{
	for (size_t i = 0; i < COUNTERS; i++) {
		const char *key = counter_key((enum counter)i);

		CHECK(strspn(key, "abcdefghijklmnopqrstuvwxyz_") == strlen(key));
		for (size_t j = 0; j < i; j++)
			CHECK(strcmp(key, counter_key((enum counter)j)) != 0);
		CHECK((strncmp(key, "drop_", 5) == 0) == (i >= DROP_FIRST));
	}
}

static void flows_are_counted(void)
{
	setup();
	counters_flow_added(&counters, 1);
	counters_flow_added(&counters, 2);
	CHECK_NUMBER(counters.value[FLOWS], 2);
	CHECK_NUMBER(counters.value[FLOWS_PEAK], 2);
	CHECK_NUMBER(counters.value[FLOWS_TOTAL], 2);
	counters_flow_added(&counters, 1);
	CHECK_NUMBER(counters.value[FLOWS], 1);
	CHECK_NUMBER(counters.value[FLOWS_PEAK], 2);
	CHECK_NUMBER(counters.value[FLOWS_TOTAL], 3);
	counters_flow_added(&counters, 5);
	CHECK_NUMBER(counters.value[FLOWS_PEAK], 5);
	CHECK_NUMBER(counters.value[FLOWS_TOTAL], 4);
}

static void no_counter_is_left_out(void)
{
	size_t pairs = 0;

	setup();
	counters_format(&counters, text, sizeof(text));
	CHECK(!strstr(text, "(null)"));
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "), pairs++)
		CHECK_TEXT(word[0] != '=' ? strchr(word, '=') : "no key", "=0");
	CHECK_NUMBER(pairs, COUNTERS);
}

static void largest_values(void)
{
	setup();
	for (size_t i = 0; i < COUNTERS; i++)
		counters.value[i] = UINT64_MAX;
	counters_format(&counters, text, sizeof(text));
	CHECK(strlen(text) < sizeof(text) - 1);
	CHECK_CONTAINS(text, "udp_in=18446744073709551615");
	CHECK_CONTAINS(text, "drop_pipe_closed=18446744073709551615");
}

static void format_fits_any_size(void)
{
	char whole[sizeof(text)];

	setup();
	counters_format(&counters, whole, sizeof(whole));
	for (size_t size = 1; size <= strlen(whole) + 1; size++) {
		memset(text, '#', sizeof(text));
		counters_format(&counters, text, size);
		CHECK_NUMBER(strlen(text), size - 1);
		CHECK(memcmp(text, whole, size - 1) == 0);
		CHECK_NUMBER(text[size], '#');
	}
}

/* --- reports of drops ---------------------------------------------------------------------- */

static void nothing_to_report(void)
{
	setup();
	check_silence(START_US, UINT64_MAX);
}

static void other_counters_are_no_drops(void)
{
	setup();
	for (size_t i = 0; i < REPORT_FIRST; i++)
		counters.value[i] = 5;
	check_silence(START_US, UINT64_MAX);
}

static void first_drop_at_once(void)
{
	setup();
	counters.value[DROP_QUEUE_FULL] = 1;
	check_report(START_US, "dropped 1 datagram: the pipe is too slow and the queue full");
	check_silence(START_US, UINT64_MAX);
}

static void first_drop_at_the_beginning_of_time(void)
{
	setup();
	counters.value[DROP_KERNEL] = 2;
	check_report(0, "dropped 2 datagrams: the socket's receive buffer was full");
	check_silence(0, UINT64_MAX);
}

static void later_drops_in_sums(void)
{
	setup();
	counters.value[DROP_QUEUE_FULL] = 3;
	check_report(START_US, "dropped 3 datagrams: the pipe is too slow and the queue full");
	counters.value[DROP_QUEUE_FULL] = 4;
	check_silence(START_US + 1, START_US + INTERVAL_US);
	counters.value[DROP_QUEUE_FULL] = 1003;
	check_silence(START_US + INTERVAL_US - 1, START_US + INTERVAL_US);
	check_report(START_US + INTERVAL_US,
		"dropped 1000 datagrams: the pipe is too slow and the queue full");
	check_silence(START_US + INTERVAL_US, UINT64_MAX);
}

static void interval_begins_with_the_report(void)
{
	setup();
	counters.value[DROP_NO_TAG] = 1;
	check_report(
		START_US, "dropped 1 datagram: as many other clients as there may be are active");
	counters.value[DROP_NO_TAG] = 2;
	check_report(START_US + 3 * INTERVAL_US,
		"dropped 1 datagram: as many other clients as there may be are active");
	counters.value[DROP_NO_TAG] = 3;
	check_silence(START_US + 3 * INTERVAL_US, START_US + 4 * INTERVAL_US);
}

static void each_cause_for_itself(void)
{
	setup();
	counters.value[DROP_QUEUE_FULL] = 1;
	check_report(START_US, "dropped 1 datagram: the pipe is too slow and the queue full");
	counters.value[DROP_NO_FLOW] = 2;
	check_report(START_US + 5, "dropped 2 datagrams: the tag belongs to no flow");
	counters.value[DROP_NO_FLOW] = 4;
	check_silence(START_US + 6, START_US + 5 + INTERVAL_US);
	counters.value[DROP_QUEUE_FULL] = 2;
	check_silence(START_US + 7, START_US + INTERVAL_US); /* the earlier of the two */
	check_report(START_US + INTERVAL_US,
		"dropped 1 datagram: the pipe is too slow and the queue full");
	check_silence(START_US + INTERVAL_US, START_US + 5 + INTERVAL_US);
}

static void several_causes_one_after_the_other(void)
{
	setup();
	counters.value[DROP_TOO_BIG] = 1;
	counters.value[DROP_SEND_FAILED] = 2;
	counters.value[DROP_NO_SOCKET] = 3;
	counters.value[DROP_PIPE_CLOSED] = 4;
	check_report(START_US, "dropped 1 datagram: too big to be sent from here as one datagram");
	check_report(START_US, "dropped 2 datagrams: sending failed");
	check_report(START_US, "dropped 3 datagrams: no socket could be opened for the flow");
	check_report(START_US, "dropped 4 datagrams: the pipe was closed");
	check_silence(START_US, UINT64_MAX);
}

static void drops_in_the_queue(void)
{
	setup();
	counters.value[DROP_STALE] = 1;
	counters.value[DROP_CODEL] = 2;
	check_report(
		START_US, "dropped 1 datagram: waited too long for the pipe, or the flow was over");
	check_report(START_US, "dropped 2 datagrams: the flow sends more than the pipe carries");
	check_silence(START_US, UINT64_MAX);
}

static void refusals(void)
{
	setup();
	counters.value[REFUSED] = 1;
	check_report(START_US,
		"refused 1 datagram: nobody listens at the target, or no way leads there");
	counters.value[REFUSED] = 4;
	check_silence(START_US + 1, START_US + INTERVAL_US);
	check_report(START_US + INTERVAL_US,
		"refused 3 datagrams: nobody listens at the target, or no way leads there");
}

static void every_drop_has_a_cause(void)
{
	for (size_t i = DROP_FIRST; i < COUNTERS; i++) {
		setup();
		counters.value[i] = 7;
		CHECK(counters_next_report(&counters, START_US, text, sizeof(text), &deadline_us));
		CHECK_CONTAINS(text, "dropped 7 datagrams: ");
		CHECK(strlen(text) > strlen("dropped 7 datagrams: "));
		CHECK(!strstr(text, "(null)"));
	}
}

/* Of any way that drops come, all are reported, and no cause twice within the interval. */
static void every_drop_is_reported_once(void)
{
	uint64_t now_us = START_US, last_us = 0, count, reported = 0;

	setup();
	for (size_t round = 0; round < 10000; round++) {
		counters.value[DROP_QUEUE_FULL] += random_below(3);
		now_us += random_below(2 * US_PER_SECOND);
		if (!counters_next_report(&counters, now_us, text, sizeof(text), &deadline_us))
			continue;
		CHECK(last_us == 0 || now_us - last_us >= INTERVAL_US);
		last_us = now_us;
		count = strtoull(text + strlen("dropped "), NULL, 10);
		CHECK(count > 0);
		reported += count;
		CHECK_NUMBER(reported, counters.value[DROP_QUEUE_FULL]);
	}
	CHECK(last_us > 0);
}

static void reports_do_not_change_counters(void)
{
	setup();
	counters.value[DROP_QUEUE_FULL] = 5;
	check_report(START_US, "dropped 5 datagrams: the pipe is too slow and the queue full");
	CHECK_NUMBER(counters.value[DROP_QUEUE_FULL], 5);
}

int main(void)
{
	test("every counter is shown with its key", every_counter_has_its_key);
	test("no counter is left out", no_counter_is_left_out);
	test("keys are words, each its own, and those of drops begin with drop_", keys_are_words);
	test("of flows those alive, the most at once and all are counted", flows_are_counted);
	test("the largest values can be shown", largest_values);
	test("what is shown fits any size", format_fits_any_size);

	test("without drops there is nothing to report, nor a time to look again",
		nothing_to_report);
	test("only drops are reported", other_counters_are_no_drops);
	test("the first drop is reported at once", first_drop_at_once);
	test("a drop at time zero is reported too", first_drop_at_the_beginning_of_time);
	test("later drops are reported in a sum after ten seconds", later_drops_in_sums);
	test("the ten seconds begin with the last report", interval_begins_with_the_report);
	test("each cause is reported in its own time", each_cause_for_itself);
	test("several causes are reported one after the other", several_causes_one_after_the_other);
	test("drops in the queue are reported", drops_in_the_queue);
	test("refusals are reported like drops", refusals);
	test("every drop has a cause to show", every_drop_has_a_cause);
	test("every drop is reported once, and not too often", every_drop_is_reported_once);
	test("a report leaves the counters alone", reports_do_not_change_counters);
	return tests_end();
}
