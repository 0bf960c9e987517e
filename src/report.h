/*
 * What people are told of the counters, on standard error: drops by cause as they happen, and all
 * counters when they are asked for. Times are in microseconds on a clock that never goes back.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "counters.h"

struct report {
	struct counters *counters; /* borrowed */
	bool is_wanted;
	uint64_t interval_us, next_us; /* next_us is UINT64_MAX: never */
	struct counters before;        /* as of the last line of rates */
};

/* The counters are shown every `interval_us`; 0: only when asked for. */
void report_init(
	struct report *report, struct counters *counters, uint64_t interval_us, uint64_t now_us);

/* SIGUSR1 asks for the counters. */
void report_request(struct report *report);

/*
 * To be called at the end of each turn, when every datagram is in one place: says what is due.
 * Returns when there may be more to say, or UINT64_MAX.
 */
uint64_t report_turn(struct report *report, uint64_t now_us);

/* The program ends: says what has not been said yet. With -v, that is all counters. */
void report_end(struct report *report);

#endif
