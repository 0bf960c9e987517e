#include "signals.h"

#include <signal.h>

#include "check.h"

static int fd;

static void by_kind(void)
{
	CHECK_NUMBER(signals_read(fd), 0);
	raise(SIGUSR1);
	CHECK_NUMBER(signals_read(fd), SIGNALS_REPORT);
	raise(SIGCHLD);
	raise(SIGHUP);
	CHECK_NUMBER(signals_read(fd), SIGNALS_CHILD | SIGNALS_END);
	CHECK_NUMBER(signals_read(fd), 0);
}

/* A pipe takes 65536 bytes. */
static void full_pipe(void)
{
	for (int i = 0; i < 70000; i++)
		raise(SIGUSR1);
	raise(SIGTERM);
	CHECK_NUMBER(signals_read(fd), SIGNALS_REPORT | SIGNALS_END);
	CHECK_NUMBER(signals_read(fd), 0);
}

int main(void)
{
	signal(SIGHUP, SIG_DFL); /* under nohup it is ignored, and stays so */
	fd = signals_open();
	test("a signal is told once, by its kind", by_kind);
	test("a signal is told though the pipe that wakes the loop is full", full_pipe);
	return tests_end();
}
