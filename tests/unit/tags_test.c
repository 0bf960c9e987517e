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
static void begin_stream(bool counts_down, uint16_t services)
{
	tags_begin_anew(&tags);
	tags_init(&tags, counts_down, services);
	model_init(&tags, counts_down, services);
	for (uint32_t tag = 0; tag < TAGS; tag++) {
		answer_close((uint16_t)tag);
		late_frame((uint16_t)tag, 0);
	}
}

/* Returns whether there was a tag. */
static bool take(uint16_t service)
{
	int32_t tag = tags_take(&tags, service, now_us);

	CHECK_NUMBER(tag, model_take(service, now_us));
	CHECK(tag < 0 || tags_service(model.counts_down, model.services, (uint16_t)tag) == service);
	return tag >= 0;
}

static uint16_t any_service(void)
{
	return (uint16_t)random_below(model.services);
}

static void random_step(uint16_t tag, uint64_t wait_us)
{
	now_us += random_below(4);
	CHECK(tags_was_given(&tags, tag) == (model.state[tag] != NEW));
	switch (random_below(4)) {
	case 0:
		take(any_service());
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
	static const uint16_t services[] = {1, 1, 2, 3, 10, 1000, SERVICES_MAX};

	for (size_t run = 0; run < 200 && checks_failed == 0; run++) {
		uint32_t first = given[random_below(ARRAY_SIZE(given))];
		uint32_t range = ranges[random_below(ARRAY_SIZE(ranges))];
		uint64_t wait_us = random_below(200);

		begin_stream(random_below(2) == 0, services[random_below(ARRAY_SIZE(services))]);
		for (uint32_t i = 0; i < first; i++)
			take((uint16_t)(i % model.services));
		for (size_t step = 0; step < 3000 && checks_failed == 0; step++)
			random_step(nth_tag(random_below(range)), wait_us);
		now_us += wait_us;
		while (run % 2 == 0 && checks_failed == 0 && take(any_service()))
			;
	}
}

static void all_tags(void)
{
	for (uint32_t down = 0; down <= 1; down++) {
		begin_stream(down, 1);
		for (uint32_t i = 0; i < TAGS; i++)
			CHECK_NUMBER(tags_take(&tags, 0, 0), down ? 65535 - i : i);
		CHECK_NUMBER(tags_take(&tags, 0, UINT64_MAX), -1);
		for (uint32_t i = 0; i < TAGS; i++)
			tags_free(&tags, (uint16_t)(i * 40503)); /* odd, so that it meets all */
		for (uint32_t i = 0; i < TAGS; i++)
			CHECK_NUMBER(tags_take(&tags, 0, 0), (uint16_t)(i * 40503));
		CHECK_NUMBER(tags_take(&tags, 0, UINT64_MAX), -1);
	}
}

/* Each row: whether tags count down, the service of three, its first tags, and how many it has. */
static void three_services(void)
{
	static const struct {
		bool down;
		uint16_t service;
		int32_t first, second;
		uint32_t count;
	} rows[] = {{true, 0, 65535, 65532, 21846}, {true, 1, 65534, 65531, 21845},
		{true, 2, 65533, 65530, 21845}, {false, 0, 0, 3, 21846}, {false, 1, 1, 4, 21845},
		{false, 2, 2, 5, 21845}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t count = 2;

		begin_stream(rows[i].down, 3);
		CHECK_NUMBER(tags_take(&tags, rows[i].service, 0), rows[i].first);
		CHECK_NUMBER(tags_take(&tags, rows[i].service, 0), rows[i].second);
		while (tags_take(&tags, rows[i].service, 0) >= 0)
			count++;
		CHECK_NUMBER(count, rows[i].count);
	}
}

int main(void)
{
	test("random calls give out the tags that the model gives out", random_runs);
	test("tags count from 65535 down or from 0 up, and come back in the order of freeing",
		all_tags);
	test("of three services each has every third tag", three_services);
	return tests_end();
}
