/*
 * The tags beside a model of them. Both get the same random calls, and give out the same tag each
 * time. Examples show what both could get wrong in the same way.
 */
#include "tags.h"

#include "check.h"
#include "model.h"
#include "util.h"

static struct tags tags;
static uint64_t now_us;

/* Answers and late frames of the former stream change nothing. */
static void begin_stream(bool counts_down)
{
	tags_begin_anew(&tags);
	tags_init(&tags, counts_down);
	model_init(&tags, counts_down);
	for (uint32_t tag = 0; tag < TAGS; tag++) {
		answer_close((uint16_t)tag);
		late_frame((uint16_t)tag, 0);
	}
}

/* Returns whether there was a tag. */
static bool take(void)
{
	int32_t tag = tags_take(&tags, now_us);

	CHECK_NUMBER(tag, model_take(now_us));
	return tag >= 0;
}

static void random_step(uint16_t tag, uint64_t wait_us)
{
	now_us += random_below(4);
	switch (random_below(4)) {
	case 0:
		take();
		break;
	case 1:
		if (model.state[tag] == USED)
			give_back(tag, random_below(2) == 0);
		break;
	case 2:
		answer_close(tag);
		break;
	default:
		late_frame(tag, now_us + wait_us);
	}
}

/* Few tags and many, of streams that have used few, many or all. */
static void random_runs(void)
{
	static const uint32_t given[] = {0, 1, 7, 300, TAGS - 300, TAGS - 1, TAGS, TAGS};
	static const uint32_t ranges[] = {3, 60, 1000, TAGS};

	for (size_t run = 0; run < 200 && checks_failed == 0; run++) {
		uint32_t first = given[random_below(ARRAY_SIZE(given))];
		uint32_t range = ranges[random_below(ARRAY_SIZE(ranges))];
		uint64_t wait_us = random_below(200);

		begin_stream(random_below(2) == 0);
		while (model.given < first)
			take();
		for (size_t step = 0; step < 3000 && checks_failed == 0; step++)
			random_step(nth_tag(random_below(range)), wait_us);
		now_us += wait_us;
		while (run % 2 == 0 && checks_failed == 0 && take())
			;
	}
}

static void all_tags(void)
{
	for (uint32_t down = 0; down <= 1; down++) {
		begin_stream(down);
		for (uint32_t i = 0; i < TAGS; i++)
			CHECK_NUMBER(tags_take(&tags, 0), down ? 65535 - i : i);
		CHECK_NUMBER(tags_take(&tags, UINT64_MAX), -1);
		for (uint32_t i = 0; i < TAGS; i++)
			tags_free(&tags, (uint16_t)(i * 40503)); /* odd, so that it meets all */
		for (uint32_t i = 0; i < TAGS; i++)
			CHECK_NUMBER(tags_take(&tags, 0), (uint16_t)(i * 40503));
		CHECK_NUMBER(tags_take(&tags, UINT64_MAX), -1);
	}
}

int main(void)
{
	test("random calls give out the tags that the model gives out", random_runs);
	test("tags count from 65535 down or from 0 up, and come back in the order of freeing",
		all_tags);
	return tests_end();
}
