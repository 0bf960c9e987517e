#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

enum {
	SHORT_OUTPUT = 16 * 1024,
	ROOM_GUESS = 16 * 1024,
	PIPE_SIZE_MAX = 256 * 1024, /* more helps no further, and leaves the cache */
};

static bool is_closed(int fd)
{
	return fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

static bool is_same_file(int a, int b)
{
	struct stat stat_a, stat_b;

	return fstat(a, &stat_a) == 0 && fstat(b, &stat_b) == 0 && stat_a.st_dev == stat_b.st_dev &&
	       stat_a.st_ino == stat_b.st_ino;
}

void stdio_claim(struct stdio *stdio)
{
	bool error_closed = is_closed(STDERR_FILENO);
	struct stat output;

	stdio->input_closed = is_closed(STDIN_FILENO);
	stdio->output_closed = is_closed(STDOUT_FILENO);
	/* open() takes the lowest free number, so this order gives each its own. */
	if (stdio->input_closed)
		(void)!open("/dev/null", O_RDONLY);
	if (stdio->output_closed)
		(void)!open("/dev/null", O_WRONLY);
	if (error_closed)
		(void)!open("/dev/null", O_WRONLY);
	/* As inetd and systemd start us: not even a usage error may be taken for frames. */
	if (fstat(STDOUT_FILENO, &output) == 0 && S_ISSOCK(output.st_mode) &&
		is_same_file(STDOUT_FILENO, STDERR_FILENO))
		log_mute();
}

bool stdio_has_input(const struct stdio *stdio)
{
	struct stat input, null;

	if (stdio->input_closed || isatty(STDIN_FILENO))
		return false;
	return fstat(STDIN_FILENO, &input) != 0 || stat("/dev/null", &null) != 0 ||
	       !S_ISCHR(input.st_mode) || input.st_rdev != null.st_rdev;
}

/*
 * O_NONBLOCK belongs to the open file description, which others share (2>&1, the next filter). A
 * pipe opened once more has a description of its own.
 */
static bool reopen_output_nonblocking(void)
{
#if defined(__linux__) && !defined(UOTT_PORTABLE)
	int own = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (own < 0)
		return false;
	dup2(own, STDOUT_FILENO);
	close(own);
	return true;
#else
	return false;
#endif
}

static void measure_pipe(struct transport *transport)
{
#if defined(F_GETPIPE_SZ) && !defined(UOTT_PORTABLE)
	int size = fcntl(transport->output, F_GETPIPE_SZ);

	if (size > 0)
		transport->pipe_size = (size_t)size;
#else
	(void)transport;
#endif
}

static enum output_way choose_output_way(void)
{
	struct stat status;

	if (fstat(STDOUT_FILENO, &status) != 0)
		return OUTPUT_PLAIN;
	if (S_ISSOCK(status.st_mode)) {
		/* Small frames must not wait for the acknowledgement of the one before. */
		(void)setsockopt(STDOUT_FILENO, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		return OUTPUT_SOCKET;
	}
	if (S_ISFIFO(status.st_mode) && !reopen_output_nonblocking())
		return OUTPUT_STEPS;
	return OUTPUT_PLAIN;
}

const char *transport_use_stdio(
	struct transport *transport, const struct stdio *stdio, bool reads, bool writes)
{
	*transport = (struct transport){.input = -1, .output = -1, .pipe_size_max = PIPE_SIZE_MAX};
	if (reads && stdio->input_closed)
		return "standard input is closed: expected frames from there, or -- COMMAND";
	if (reads && isatty(STDIN_FILENO))
		return "standard input is a terminal: expected a pipe, a socket or a file with "
		       "frames, or -- COMMAND (and " NO_TERMINAL ")";
	if (writes && stdio->output_closed)
		return "standard output is closed: frames must go there, or to -- COMMAND";
	if (writes && isatty(STDOUT_FILENO))
		return "standard output is a terminal: expected a pipe, a socket or a file for "
		       "frames, or -- COMMAND (and " NO_TERMINAL ")";
	if (reads)
		transport->input = STDIN_FILENO;
	if (!writes)
		return NULL;
	transport->output = STDOUT_FILENO;
	if (is_same_file(STDOUT_FILENO, STDERR_FILENO))
		log_mute();
	transport->output_way = choose_output_way();
	measure_pipe(transport);
	return NULL;
}

int transport_run(struct transport *transport, char *const command[], bool reads)
{
	int status;

	*transport = (struct transport){.input = -1, .output = -1, .pipe_size_max = PIPE_SIZE_MAX};
	status = child_start(
		&transport->child, command, &transport->output, reads ? &transport->input : NULL);
	if (status == 0)
		measure_pipe(transport);
	return status;
}

ssize_t transport_read(const struct transport *transport, void *buffer, size_t size)
{
	return read(transport->input, buffer, size);
}

/* POSIX: after poll() said POLLOUT, a pipe takes PIPE_BUF bytes without blocking. */
static ssize_t write_in_steps(int fd, const struct iovec *pieces, int count)
{
	ssize_t total = 0;

	for (int i = 0; i < count; i++) {
		const char *p = pieces[i].iov_base;
		size_t left = pieces[i].iov_len;

		while (left > 0) {
			struct pollfd room = {.fd = fd, .events = POLLOUT};
			ssize_t written = -1;

			errno = EAGAIN;
			if (poll(&room, 1, 0) == 1)
				written = write(fd, p, min_size(left, PIPE_BUF));
			if (written < 0)
				return total > 0 ? total : -1;
			p += written;
			left -= (size_t)written;
			total += written;
		}
	}
	return total;
}

ssize_t transport_write(const struct transport *transport, const struct iovec *pieces, int count)
{
	struct msghdr message = {
		.msg_iov = (struct iovec *)(uintptr_t)pieces,
		.msg_iovlen = (size_t)count,
	};

	switch (transport->output_way) {
	case OUTPUT_SOCKET:
		return sendmsg(transport->output, &message, MSG_DONTWAIT);
	case OUTPUT_STEPS:
		return write_in_steps(transport->output, pieces, count);
	case OUTPUT_PLAIN:
		break;
	}
	return writev(transport->output, pieces, count);
}

size_t transport_room(const struct transport *transport)
{
	size_t size = transport->pipe_size;
	int used = 0;

	if (size > 0 && ioctl(transport->output, FIONREAD, &used) == 0)
		return (size_t)used < size - PIPE_BUF ? size - (size_t)used : PIPE_BUF;
	return ROOM_GUESS;
}

void transport_keep_short(struct transport *transport)
{
	if (transport->output_way == OUTPUT_SOCKET) {
#ifdef TCP_NOTSENT_LOWAT
		(void)setsockopt(transport->output, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
			&(int){SHORT_OUTPUT}, sizeof(int));
#endif
		return;
	}
#ifdef F_SETPIPE_SZ
	if (transport->child.pid != 0 && transport->pipe_size > SHORT_OUTPUT &&
		fcntl(transport->output, F_SETPIPE_SZ, SHORT_OUTPUT) >= 0)
		transport->pipe_size = SHORT_OUTPUT;
#endif
}

void transport_widen(struct transport *transport, size_t bytes)
{
#ifdef F_SETPIPE_SZ
	size_t wanted = min_size(bytes, transport->pipe_size_max);
	size_t size;

	if (transport->pipe_size == 0 || transport->pipe_size >= wanted)
		return;
	measure_pipe(transport); /* the reader may have widened it */
	for (size = transport->pipe_size; size < wanted;)
		size *= 2;
	if (size == transport->pipe_size || fcntl(transport->output, F_SETPIPE_SZ, (int)size) >= 0)
		transport->pipe_size = size;
	else /* trying once was enough */
		transport->pipe_size_max = transport->pipe_size;
#else
	(void)transport;
	(void)bytes;
#endif
}

void transport_close_input(struct transport *transport)
{
	if (transport->input >= 0)
		close(transport->input);
	transport->input = -1;
}

void transport_close_output(struct transport *transport)
{
	if (transport->output >= 0)
		close(transport->output);
	transport->output = -1;
}
