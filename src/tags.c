/*
 * How this works: each service has a list of tags that are free and one of tags that wait, in the
 * order of joining. The times of the tags that wait are in order too, so that only the first one
 * needs a look.
 */
#include "tags.h"

#include <assert.h>
#include <string.h>

#include "util.h"

static_assert(TAG_NEW_OR_USED == 0, "in zeroed memory all tags are new");

/* The i-th tag that may be given out; or, which is the same sum, how many may be before this tag.
 */
static uint16_t in_order(bool counts_down, uint16_t tag_or_i)
{
	return counts_down ? UINT16_MAX - tag_or_i : tag_or_i;
}

uint16_t tags_service(bool counts_down, uint16_t services, uint16_t tag)
{
	return in_order(counts_down, tag) % services;
}

void tags_init(struct tags *tags, bool counts_down, uint16_t services)
{
	assert(services >= 1 && services <= SERVICES_MAX);
	tags->counts_down = counts_down;
	tags->services = services;
}

/* Zeroes only what was used, so that the other pages stay untouched. */
void tags_begin_anew(struct tags *tags)
{
	size_t lowest = tags->counts_down ? TAGS - tags->touched : 0;

	memset(tags->of + lowest, 0, tags->touched * sizeof(tags->of[0]));
	memset(tags->by_service, 0, tags->services * sizeof(tags->by_service[0]));
	tags->touched = 0;
}

static struct tag_list *list_of(struct tags *tags, uint16_t tag, uint8_t state)
{
	uint16_t service = tags_service(tags->counts_down, tags->services, tag);

	return &tags->by_service[service].lists[state];
}

static void join(struct tags *tags, enum tag_state state, uint16_t tag)
{
	struct tag_list *list = list_of(tags, tag, (uint8_t)state);

	tags->of[tag].state = (uint8_t)state;
	tags->of[tag].previous = list->last;
	if (list->count++ == 0)
		list->first = tag;
	else
		tags->of[list->last].next = tag;
	list->last = tag;
}

static void leave(struct tags *tags, uint16_t tag)
{
	struct tag *entry = &tags->of[tag];
	struct tag_list *list = list_of(tags, tag, entry->state);

	if (list->first == tag)
		list->first = entry->next;
	else
		tags->of[entry->previous].next = entry->next;
	if (list->last == tag)
		list->last = entry->previous;
	else
		tags->of[entry->next].previous = entry->previous;
	list->count--;
	entry->state = TAG_NEW_OR_USED;
}

int32_t tags_take(struct tags *tags, uint16_t service, uint64_t now_us)
{
	struct service_tags *own = &tags->by_service[service];
	const struct tag_list *free = &own->lists[TAG_FREE];
	const struct tag_list *waiting = &own->lists[TAG_WAITING];
	uint32_t next = service + own->given * tags->services;
	uint16_t tag;

	if (next < TAGS) {
		own->given++;
		tags->touched = max_size(tags->touched, next + 1);
		return in_order(tags->counts_down, (uint16_t)next);
	}
	if (free->count > 0)
		tag = free->first;
	else if (waiting->count > 0 && tags->of[waiting->first].free_at_us <= now_us)
		tag = waiting->first;
	else
		return -1;
	leave(tags, tag);
	return tag;
}

bool tags_was_given(const struct tags *tags, uint16_t tag)
{
	uint16_t i = in_order(tags->counts_down, tag);

	return i / tags->services < tags->by_service[i % tags->services].given;
}

void tags_free(struct tags *tags, uint16_t tag)
{
	assert(tags->of[tag].state == TAG_NEW_OR_USED);
	join(tags, TAG_FREE, tag);
}

void tags_close(struct tags *tags, uint16_t tag)
{
	assert(tags->of[tag].state == TAG_NEW_OR_USED);
	tags->of[tag].state = TAG_CLOSING;
}

void tags_closed(struct tags *tags, uint16_t tag)
{
	if (tags->of[tag].state == TAG_CLOSING)
		join(tags, TAG_FREE, tag);
}

void tags_late_frame(struct tags *tags, uint16_t tag, uint64_t free_at_us)
{
	if (tags->of[tag].state != TAG_FREE && tags->of[tag].state != TAG_WAITING)
		return;
	leave(tags, tag);
	tags->of[tag].free_at_us = free_at_us;
	join(tags, TAG_WAITING, tag);
}
