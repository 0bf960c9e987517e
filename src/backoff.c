#include "backoff.h"

#include "util.h"

enum {
	FIRST_WAIT_US = US_PER_SECOND / 10
};

void backoff_init(struct backoff *backoff, uint64_t max_us)
{
	backoff->max_us = max_us;
	backoff_reset(backoff);
}

void backoff_reset(struct backoff *backoff)
{
	backoff->next_us = min_u64(FIRST_WAIT_US, backoff->max_us);
}

uint64_t backoff_wait_us(struct backoff *backoff, uint32_t random)
{
	uint64_t wait_us = backoff->next_us;

	backoff->next_us = min_u64(2 * wait_us, backoff->max_us);
	return wait_us - wait_us / 4 * (random % 1024) / 1024;
}
