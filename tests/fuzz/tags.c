/*
 * The tags of a stream beside a slow model, which searches all tags for the next one. The input
 * says how many services there are, and then what happens step by step.
 */
#include "tags.h"

#include "fuzz.h"

static struct tags tags;
static bool counts_down;
static uint16_t services;
static uint64_t now_us, stamp;
static enum {
	NEW,
	USED,
	CLOSING,
	FREE,
	WAITING
} state[TAGS];
static uint64_t joined[TAGS], free_at_us[TAGS]; /* a stamp; of WAITING */

static void set_state(uint16_t tag, int to)
{
	state[tag] = (uint8_t)to;
	joined[tag] = ++stamp;
}

/* The i-th one in the order of giving out. */
static uint16_t tag_of(uint32_t i)
{
	return (uint16_t)(counts_down ? UINT16_MAX - i : i);
}

/* Whether a tag that is free or waits is given out before another one. */
static bool is_before(uint16_t tag, int32_t other)
{
	return other < 0 || state[tag] < state[other] ||
	       (state[tag] == state[other] && joined[tag] < joined[other]);
}

/* The tag that is to be given out next, or -1. */
static int32_t next_tag(uint16_t service)
{
	int32_t found = -1;

	for (uint32_t i = service; i < TAGS; i += services) {
		if (state[tag_of(i)] == NEW)
			return tag_of(i);
		if (state[tag_of(i)] >= FREE && is_before(tag_of(i), found))
			found = tag_of(i);
	}
	return found >= 0 && state[found] == WAITING && free_at_us[found] > now_us ? -1 : found;
}

static void take_tags(uint16_t service, uint32_t count)
{
	for (; count > 0; count--) {
		int32_t tag = next_tag(service);

		CHECK(tags_take(&tags, service, now_us) == tag);
		if (tag < 0)
			continue;
		CHECK(tags_service(counts_down, services, (uint16_t)tag) == service);
		set_state((uint16_t)tag, USED);
	}
}

static void step(struct input *input)
{
	uint32_t choice = take(input, 8), number = take(input, 96);
	uint16_t service = (uint16_t)((take(input, 4) + services - 2u) % services);
	uint16_t tag = tag_of((service + number * services) % TAGS);

	if (choice < 2) {
		take_tags(service, choice == 0 ? 1 : number);
	} else if (choice == 2 && state[tag] == USED) {
		tags_free(&tags, tag);
		set_state(tag, FREE);
	} else if (choice == 3 && state[tag] == USED) {
		tags_close(&tags, tag);
		set_state(tag, CLOSING);
	} else if (choice == 4) {
		tags_closed(&tags, tag);
		if (state[tag] == CLOSING)
			set_state(tag, FREE);
	} else if (choice == 5 && state[tag] != NEW) {
		tags_late_frame(&tags, tag, free_at_us[tag] = now_us + 10 * US_PER_SECOND);
		if (state[tag] >= FREE)
			set_state(tag, WAITING);
	} else if (choice == 6) {
		now_us += number * UINT64_C(1000000);
	} else if (choice == 7 && number < 10) {
		tags_begin_anew(&tags);
		memset(state, 0, sizeof(state));
	}
	CHECK(tags_was_given(&tags, tag) == (state[tag] != NEW));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const uint16_t numbers[] = {1, 2, 3, 900, 1000, 1023, 1024, 7};
	struct input input = {bytes, size};

	counts_down = take(&input, 2);
	services = numbers[take(&input, 8)];
	now_us = stamp = 0;
	memset(state, 0, sizeof(state));
	memset(&tags, 0, sizeof(tags));
	tags_init(&tags, counts_down, services);
	while (input.left > 0)
		step(&input);
	return 0;
}
