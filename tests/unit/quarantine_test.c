#include "quarantine.h"

#include "check.h"

enum {
	SOCKETS_MAX = 1000
};

static struct quarantine quarantine;

static void until_its_time(void)
{
	quarantine = (struct quarantine){0};
	CHECK_NUMBER(quarantine_count(&quarantine), 0);
	CHECK_NUMBER(quarantine_deadline_us(&quarantine), UINT64_MAX);
	CHECK(quarantine_take(&quarantine, UINT64_MAX) == -1);
	CHECK(quarantine_add(&quarantine, 7, 1000));
	CHECK_NUMBER(quarantine_deadline_us(&quarantine), 5001000);
	CHECK(quarantine_take(&quarantine, 5000999) == -1);
	CHECK_NUMBER(quarantine_count(&quarantine), 1);
	CHECK(quarantine_take(&quarantine, 5001000) == 7);
	CHECK(quarantine_take(&quarantine, UINT64_MAX) == -1);
	quarantine_free(&quarantine);
}

/* Against an array of all sockets that ever came, of which those from `left` on are inside. */
static void many(void)
{
	static uint64_t came_us[SOCKETS_MAX];
	uint64_t now_us = 0;
	int came = 0, left = 0;

	quarantine = (struct quarantine){0};
	while (left < SOCKETS_MAX) {
		int socket;

		now_us += random_below(20000);
		if (came < SOCKETS_MAX && random_below(4) > 0) {
			came_us[came] = now_us;
			CHECK(quarantine_add(&quarantine, came++, now_us));
		}
		CHECK_NUMBER(quarantine_deadline_us(&quarantine),
			left < came ? came_us[left] + QUARANTINE_US : UINT64_MAX);
		while ((socket = quarantine_take(&quarantine, now_us)) >= 0) {
			CHECK_NUMBER(socket, left);
			CHECK(came_us[left++] + QUARANTINE_US <= now_us);
		}
		CHECK(left == came || came_us[left] + QUARANTINE_US > now_us);
		CHECK_NUMBER(quarantine_count(&quarantine), came - left);
	}
	quarantine_free(&quarantine);
	CHECK_NUMBER(quarantine_count(&quarantine), 0);
}

int main(void)
{
	test("a socket stays for five seconds", until_its_time);
	test("many come and go, the first one first", many);
	return tests_end();
}
