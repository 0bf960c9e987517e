#include "backoff.h"

#include "check.h"
#include "util.h"

enum {
	FIRST_US = 100 * US_PER_MS,
	MAX_US = 30 * US_PER_SECOND,
};

static struct backoff backoff;

static void setup(uint64_t max_us)
{
	memset(&backoff, 0xee, sizeof(backoff));
	backoff_init(&backoff, max_us);
}

static void check_wait(uint64_t wanted_us)
{
	CHECK_NUMBER(backoff_wait_us(&backoff, 0), wanted_us);
}

static void doubles_to_the_longest(void)
{
	setup(MAX_US);
	check_wait(100000);
	check_wait(200000);
	check_wait(400000);
	check_wait(800000);
	check_wait(1600000);
	check_wait(3200000);
	check_wait(6400000);
	check_wait(12800000);
	check_wait(25600000);
	for (int i = 0; i < 1000; i++)
		check_wait(MAX_US);
}

static void reset_begins_anew(void)
{
	setup(MAX_US);
	for (int i = 0; i < 20; i++)
		backoff_wait_us(&backoff, 0);
	backoff_reset(&backoff);
	check_wait(100000);
	check_wait(200000);
	backoff_reset(&backoff);
	backoff_reset(&backoff);
	check_wait(100000);
}

static void short_longest_waits(void)
{
	static const uint64_t times[] = {0, 1, 1000, FIRST_US - 1, FIRST_US};

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		setup(times[i]);
		check_wait(times[i]);
		check_wait(times[i]);
		backoff_reset(&backoff);
		check_wait(times[i]);
	}
}

/* The longest that can be asked for: see SECONDS_MAX in options.c. */
static void thirty_years(void)
{
	const uint64_t max_us = 1000000000 * (uint64_t)US_PER_SECOND;
	uint64_t wanted_us = FIRST_US;

	setup(max_us);
	for (; wanted_us < max_us; wanted_us *= 2)
		check_wait(wanted_us);
	check_wait(max_us);
	check_wait(max_us);
	CHECK(backoff_wait_us(&backoff, UINT32_MAX) > max_us / 4 * 3);
	CHECK(backoff_wait_us(&backoff, UINT32_MAX) < max_us);
}

static void random_takes_a_quarter_at_most(void)
{
	uint64_t least_us = UINT64_MAX, most_us = 0;

	for (int i = 0; i < 100000; i++) {
		uint64_t wait_us;

		setup(MAX_US);
		wait_us = backoff_wait_us(&backoff, random_below(UINT32_MAX));
		least_us = min_u64(least_us, wait_us);
		most_us = max_u64(most_us, wait_us);
	}
	CHECK(least_us >= FIRST_US - FIRST_US / 4 && least_us < FIRST_US - FIRST_US / 5);
	CHECK(most_us <= FIRST_US && most_us > FIRST_US - FIRST_US / 20);
}

static void random_does_not_slow_the_doubling(void)
{
	setup(MAX_US);
	backoff_wait_us(&backoff, UINT32_MAX);
	check_wait(200000);
	backoff_wait_us(&backoff, UINT32_MAX);
	check_wait(800000);
}

static void two_are_soon_out_of_step(void)
{
	size_t same = 0;

	for (int i = 0; i < 1000; i++) {
		uint64_t one_us;

		setup(MAX_US);
		one_us = backoff_wait_us(&backoff, random_below(UINT32_MAX));
		setup(MAX_US);
		same += backoff_wait_us(&backoff, random_below(UINT32_MAX)) == one_us;
	}
	CHECK(same < 20); /* by chance one in 1024 */
}

int main(void)
{
	test("waits double from 0.1 s to the longest", doubles_to_the_longest);
	test("after a reset the next wait is 0.1 s", reset_begins_anew);
	test("no wait is longer than the longest, though that be short", short_longest_waits);
	test("waits may become thirty years", thirty_years);
	test("random numbers take away up to a quarter", random_takes_a_quarter_at_most);
	test("random numbers do not make later waits shorter", random_does_not_slow_the_doubling);
	test("two that begin at once wait differently", two_are_soon_out_of_step);
	return tests_end();
}
