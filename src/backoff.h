/*
 * How long to wait before COMMAND is run again: longer each time, and never in step with others.
 * Pure: random numbers come from the caller.
 */
#ifndef BACKOFF_H
#define BACKOFF_H

#include <stdint.h>

struct backoff {
	uint64_t max_us; /* the longest wait */
	uint64_t next_us;
};

void backoff_init(struct backoff *backoff, uint64_t max_us);

/* It worked: the next wait is a short one again. */
void backoff_reset(struct backoff *backoff);

/*
 * Returns how long to wait now: 0.1 s at first, then twice as long each time up to `max_us`, of
 * which `random` (any number) takes away up to a quarter.
 */
uint64_t backoff_wait_us(struct backoff *backoff, uint32_t random);

#endif
