/*
 * The counters for a person's eye: one line of rates. Pure.
 */
#ifndef STATS_H
#define STATS_H

#include <stdint.h>

#include "counters.h"

enum {
	STATS_TEXT_SIZE = 256
};

/*
 * Writes one line of what happened between two states of the counters, which lie `interval_us`
 * apart, such as "flows 3, in 1.20 k/s 1.40 MB/s, out 12 /s 900 B/s, queued 0, dropped 0".
 */
void stats_format(const struct counters *before, const struct counters *after, uint64_t interval_us,
	char text[static STATS_TEXT_SIZE]);

#endif
