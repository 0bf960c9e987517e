#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "util.h"

static const char *program_name = "uott";
static enum log_level highest_level = LOG_WARNING;
static bool muted;

void log_open(const char *program, enum log_level highest)
{
	program_name = program;
	highest_level = highest;
}

void log_mute(void)
{
	muted = true;
}

bool log_shows(enum log_level level)
{
	return !muted && level <= highest_level;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[2048];
	int saved_errno = errno;
	size_t used;
	va_list arguments;

	if (!log_shows(level))
		return;
	used = (size_t)snprintf(line, sizeof(line), "%s: ", program_name);
	va_start(arguments, format);
	used += (size_t)vsnprintf(line + used, sizeof(line) - used, format, arguments);
	va_end(arguments);
	used = min_size(used, sizeof(line) - 1);
	line[used] = '\n';
	/* A message that standard error does not take is lost: waiting would hold up datagrams. */
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) == 1)
		(void)!write(STDERR_FILENO, line, used + 1);
	errno = saved_errno;
}
