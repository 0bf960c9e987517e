/*
 * The table of flows of dec, which the far side's tags choose, beside a list of the same flows. The
 * input says what happens step by step.
 */
#include "flow.h"

#include "fuzz.h"

enum {
	HELD_MAX = 32,
	IDLE_US = 10 * US_PER_SECOND,
};

static struct flow_table flows, *table = &flows;
static uint64_t now_us;
static uint32_t stamp;
static struct held {
	struct flow *flow;
	uint64_t used_us;
	uint32_t used; /* a stamp */
} held[HELD_MAX];

/* From the first tag to the last one. */
static uint16_t tag_of(const struct held *one)
{
	return (uint16_t)((one - held) * (UINT16_MAX / (HELD_MAX - 1)) + (one - held) / 31);
}

static void use(struct held *one)
{
	one->used_us = now_us;
	one->used = ++stamp;
}

static void drop(struct held *one)
{
	flow_remove(table, one->flow);
	one->flow = NULL;
}

static void check_all(void)
{
	struct held *oldest = NULL;
	size_t count = 0;

	for (struct held *one = held; one < held + HELD_MAX; one++) {
		CHECK(flow_find_tag(table, tag_of(one)) == one->flow);
		if (!one->flow)
			continue;
		CHECK(one->flow->has_tag && one->flow->tag == tag_of(one));
		CHECK(one->flow->last_used_us == one->used_us);
		count++;
		if (!oldest || one->used < oldest->used)
			oldest = one;
	}
	CHECK(flow_count(table) == count);
	CHECK(flow_oldest(table) == (oldest ? oldest->flow : NULL));
	CHECK((flow_next_check(table, now_us, IDLE_US) == UINT64_MAX) == (count == 0));
	if (flow_find_idle(table, now_us, IDLE_US)) {
		CHECK(now_us - oldest->used_us >= IDLE_US);
		drop(oldest);
	} else {
		CHECK(!oldest || now_us - oldest->used_us < IDLE_US);
	}
}

static void step(struct input *input)
{
	struct held *one = &held[take(input, HELD_MAX)];
	uint32_t choice = take(input, 8);

	if (choice >= 6) {
		now_us += take(input, 65536) * (uint64_t)US_PER_MS;
	} else if (!one->flow) {
		one->flow = flow_add_tag(table, tag_of(one), now_us);
		use(one);
	} else if (choice >= 2) {
		flow_touch(table, one->flow, now_us);
		use(one);
	} else {
		drop(one);
	}
	check_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const uint8_t no_key[16];
	struct input input = {bytes, size};

	now_us = stamp = 0;
	memset(held, 0, sizeof(held));
	memset(table, 0, sizeof(*table)); /* much faster here than new memory */
	flow_table_init(table, false, 1, no_key);
	while (input.left > 0)
		step(&input);
	flow_table_free(table);
	return 0;
}
