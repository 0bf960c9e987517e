/*
 * How this works: tags that are free are in one list and tags that wait are in another, each in the
 * order of joining. The times of the tags that wait are in order too, so that only the first one
 * needs a look.
 */
#include "tags.h"

#include <assert.h>
#include <string.h>

static_assert(TAG_NEW_OR_USED == 0, "in zeroed memory all tags are new");

void tags_init(struct tags *tags, bool counts_down)
{
	tags->counts_down = counts_down;
}

/* Zeroes only the tags that were used, so that the other pages stay untouched. */
void tags_begin_anew(struct tags *tags)
{
	size_t lowest = tags->counts_down ? TAGS - tags->given : 0;

	memset(tags->of + lowest, 0, tags->given * sizeof(tags->of[0]));
	tags->given = 0;
	memset(tags->lists, 0, sizeof(tags->lists));
}

static void join(struct tags *tags, enum tag_state state, uint16_t tag)
{
	struct tag_list *list = &tags->lists[state];

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
	struct tag_list *list = &tags->lists[entry->state];

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

int32_t tags_take(struct tags *tags, uint64_t now_us)
{
	const struct tag_list *free = &tags->lists[TAG_FREE];
	const struct tag_list *waiting = &tags->lists[TAG_WAITING];
	uint16_t tag;

	if (tags->given < TAGS) {
		tag = (uint16_t)tags->given++;
		return tags->counts_down ? UINT16_MAX - tag : tag;
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
