#include "quarantine.h"

#include <stdlib.h>

enum {
	CAPACITY_MIN = 16
};

void quarantine_free(struct quarantine *quarantine)
{
	free(quarantine->ring);
	*quarantine = (struct quarantine){0};
}

static struct detained *at(const struct quarantine *quarantine, size_t i)
{
	return &quarantine->ring[(quarantine->first + i) % quarantine->capacity];
}

static bool grow(struct quarantine *quarantine)
{
	size_t capacity = quarantine->capacity > 0 ? 2 * quarantine->capacity : CAPACITY_MIN;
	struct detained *ring = malloc(capacity * sizeof(*ring));

	if (!ring)
		return false;
	for (size_t i = 0; i < quarantine->count; i++)
		ring[i] = *at(quarantine, i);
	free(quarantine->ring);
	quarantine->ring = ring;
	quarantine->capacity = capacity;
	quarantine->first = 0;
	return true;
}

bool quarantine_add(struct quarantine *quarantine, int socket, uint64_t now_us)
{
	if (quarantine->count == quarantine->capacity && !grow(quarantine))
		return false;
	*at(quarantine, quarantine->count++) = (struct detained){socket, now_us + QUARANTINE_US};
	return true;
}

size_t quarantine_count(const struct quarantine *quarantine)
{
	return quarantine->count;
}

uint64_t quarantine_deadline_us(const struct quarantine *quarantine)
{
	return quarantine->count > 0 ? at(quarantine, 0)->until_us : UINT64_MAX;
}

int quarantine_take(struct quarantine *quarantine, uint64_t now_us)
{
	int socket;

	if (quarantine->count == 0 || quarantine_deadline_us(quarantine) > now_us)
		return -1;
	socket = at(quarantine, 0)->socket;
	quarantine->first = (quarantine->first + 1) % quarantine->capacity;
	quarantine->count--;
	return socket;
}
