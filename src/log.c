#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

#define ERASE_LINE "\r\033[K"

static const char *program_name = "uott";
static enum log_level highest_level = LOG_WARNING;
static bool muted, status_shown;

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

/* What standard error does not take is lost: waiting would hold up datagrams. */
static void write_text(const char *text, size_t size)
{
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) == 1)
		(void)!write(STDERR_FILENO, text, size);
}

void log_status(const char *text)
{
	char line[512];

	if (muted)
		return;
	snprintf(line, sizeof(line), "%s%s", ERASE_LINE, text);
	write_text(line, strlen(line));
	status_shown = true;
}

void log_end_status(void)
{
	if (status_shown)
		write_text("\n", 1);
	status_shown = false;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[2048];
	int saved_errno = errno;
	size_t used;
	va_list arguments;

	if (!log_shows(level))
		return;
	used = (size_t)snprintf(
		line, sizeof(line), "%s%s: ", status_shown ? ERASE_LINE : "", program_name);
	status_shown = false;
	va_start(arguments, format);
	used += (size_t)vsnprintf(line + used, sizeof(line) - used, format, arguments);
	va_end(arguments);
	used = min_size(used, sizeof(line) - 1);
	line[used] = '\n';
	write_text(line, used + 1);
	errno = saved_errno;
}
