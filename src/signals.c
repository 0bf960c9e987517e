#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "util.h"

static int pipe_end = -1;

static void handle(int number)
{
	int saved_errno = errno;
	unsigned char byte = (unsigned char)number;

	(void)!write(pipe_end, &byte, 1); /* full: as many signals are waiting to be read */
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
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		fcntl(ends[i], F_SETFD, FD_CLOEXEC);
		fcntl(ends[i], F_SETFL, O_NONBLOCK);
	}
	pipe_end = ends[1];
	sigemptyset(&unblocked);
	for (size_t i = 0; i < ARRAY_SIZE(handled); i++) {
		sigaddset(&unblocked, handled[i]);
		if (handled[i] == SIGCHLD || !was_ignored(handled[i]))
			sigaction(handled[i], &action, NULL);
	}
	sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
	/* Writing tells of these by an error. */
	sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	return ends[0];
}

unsigned int signals_read(int fd)
{
	unsigned char numbers[64];
	unsigned int seen = 0;
	ssize_t count = read(fd, numbers, sizeof(numbers));

	for (ssize_t i = 0; i < count; i++)
		seen |= numbers[i] == SIGCHLD   ? SIGNALS_CHILD
			: numbers[i] == SIGUSR1 ? SIGNALS_REPORT
						: SIGNALS_END;
	return seen;
}
