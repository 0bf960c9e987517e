#include "command.h"

#include "check.h"
#include "util.h"

static struct command command;

static void check_waits(uint64_t max_ms, const char *wanted_ms)
{
	char text[128] = "";

	command_init(&command, NULL, max_ms * US_PER_MS);
	for (int i = 0; i < 10; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %d",
			(int)(command_next_wait_us(&command, 0) / US_PER_MS));
	CHECK_TEXT(text, wanted_ms);
}

static void waits(void)
{
	check_waits(30000, " 100 200 400 800 1600 3200 6400 12800 25600 30000");
	check_waits(5000, " 100 200 400 800 1600 3200 5000 5000 5000 5000");
	check_waits(50, " 50 50 50 50 50 50 50 50 50 50");
}

static void jitter(void)
{
	command_init(&command, NULL, US_PER_SECOND);
	CHECK_NUMBER(command_next_wait_us(&command, 512), 87500);
	CHECK_NUMBER(command_next_wait_us(&command, 1023), 150049);
	CHECK_NUMBER(command_next_wait_us(&command, 1024), 400000);
	CHECK(command_next_wait_us(&command, UINT32_MAX) > 600000);
}

static void reset(void)
{
	command_init(&command, NULL, US_PER_SECOND);
	for (int i = 0; i < 5; i++)
		(void)command_next_wait_us(&command, 0);
	command_reset_wait(&command);
	CHECK_NUMBER(command_next_wait_us(&command, 0), 100000);
	CHECK_NUMBER(command_next_wait_us(&command, 0), 200000);
}

static void no_command(void)
{
	command_init(&command, NULL, 0);
	command_end(&command, 0, 0);
	command_hurry(&command, 0);
	command_advance(&command, UINT64_MAX - 1);
	command_kill(&command);
	command_reap(&command);
	CHECK(!command_is_running(&command));
	CHECK(!command_was_ended_by_us(&command));
	CHECK_NUMBER(command_deadline_us(&command), UINT64_MAX);
}

int main(void)
{
	test("each wait is twice as long as the one before, up to the longest", waits);
	test("a random number takes away up to a quarter", jitter);
	test("after a success the first wait is short again", reset);
	test("without a COMMAND nothing runs, and nothing is signalled", no_command);
	return tests_end();
}
