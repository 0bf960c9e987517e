#include "stats.h"

#include "check.h"
#include "util.h"

static struct counters before, after;
static char text[STATS_TEXT_SIZE];

static void setup(void)
{
	memset(&before, 0, sizeof(before));
	memset(&after, 0, sizeof(after));
}

static void check_line(uint64_t interval_us, const char *wanted)
{
	stats_format(&before, &after, interval_us, text);
	CHECK_TEXT(text, wanted);
}

/* Whether so many datagrams a second are shown like that. */
static void check_rate(uint64_t count, const char *wanted)
{
	char line[STATS_TEXT_SIZE];

	setup();
	after.value[UDP_IN] = count;
	snprintf(line, sizeof(line), "flows 0, in %s/s 0 B/s, out 0 /s 0 B/s, queued 0, dropped 0",
		wanted);
	check_line(US_PER_SECOND, line);
}

static void nothing_happened(void)
{
	setup();
	check_line(US_PER_SECOND, "flows 0, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 0, dropped 0");
}

static void each_in_its_place(void)
{
	setup();
	after.value[FLOWS] = 3;
	after.value[UDP_IN] = 1200;
	after.value[UDP_IN_BYTES] = 1400000;
	after.value[UDP_OUT] = 12;
	after.value[UDP_OUT_BYTES] = 900;
	after.value[QUEUED] = 7;
	after.value[DROP_STALE] = 8;
	check_line(US_PER_SECOND, "flows 3, in 1.20 k/s 1.40 MB/s, out 12 /s 900 B/s, queued 7, "
				  "dropped 8");
}

static void only_what_happened_since(void)
{
	setup();
	before.value[UDP_IN] = after.value[UDP_IN] = UINT64_MAX / 2;
	before.value[UDP_OUT_BYTES] = 1000000;
	after.value[UDP_OUT_BYTES] = 1000500;
	check_line(US_PER_SECOND, "flows 0, in 0 /s 0 B/s, out 0 /s 500 B/s, queued 0, dropped 0");
}

/* These are as they are now. */
static void no_rates_of_flows_queue_and_drops(void)
{
	setup();
	before.value[FLOWS] = after.value[FLOWS] = 5;
	before.value[QUEUED] = after.value[QUEUED] = 6;
	before.value[DROP_KERNEL] = after.value[DROP_KERNEL] = 7;
	check_line(
		10 * US_PER_SECOND, "flows 5, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 6, dropped 7");
}

static void rates_are_of_a_second(void)
{
	setup();
	after.value[UDP_IN] = 100;
	after.value[UDP_OUT_BYTES] = 12000;
	check_line(10 * US_PER_SECOND,
		"flows 0, in 10 /s 0 B/s, out 0 /s 1.20 kB/s, queued 0, dropped 0");
	check_line(US_PER_SECOND / 10,
		"flows 0, in 1.00 k/s 0 B/s, out 0 /s 120 kB/s, queued 0, dropped 0");
}

static void three_digits(void)
{
	check_rate(1, "1 ");
	check_rate(99, "99 ");
	check_rate(999, "999 ");
	check_rate(1000, "1.00 k");
	check_rate(1234, "1.23 k");
	check_rate(12345, "12.3 k");
	check_rate(123456, "123 k");
	check_rate(1234567, "1.23 M");
	check_rate(12345678, "12.3 M");
	check_rate(123456789, "123 M");
	check_rate(1234567890, "1.23 G");
	check_rate(12345678901, "12.3 G");
	check_rate(1234567890123, "1235 G");
}

/* Where rounding makes one digit more. */
static void rounded_to_three_digits(void)
{
	check_rate(9994, "9.99 k");
	check_rate(9996, "10.0 k");
	check_rate(99940, "99.9 k");
	check_rate(99960, "100 k");
	check_rate(999400, "999 k");
	check_rate(999600, "1.00 M");
	check_rate(9996000, "10.0 M");
	check_rate(999600000, "1.00 G");
}

/* What is shown in `text` as the rate of datagrams that came in, and with how many digits. */
static double shown_rate(int *digits)
{
	const char *rate = text + strlen("flows 0, in ");
	char *unit;
	double number = strtod(rate, &unit);

	*digits = 0;
	for (const char *p = rate; p < unit; p++)
		*digits += *p != '.';
	return number * (unit[1] == 'k' ? 1e3 : unit[1] == 'M' ? 1e6 : unit[1] == 'G' ? 1e9 : 1);
}

static void any_rate_has_three_digits(void)
{
	for (int i = 0; i < 100000; i++) {
		uint64_t count = 1000 + (uint64_t)random_below(1U << random_below(32)) * 200;
		double shown;
		int digits;

		setup();
		after.value[UDP_IN] = count;
		stats_format(&before, &after, US_PER_SECOND, text);
		shown = shown_rate(&digits);
		CHECK_NUMBER(digits, 3);
		CHECK(shown > (double)count * 0.995 && shown < (double)count * 1.005);
	}
}

static void all_drops_are_added(void)
{
	char wanted[STATS_TEXT_SIZE];

	setup();
	for (size_t i = 0; i < COUNTERS; i++)
		before.value[i] = after.value[i] = i < DROP_FIRST ? 1000000 : 1;
	after.value[DROP_QUEUE_FULL] += 100;
	after.value[DROP_PIPE_CLOSED] += 200;
	snprintf(wanted, sizeof(wanted),
		"flows 1000000, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 1000000, dropped %d"
		", pipe 1.00 MB/s 1000.0 ms",
		COUNTERS - DROP_FIRST + 300);
	check_line(US_PER_SECOND, wanted);
}

/* Whether a pipe like that is shown so, whatever it was before. */
static void check_pipe(uint64_t rate, uint64_t rtt_us, const char *wanted)
{
	char line[STATS_TEXT_SIZE];

	setup();
	before.value[RATE] = 5000;
	before.value[RTT_US] = 6000;
	after.value[RATE] = rate;
	after.value[RTT_US] = rtt_us;
	snprintf(line, sizeof(line),
		"flows 0, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 0, dropped 0%s", wanted);
	check_line(US_PER_SECOND, line);
	check_line(10 * US_PER_SECOND, line);
}

static void pipe_that_is_known(void)
{
	check_pipe(1170000, 23400, ", pipe 1.17 MB/s 23.4 ms");
	check_pipe(5000, 6000, ", pipe 5.00 kB/s 6.0 ms");
	check_pipe(0, 23400, ", pipe 0 B/s 23.4 ms");
	check_pipe(999, 1, ", pipe 999 B/s 0.0 ms");
	check_pipe(1000000000, 49, ", pipe 1.00 GB/s 0.0 ms");
	check_pipe(1000000000, 51, ", pipe 1.00 GB/s 0.1 ms");
	check_pipe(12345, 1234567, ", pipe 12.3 kB/s 1234.6 ms");
}

static void pipe_that_is_not_known(void)
{
	check_pipe(0, 0, "");
	check_pipe(1170000, 0, "");
}

static void largest_values(void)
{
	setup();
	for (size_t i = 0; i < COUNTERS; i++)
		after.value[i] = UINT64_MAX;
	memset(text, '#', sizeof(text));
	stats_format(&before, &after, 1, text);
	CHECK(memchr(text, '\0', sizeof(text)));
	CHECK(strlen(text) < sizeof(text) - 1);
	CHECK_CONTAINS(text, "flows 18446744073709551615, in ");
	CHECK_CONTAINS(text, ", queued 18446744073709551615, dropped ");
	CHECK_CONTAINS(text, ", pipe 18446744074 GB/s 18446744073709552.0 ms");
}

int main(void)
{
	test("when nothing happened all is 0", nothing_happened);
	test("each number is in its place", each_in_its_place);
	test("rates are of what happened since", only_what_happened_since);
	test("flows, queue and drops are as they are now", no_rates_of_flows_queue_and_drops);
	test("rates are of a second", rates_are_of_a_second);
	test("rates have three digits and a unit", three_digits);
	test("rates that are rounded up have three digits too", rounded_to_three_digits);
	test("any rate is shown within half a percent", any_rate_has_three_digits);
	test("drops of all causes are added, and nothing else", all_drops_are_added);
	test("a pipe shows its rate and round trip once they are known", pipe_that_is_known);
	test("a pipe whose round trip is not known is not shown", pipe_that_is_not_known);
	test("the largest values can be shown", largest_values);
	return tests_end();
}
