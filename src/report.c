#include "report.h"

#include <unistd.h>

#include "log.h"
#include "util.h"

void report_init(
	struct report *report, struct counters *counters, uint64_t interval_us, uint64_t now_us)
{
	*report = (struct report){.counters = counters,
		.interval_us = interval_us,
		.next_us = interval_us > 0 ? now_us + interval_us : UINT64_MAX};
}

void report_request(struct report *report)
{
	report->is_wanted = true;
}

static uint64_t tell_drops(struct report *report, uint64_t now_us)
{
	uint64_t deadline_us;
	char text[COUNTERS_REPORT_SIZE];

	while (counters_next_report(report->counters, now_us, text, sizeof(text), &deadline_us))
		log_line(LOG_WARNING, "%s", text);
	return deadline_us;
}

static void show_counters(const struct report *report, enum log_level level)
{
	char text[COUNTERS_TEXT_SIZE];

	counters_format(report->counters, text, sizeof(text));
	log_line(level, "%s", text);
}

/* On a terminal one line of rates, which the next one replaces. */
static void show_regularly(struct report *report, uint64_t now_us)
{
	uint64_t elapsed_us = now_us - report->next_us + report->interval_us;
	char text[COUNTERS_RATES_SIZE];

	report->next_us = now_us + report->interval_us;
	if (!isatty(STDERR_FILENO)) {
		show_counters(report, LOG_ERROR);
		return;
	}
	counters_format_rates(&report->before, report->counters, elapsed_us, text);
	log_status(text);
	report->before = *report->counters;
}

uint64_t report_turn(struct report *report, uint64_t now_us)
{
	uint64_t deadline_us = tell_drops(report, now_us);

	if (report->is_wanted)
		show_counters(report, LOG_ERROR);
	report->is_wanted = false;
	if (now_us >= report->next_us)
		show_regularly(report, now_us);
	return min_u64(deadline_us, report->next_us);
}

void report_end(struct report *report)
{
	tell_drops(report, UINT64_MAX); /* even if the last report is recent */
	show_counters(report, report->is_wanted ? LOG_ERROR : LOG_DETAIL);
	log_end_status();
}
