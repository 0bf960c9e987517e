#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "util.h"

static int pipe_end = -1;
static volatile sig_atomic_t end_came, child_came, report_came;

/* The flag tells which signal it was; the byte wakes the loop. A full pipe wakes it as well. */
static void handle(int number)
{
	int saved_errno = errno;

	if (number == SIGCHLD)
		child_came = 1;
	else if (number == SIGUSR1)
		report_came = 1;
	else
		end_came = 1;
	(void)!write(pipe_end, "", 1);
	errno = saved_errno;
}

static bool was_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int signals_open(void)
{
	static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1};
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	sigset_t unblocked;
	int ends[2];

	if (pipe(ends) != 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (fcntl(ends[i], F_SETFD, FD_CLOEXEC) != 0 ||
			fcntl(ends[i], F_SETFL, O_NONBLOCK) != 0)
			return -1;
	pipe_end = ends[1];
	sigemptyset(&unblocked);
	for (size_t i = 0; i < ARRAY_SIZE(handled); i++) {
		sigaddset(&unblocked, handled[i]);
		if (handled[i] == SIGCHLD || !was_ignored(handled[i]))
			sigaction(handled[i], &action, NULL);
	}
	sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
	/* A failed write tells of these two. */
	sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	return ends[0];
}

static unsigned int take(volatile sig_atomic_t *flag, unsigned int meaning)
{
	bool came = *flag != 0;

	*flag = 0;
	return came ? meaning : 0;
}

unsigned int signals_read(int fd)
{
	unsigned char bytes[64];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		; /* before the flags: a signal after this one wakes the loop once more */
	return take(&end_came, SIGNALS_END) | take(&child_came, SIGNALS_CHILD) |
	       take(&report_came, SIGNALS_REPORT);
}
