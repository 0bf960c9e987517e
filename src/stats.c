#include "stats.h"

#include <inttypes.h>
#include <stdio.h>

#include "util.h"

enum {
	RATE_TEXT_SIZE = 16
};

/* Three digits and a unit of thousands: "1.23 M". */
static const char *format_rate(double rate, char text[static RATE_TEXT_SIZE])
{
	static const char *const units[] = {"", "k", "M", "G"};
	size_t unit = 0;

	while (rate >= 999.5 && unit + 1 < ARRAY_SIZE(units)) {
		rate /= 1000;
		unit++;
	}
	snprintf(text, RATE_TEXT_SIZE, "%.*f %s",
		unit == 0 || rate >= 99.95 ? 0
		: rate >= 9.995            ? 1
					   : 2,
		rate, units[unit]);
	return text;
}

static uint64_t dropped(const struct counters *counters)
{
	uint64_t sum = 0;

	for (size_t i = DROP_FIRST; i < COUNTERS; i++)
		sum += counters->value[i];
	return sum;
}

void stats_format(const struct counters *before, const struct counters *after, uint64_t interval_us,
	char text[static STATS_TEXT_SIZE])
{
	static const enum counter rates[] = {UDP_IN, UDP_IN_BYTES, UDP_OUT, UDP_OUT_BYTES};
	char rate[ARRAY_SIZE(rates)][RATE_TEXT_SIZE];
	int used;

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		uint64_t count = after->value[rates[i]] - before->value[rates[i]];

		format_rate((double)count * US_PER_SECOND / (double)interval_us, rate[i]);
	}
	used = snprintf(text, STATS_TEXT_SIZE,
		"flows %" PRIu64 ", in %s/s %sB/s, out %s/s %sB/s, queued %" PRIu64
		", dropped %" PRIu64,
		after->value[FLOWS], rate[0], rate[1], rate[2], rate[3], after->value[QUEUED],
		dropped(after));
	if (after->value[RTT_US] > 0 && used > 0 && used < STATS_TEXT_SIZE)
		snprintf(text + used, STATS_TEXT_SIZE - (size_t)used, ", pipe %sB/s %.1f ms",
			format_rate((double)after->value[RATE], rate[0]),
			(double)after->value[RTT_US] / US_PER_MS);
}
