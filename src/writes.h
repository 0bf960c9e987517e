/*
 * What was written and not read yet, in order: an ACK says up to which byte the far side has read,
 * and this list tells when that byte was written, and what was known then.
 *
 * Pure: no clock, no heap. Times are in microseconds, offsets in bytes of the stream.
 */
#ifndef WRITES_H
#define WRITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WRITES_MAX = 128 /* remembered; if more are in flight, several are taken together */
};

/* A write, or several in a row. */
struct write {
	uint64_t start, end; /* offsets */
	uint64_t sent_us;
	uint64_t in_flight;  /* before it */
	bool is_app_limited; /* until then too little was written to keep the pipe busy */
};

/* The oldest first. Zeroed memory is an empty list. The fields are private. */
struct writes {
	struct write ring[WRITES_MAX];
	size_t first, count;
};

/*
 * Adds a write. It is taken together with the one before if it comes less than together_us later,
 * or if the list is full.
 */
void writes_add(struct writes *writes, const struct write *write, uint64_t together_us);

/*
 * The far side has read all before the offset `acked`: forgets what was read to its end. Returns
 * whether a byte of the list was read, and in *last the write with the last such byte.
 */
bool writes_take(struct writes *writes, uint64_t acked, struct write *last);

#endif
