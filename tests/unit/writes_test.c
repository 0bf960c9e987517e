#include "writes.h"

#include "check.h"

static struct writes writes;

static void add(uint64_t start, uint64_t end, uint64_t sent_us, bool is_app_limited)
{
	struct write write = {
		.start = start, .end = end, .sent_us = sent_us, .is_app_limited = is_app_limited};

	writes_add(&writes, &write, 10);
}

/* Each row reads up to an offset; then the last byte is of the write sent at that time; 0: none. */
static void read_in_order(void)
{
	static const struct {
		uint64_t acked, sent_us;
	} rows[] = {{100, 0}, {101, 1000}, {150, 1000}, {200, 1000}, {210, 0}, {220, 2000},
		{400, 3000}, {500, 0}};
	struct write last;

	writes = (struct writes){0};
	add(100, 200, 1000, false);
	add(210, 300, 2000, false); /* with an ACK of ours before it */
	add(300, 400, 3000, false);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		last.sent_us = 0;
		CHECK(writes_take(&writes, rows[i].acked, &last) == (rows[i].sent_us > 0));
		CHECK_NUMBER(last.sent_us, rows[i].sent_us);
	}
}

static void taken_together(void)
{
	struct write last;

	writes = (struct writes){0};
	add(0, 100, 1000, false);
	add(100, 200, 1009, true);
	add(200, 300, 1010, false);
	CHECK(writes_take(&writes, 200, &last));
	CHECK_NUMBER(last.end, 200);
	CHECK_NUMBER(last.sent_us, 1000);
	CHECK(last.is_app_limited);
	CHECK(writes_take(&writes, 201, &last));
	CHECK_NUMBER(last.sent_us, 1010);
}

static void more_than_fit(void)
{
	uint64_t left = 0, end = 0;
	struct write last;

	writes = (struct writes){0};
	for (int i = 0; i < 100000; i++) {
		if (random_below(2) == 0) {
			add(end, end + 100, 1000 + 10 * end, false);
			end += 100;
		} else if (end > left) {
			left += 1 + random_below((uint32_t)(end - left));
			CHECK(writes_take(&writes, left, &last));
			CHECK(last.start < left && last.end >= left);
			CHECK_NUMBER(last.sent_us, 1000 + 10 * last.start);
		}
	}
	for (int i = 0; i < 2 * WRITES_MAX; i++, end += 100)
		add(end, end + 100, 1000 + 10 * end, false);
	CHECK(writes_take(&writes, end, &last));
	CHECK_NUMBER(last.end, end);
	CHECK(!writes_take(&writes, end + 1, &last));
}

int main(void)
{
	test("the write of the last byte that was read is told, once it was read", read_in_order);
	test("writes that follow each other closely are taken together", taken_together);
	test("of more writes than fit the last ones are taken together", more_than_fit);
	return tests_end();
}
